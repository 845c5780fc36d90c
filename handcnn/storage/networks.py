"""Save and load networks: the architecture as JSON, the parameters as plain arrays.

A file can come from anywhere, so loading checks it fully before it builds a network. The loaded
network predicts the same as the saved one, bit for bit if the saved parameters were C-contiguous.
"""

import os
from collections.abc import Mapping, Sized
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np

from handcnn.errors import HandcnnError
from handcnn.layers import LAYERS, Conv2D, Layer
from handcnn.layers.checks import check_learning_rate
from handcnn.network import Network
from handcnn.storage.archive import Layout, read_archive, reason, write_archive
from handcnn.storage.files import unusable
from handcnn.text import one_line
from handcnn.types import Array, Shape

# A trained network comes with the package; `make reader` makes it, and reader.json says how.
READER = Path(__file__).resolve().parents[1] / "weights" / "reader.npz"
# The limits for one image, less than a second of work. The documented network computes 29,000
# numbers for one image, with 1.8 million multiplications.
MAX_NUMBERS = 10_000_000
MAX_MULTIPLICATIONS = 1_000_000_000
MAX_LAYERS = 1_000
DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float64": np.dtype("<f8")}


def save_network(net: Network, path: str | os.PathLike[str], /, **metadata: object) -> None:
    """Write `net` to `path` (.npz) for `load_network`, completely or not at all.

    Args:
        net: the network; its layers must be layers of handcnn.
        path: the file; no suffix is added to its name.
        metadata: anything else to save with the weights, as JSON values.

    Raises:
        ValueError: a layer is not one of handcnn's, or a name in `metadata` is reserved.
        HandcnnError: `load_network` would refuse a parameter or a learning rate, or the network is
            too large. An existing file is not changed.
        OSError: the file cannot be written.
    """
    architecture = checked_architecture(path, net)
    if taken := {"format", "version", "kind", *architecture} & metadata.keys():
        raise ValueError(
            f"Network.save expects another name for the metadata {min(taken)!r}, "
            "which handcnn uses itself"
        )
    write_archive(path, "weights", net.parameters(), {**architecture, **metadata})


def load_network(path: str | os.PathLike[str] | None = None) -> Network:
    """Return the network that `Network.save` wrote to `path`.

    Without a path, return the trained reader of digits that comes with handcnn.

    Its parameters are finite, but may be so large that its predictions are not finite.

    Raises:
        HandcnnError: the file is missing, damaged or not from handcnn, or its arrays do not fit its
            architecture. The message names the file and the fault.
    """
    return read_weights(READER if path is None else path)[0]


def read_weights(path: str | os.PathLike[str]) -> tuple[Network, dict[str, Any]]:
    """Return the network in a file and the metadata saved with it.

    Raises:
        HandcnnError: as in `load_network`.
    """
    arrays, metadata = read_archive(path, "weights", parameter_layout)
    return build_network(path, metadata, arrays), metadata


# For every file that contains a network, including checkpoints -------------------------------


def checked_architecture(path: str | os.PathLike[str], net: Network) -> dict[str, Any]:
    """Return the architecture of `net` if it can be loaded again; errors name `path`.

    Raises:
        ValueError: a layer is not one of handcnn's.
        HandcnnError: `build_network` would refuse the network.
    """
    if strangers := [layer for layer in net.layers if type(layer) not in LAYERS.values()]:
        raise ValueError(
            f"Network.save expects layers of {', '.join(LAYERS)}, got {strangers[0]}; "
            "save the parameters of other layers with numpy.savez"
        )
    architecture = net.architecture()
    try:
        for config in architecture["layers"]:
            check_learning_rate(config["class"], config.get("learning_rate", 0))
        _check_number(net.layers)
        _check_cost(net)
    except ValueError as error:
        raise HandcnnError(f"{one_line(path)} was not written: {error}") from None
    return architecture


def parameter_layout(metadata: Mapping[str, Any]) -> Layout:
    """Return the shape and dtype of every parameter of an architecture, without building layers."""
    try:
        _check_number(metadata["layers"])
        return {
            f"layer{i}.{name}": (shape, DTYPES[metadata["dtypes"][f"layer{i}.{name}"]])
            for i, config in enumerate(metadata["layers"])
            for name, shape in LAYERS[config["class"]].parameter_shapes(config).items()
        }
    except (KeyError, TypeError) as error:
        raise HandcnnError(f"its architecture is unknown to handcnn ({reason(error)})") from None


def build_network(
    path: str | os.PathLike[str], metadata: Mapping[str, Any], arrays: Mapping[str, Array]
) -> Network:
    """Return the network that `metadata` describes, with `arrays` as its parameters.

    Raises:
        HandcnnError: they do not describe a network, or the network needs too much memory or time
            for one image. The message names the file, `path`.
    """
    try:
        layers = [_build_layer(i, config, arrays) for i, config in enumerate(metadata["layers"])]
        net = Network(layers, _checked_input_shape(metadata["input_shape"]))
        _check_cost(net)
        return net.with_parameters(arrays)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise unusable(path, f"its architecture is not a valid network ({reason(error)})") from None


def _build_layer(i: int, config: Mapping[str, Any], arrays: Mapping[str, Array]) -> Layer:
    arguments = {name: value for name, value in config.items() if name != "class"}
    if forbidden := {"rng", "dtype"} & arguments.keys():  # these are never saved
        raise ValueError(f"{config['class']} has an argument {min(forbidden)!r}")
    layer_class = LAYERS[config["class"]]
    for name in layer_class.parameter_shapes(config):
        arguments["dtype"] = arrays[f"layer{i}.{name}"].dtype
    return layer_class(**arguments)


def _check_number(layers: Sized) -> None:
    if len(layers) > MAX_LAYERS:
        raise HandcnnError(f"it has {len(layers):,} layers, at most {MAX_LAYERS:,} are allowed")


def _checked_input_shape(shape: Any) -> Shape | None:
    if shape is None:
        return None
    if not isinstance(shape, list) or not all(
        type(size) is int and 0 < size < 2**31 for size in shape
    ):
        raise ValueError("its input_shape is not a list of sizes")
    return tuple(shape)


def cost_per_image(net: Network) -> tuple[int, int]:
    """Return how many numbers and multiplications a network with an input_shape needs."""
    shape = net.input_shape
    assert shape is not None
    numbers = multiplications = 0
    for layer, output in zip(net.layers, cast(list[Shape], net.output_shapes()), strict=True):
        numbers += prod(output)
        if isinstance(layer, Conv2D):  # it copies the windows of its input
            C, H, _ = shape
            numbers += C * (H + 2 * layer.padding) * layer.kernel_size * output[2]
        multiplications += layer.multiplications(output)
        shape = output
    return numbers, multiplications


def _check_cost(net: Network) -> None:
    """Refuse a network that needs too much memory or time for one image, however small its file."""
    if net.input_shape is None:
        return
    numbers, multiplications = cost_per_image(net)
    for cost, most, what in (
        (numbers, MAX_NUMBERS, "numbers"),
        (multiplications, MAX_MULTIPLICATIONS, "multiplications"),
    ):
        if cost > most:
            raise ValueError(
                f"it needs {cost:,} {what} for one image, at most {most:,} are allowed"
            )
