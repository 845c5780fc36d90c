"""Networks and runs read back from disk, checked against their architecture before any use.

Two kinds of file, both in the format of `archive`: weights, which is a network to predict with,
and a checkpoint, which is everything that training needs to go on exactly where it stopped.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any

import numpy as np

from handcnn.errors import HandcnnError
from handcnn.layers import LAYERS, Conv2D, Layer
from handcnn.network import Network
from handcnn.storage.archive import Layout, read_archive, write_archive
from handcnn.types import Array, Shape

MOST_NUMBERS = 4_000_000  # that a layer may make of one image; the documented one makes 25,088
HISTORY_COLUMNS = (
    "epoch",
    "learning_rate",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "seconds",
    "images_per_second",
)
DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float64": np.dtype("<f8")}


@dataclass
class Checkpoint:
    """The state of a run after its last finished epoch: all that going on exactly needs.

    Attributes:
        net: the network as that epoch left it.
        best: the parameters, by name, of the epoch that was best on validation.
        rng: the generator that shuffles the next epoch.
        history: a row per finished epoch, a number under each of HISTORY_COLUMNS.
        options: what the run was asked for, plain JSON values.
    """

    net: Network
    best: dict[str, Array]
    rng: np.random.Generator
    history: list[dict[str, float]]
    options: dict[str, Any]


def load_network(path: str | os.PathLike[str]) -> Network:
    """Return the network that `Network.save` wrote to `path`; its predictions are bit-identical.

    Raises:
        HandcnnError: the file is missing, damaged, not of handcnn, or holds other arrays than its
            architecture needs; the message names the file and the fault.
    """
    return read_weights(path)[0]


def read_weights(path: str | os.PathLike[str]) -> tuple[Network, dict[str, Any]]:
    """Return what `load_network` does, and whatever else `Network.save` was given to keep.

    Raises:
        HandcnnError: as `load_network`.
    """
    arrays, metadata = read_archive(path, "weights", _parameter_layout)
    return _build(path, metadata, arrays), metadata


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path`, completely or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    best = {f"best.{name}": array for name, array in checkpoint.best.items()}
    metadata = {
        **checkpoint.net.architecture(),
        "rng": checkpoint.rng.bit_generator.state,
        "history": checkpoint.history,
        "options": checkpoint.options,
    }
    write_archive(path, "checkpoint", checkpoint.net.parameters() | best, metadata)


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Return what `save_checkpoint` wrote.

    Raises:
        HandcnnError: as `load_network`.
    """
    arrays, metadata = read_archive(path, "checkpoint", _checkpoint_layout)
    best = {name: arrays.pop(f"best.{name}") for name in _parameter_layout(metadata)}
    rng = np.random.default_rng()
    try:
        rng.bit_generator.state = metadata["rng"]
        history = [_check_row(row, i) for i, row in enumerate(metadata["history"], start=1)]
        options = dict(metadata["options"])
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise HandcnnError(f"{path} cannot be used: its progress is damaged ({error})") from None
    return Checkpoint(_build(path, metadata, arrays), best, rng, history, options)


def _check_row(row: dict[str, float], epoch: int) -> dict[str, float]:
    if tuple(row) != HISTORY_COLUMNS or row["epoch"] != epoch:
        raise ValueError(f"the history of epoch {epoch} has other columns")
    if not all(isinstance(value, int | float) and isfinite(value) for value in row.values()):
        raise ValueError(f"the history of epoch {epoch} holds something that is no number")
    return row


def _parameter_layout(metadata: dict[str, Any]) -> Layout:
    """Return name, shape and dtype of every parameter of an architecture, making none of them."""
    try:
        return {
            f"layer{i}.{name}": (shape, DTYPES[metadata["dtypes"][f"layer{i}.{name}"]])
            for i, config in enumerate(metadata["layers"])
            for name, shape in LAYERS[config["class"]].parameter_shapes(config).items()
        }
    except (KeyError, TypeError) as error:
        raise HandcnnError(f"its architecture is not one that handcnn knows ({error})") from None


def _checkpoint_layout(metadata: dict[str, Any]) -> Layout:
    layout = _parameter_layout(metadata)
    return {**layout, **{f"best.{name}": entry for name, entry in layout.items()}}


def _build(
    path: str | os.PathLike[str], metadata: dict[str, Any], arrays: Mapping[str, Array]
) -> Network:
    """Return the network that `metadata` describes, with `arrays` as its parameters."""
    try:
        layers = [_build_layer(config) for config in metadata["layers"]]
        net = Network(layers, _check_input_shape(metadata["input_shape"]))
        _check_memory(net)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        message = f"{path} cannot be used: its architecture is no network ({error})"
        raise HandcnnError(message) from None
    return net.with_parameters(arrays)


def _check_memory(net: Network) -> None:
    """Refuse a network that is small on disk but makes arrays of any size of a single image."""
    shape = net.input_shape
    for layer, output_shape in zip(net.layers, net.output_shapes(), strict=True):
        numbers = prod(output_shape or ())
        if isinstance(layer, Conv2D) and shape is not None and output_shape is not None:
            c, h, _ = shape
            windows = c * (h + 2 * layer.padding) * layer.kernel_size * output_shape[2]
            numbers = max(numbers, windows)
        if numbers > MOST_NUMBERS:
            raise ValueError(f"{layer} makes {numbers:,} numbers of one image")
        shape = output_shape


def _check_input_shape(shape: Any) -> Shape | None:
    if shape is None:
        return None
    if not isinstance(shape, list) or not all(
        type(size) is int and 0 < size < 2**31 for size in shape
    ):
        raise ValueError("its input_shape is no list of sizes")
    return tuple(shape)


def _build_layer(config: dict[str, Any]) -> Layer:
    arguments = {name: value for name, value in config.items() if name != "class"}
    if {"rng", "dtype"} & arguments.keys() or not isfinite(arguments.get("learning_rate", 0)):
        raise ValueError(f"the arguments of {config['class']} are damaged")
    return LAYERS[config["class"]](**arguments)
