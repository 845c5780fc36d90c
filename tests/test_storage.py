"""Networks and checkpoints on disk: they are read as written, or refused in one sentence.

Oracles: the arrays before they were written; `numpy.load` and `zipfile`, which read the same files
without handcnn; two files written by handcnn 0.1, in tests/fixtures; and files damaged, forged or
spliced here in known ways. Each of these must be refused with a HandcnnError, in one line that
names the file, without using much memory.
"""

import io
import json
import os
import re
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterable
from math import prod
from pathlib import Path
from typing import Any

import builders
import numpy as np
import pytest
from builders import (
    EXAMPLE_SHAPE,
    EXAMPLES,
    Geometry,
    compare,
    literal_step,
    refused,
    trained,
)
from damaged_files import Damage, damages, fuzzed
from hypothesis import given
from hypothesis import strategies as st

from handcnn import (
    Conv2D,
    HandcnnError,
    HiddenLayer,
    InputLayer,
    MaxPool2D,
    Network,
    OutputLayer,
    load_network,
)
from handcnn.layers import LAYERS, Layer
from handcnn.storage.archive import write_archive
from handcnn.storage.checkpoints import (
    HISTORY_COLUMNS,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from handcnn.storage.networks import read_weights
from handcnn.types import Array

FIXTURES = Path(__file__).parent / "fixtures"
GEOMETRY = Geometry(N=7, H=5, W=6, F=2, s=2, p=1, M=5)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def network(seed: int = 0, dtype: type = np.float32) -> Network:
    return builders.network(GEOMETRY, dtype, seed=seed)


def row(epoch: int, /, **changes: object) -> dict[str, Any]:
    values = (epoch, 0.1 + 0.2, 1 / 3, 0.5, 2e-17, 1.0, 2.25, 999)
    return {**dict(zip(HISTORY_COLUMNS, values, strict=True)), **changes}


def checkpoint(seed: int = 0, epochs: int = 2) -> Checkpoint:
    rng = np.random.default_rng(seed)
    rng.integers(10, size=3, dtype=np.int32)  # leaves half of a 64-bit number in the generator
    return Checkpoint(
        net=network(seed),
        best=network(seed + 100).parameters(),
        rng=rng,
        history=[row(epoch) for epoch in range(1, epochs + 1)],
        options={"epochs": 3, "dataset": "digits", "limit": None},
        steps=rng.random((2 * epochs, 2), np.float32),
    )


def assert_same_network(found: Network, expected: Network) -> None:
    compare(found.parameters(), expected.parameters(), rounding=0)
    assert str(found) == str(expected)
    assert [layer.config() for layer in found.layers] == [x.config() for x in expected.layers]


# --- files are read as written -------------------------------------------------------------------


def test_numpy_alone_reads_the_file_under_the_name_that_was_given(tmp_path: Path) -> None:
    net, path = network(), tmp_path / "weights.of.mine"
    net.save(str(path), epoch=3, note="grüße")
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.of.mine"]
    with np.load(path) as file:  # pickles are not allowed by default
        arrays = dict(file)
    metadata = json.loads(str(arrays.pop("metadata")))
    compare(arrays, net.parameters(), rounding=0)
    assert metadata == read_weights(str(path))[1]
    expected = {"format": "handcnn", "version": 1, "kind": "weights", "epoch": 3, "note": "grüße"}
    assert expected.items() <= metadata.items()
    sizes = {"in_channels": 1, "out_channels": 2, "kernel_size": 3, "stride": 2, "padding": 1}
    assert metadata["layers"][1] == {"class": "Conv2D", **sizes, "learning_rate": 0.01}


def test_numbers_of_numpy_and_no_input_shape(tmp_path: Path) -> None:
    rate: Any = np.float32(0.5)
    net = Network([Conv2D(*np.array([2, 5, 3])), OutputLayer(int(np.prod((2, 3))), 4, rate)])
    net.save(tmp_path / "w.npz", accuracy=np.float32(0.25), epoch=np.int64(3))
    loaded, metadata = read_weights(tmp_path / "w.npz")
    assert_same_network(loaded, net)
    assert loaded.input_shape is None
    assert (metadata["accuracy"], metadata["epoch"]) == (0.25, 3)


@pytest.mark.parametrize("layer", EXAMPLES.values(), ids=EXAMPLES)
def test_every_layer_comes_back(tmp_path: Path, layer: Layer) -> None:
    units = prod(layer.output_shape(EXAMPLE_SHAPE[1:]))
    net = Network([layer, OutputLayer(units, 3)], EXAMPLE_SHAPE[1:])
    net.save(tmp_path / "w.npz")
    assert_same_network(load_network(tmp_path / "w.npz"), net)


def test_as_many_layers_as_are_allowed(tmp_path: Path) -> None:
    Network([*(InputLayer() for _ in range(999)), OutputLayer(4, 3)]).save(tmp_path / "w.npz")
    assert len(load_network(tmp_path / "w.npz").layers) == 1000


@every_dtype
@pytest.mark.parametrize("epochs", [0, 2, 10_000])  # 0: before the first epoch
def test_a_checkpoint_comes_back_whole(tmp_path: Path, dtype: type, epochs: int) -> None:
    """With any finite number; overflow in a product is not the concern of storage."""
    saved = checkpoint(epochs=epochs)
    saved.net = network(dtype=dtype)
    trained(saved.net)[1].weights[:] = -np.finfo(dtype).max
    saved.best = network(100, dtype).parameters()
    saved.net.save(tmp_path / "w.npz")
    save_checkpoint(tmp_path / "c.npz", saved)
    loaded = load_checkpoint(tmp_path / "c.npz")
    for net in (loaded.net, load_network(tmp_path / "w.npz")):
        assert_same_network(net, saved.net)
    compare(loaded.best, saved.best, rounding=0)
    (x, y), best = builders.batch(GEOMETRY), loaded.net.with_parameters(loaded.best)
    with_best = saved.net.with_parameters(saved.best)
    np.testing.assert_array_equal(literal_step(best, x, y), literal_step(with_best, x, y))
    assert_same_network(best, with_best)  # also after training, bit for bit
    assert (loaded.history, loaded.options) == (saved.history, saved.options)  # to the last digit
    np.testing.assert_array_equal(loaded.steps, saved.steps)
    for bits in (np.int32, np.int64):  # the generator continues the same sequence
        expected = saved.rng.integers(2**31 - 1, size=5, dtype=bits)
        np.testing.assert_array_equal(loaded.rng.integers(2**31 - 1, size=5, dtype=bits), expected)


# --- files of handcnn 0.1 ------------------------------------------------------------------------


def network_of_0_1(scale: float) -> Network:
    layers = [Conv2D(1, 2, 3, 2, 1, 0.25), HiddenLayer(8, 3, 0.5), OutputLayer(3, 2, 0.125)]
    for layer in layers:
        for array in layer.parameters().values():
            array[...] = scale * (np.arange(array.size).reshape(array.shape) - array.size // 2) / 16
    return Network([InputLayer(), *layers], (1, 4, 4))


def test_weights_of_handcnn_0_1() -> None:
    net, metadata = read_weights(FIXTURES / "weights-0.1.npz")
    assert_same_network(net, network_of_0_1(scale=1))
    assert {"dataset": "digits", "epoch": 2, "val_accuracy": 0.75}.items() <= metadata.items()
    x = np.arange(32, dtype=np.float32).reshape(2, 1, 4, 4) / 32
    predicted_by_0_1 = [[0.4266519, 0.5733481], [0.32170135, 0.67829865]]
    np.testing.assert_allclose(net.predict_proba(x), predicted_by_0_1, rtol=1e-6)


def test_a_checkpoint_of_handcnn_0_1() -> None:
    state = load_checkpoint(FIXTURES / "checkpoint-0.1.npz")
    assert_same_network(state.net, network_of_0_1(scale=1))
    compare(state.best, network_of_0_1(scale=2).parameters(), rounding=0)
    values = (0.25, 1 / 3, 0.5, 0.125, 0.75, 1.5, 2000.0)
    assert [tuple(row.values()) for row in state.history] == [(1, *values), (2, *values)]
    assert state.options == {"epochs": 3, "dataset": "digits", "limit": None}
    assert state.steps.shape == (0, 2)
    drawn = state.rng.integers(2**31 - 1, size=3, dtype=np.int32)
    np.testing.assert_array_equal(drawn, [579362555, 661058651, 87989972])  # as 0.1 drew next


# --- refused when writing ------------------------------------------------------------------------


class OwnLayer(OutputLayer):
    pass


def changed(i: int, weight: float = 0.0, rate: float = 0.0) -> Network:
    net = network()
    trained(net)[i].weights.flat[-1] = weight
    trained(net)[i].learning_rate = rate
    return net


NOT_WRITTEN = "{path} was not written: "
NOT_FINITE = "the array 'layer2.weights' holds values that are not finite (NaN or infinity)"
NEGATIVE = "HiddenLayer expects learning_rate to be a finite number of at least 0, got {}"
TAKEN = "Network.save expects another name for the metadata '{}', which handcnn uses itself"
UNWRITABLE: dict[str, list[tuple[Network, dict[str, Any]]]] = {
    NOT_WRITTEN + NOT_FINITE: [(changed(1, weight=x), {}) for x in (np.nan, np.inf, -np.inf)],
    NOT_WRITTEN + "its metadata is too long": [(network(), {"note": "x" * 5_000_000})],
    NOT_WRITTEN + NEGATIVE.format("-1e+308"): [(changed(1, rate=-1e308), {})],
    NOT_WRITTEN + NEGATIVE.format("nan"): [(changed(1, rate=np.nan), {})],
    NOT_WRITTEN + "it has 1,001 layers, at most 1,000 are allowed": [
        (Network([*(InputLayer() for _ in range(1000)), OutputLayer(4, 3)]), {})
    ],
    "range(0, 3) cannot be saved as JSON": [(network(), {"when": range(3)})],
    f"Network.save expects layers of {', '.join(LAYERS)}, "
    "got OwnLayer(4 -> 3); save the parameters of other layers with numpy.savez": [
        (Network([OwnLayer(4, 3)]), {})
    ],
    **{
        TAKEN.format(name): [(network(), {name: "mine"})]
        for name in ("kind", "format", "version", "layers", "dtypes", "input_shape")
    },
}


@pytest.mark.parametrize("message", UNWRITABLE)
def test_what_cannot_be_read_again_never_replaces_a_good_file(tmp_path: Path, message: str) -> None:
    path = tmp_path / "w.npz"
    network().save(path)
    former = path.read_bytes()
    for net, metadata in UNWRITABLE[message]:
        with pytest.raises((ValueError, TypeError)) as caught:
            net.save(path, **metadata)
        assert str(caught.value) == message.format(path=path)
        assert isinstance(caught.value, HandcnnError) == (NOT_WRITTEN in message)
        assert path.read_bytes() == former
        assert [entry.name for entry in tmp_path.iterdir()] == ["w.npz"]


# --- forging files -------------------------------------------------------------------------------

Forge = Callable[[bytes], bytes]
KERNELS = "layer1.weights.npy"


def unzipped(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def npy(array: Any, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array), allow_pickle=allow_pickle)
    return file.getvalue()


def header(text: str, version: tuple[int, int] = (1, 0)) -> bytes:
    """Return an .npy header with this text."""
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H", len(text)) + text.encode("latin-1")


def plain(descr: str, shape: str) -> bytes:
    return header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}")


def with_entry(name: str, content: bytes) -> Forge:
    return lambda valid: zipped({**unzipped(valid), name: content})


def with_text(content: bytes | str) -> Forge:
    """Replace the metadata by bytes or by a text."""
    return with_entry("metadata.npy", content if isinstance(content, bytes) else npy(content))


def kernels(content: Any) -> Forge:
    """Replace the array of layer1.weights by bytes or by another array."""
    return with_entry(KERNELS, content if isinstance(content, bytes) else npy(content))


def without_entry(name: str) -> Forge:
    return lambda valid: zipped({k: v for k, v in unzipped(valid).items() if k != name})


def with_metadata(**changes: Any) -> Forge:
    """Change the metadata: `layer1=dict(...)` the arguments of that layer, `...` drops an entry."""

    def forge(valid: bytes) -> bytes:
        entries = unzipped(valid)
        metadata = json.loads(str(np.load(io.BytesIO(entries["metadata.npy"]))))
        for name, value in changes.items():
            if re.fullmatch("layer[0-9]", name):
                metadata["layers"][int(name[5:])] |= value
            elif value is ...:
                del metadata[name]
            else:
                metadata[name] = value
        return zipped({**entries, "metadata.npy": npy(json.dumps(metadata))})

    return forge


def patched(offset: int, form: str, value: int) -> Forge:
    """Change a field of the first entry, the metadata, in the zip file's central directory."""

    def forge(valid: bytes) -> bytes:
        content = bytearray(valid)
        struct.pack_into(form, content, content.index(b"PK\x01\x02") + offset, value)
        return bytes(content)

    return forge


def shifted(valid: bytes) -> bytes:
    """Return the file with a central directory that claims a wrong, later position."""
    content, end = bytearray(valid), valid.rindex(b"PK\x05\x06")
    struct.pack_into("<I", content, end + 16, end)
    return bytes(content)


def doubled(valid: bytes) -> bytes:
    """Return the file with an entry twice; the name is changed after zipping."""
    entries = unzipped(valid)
    content = zipped({**entries, "layer9.weights.npy": entries[KERNELS]})
    return content.replace(b"layer9.weights.npy", KERNELS.encode())


def flipped(valid: bytes) -> bytes:
    """Return the file with one bit of one weight changed."""
    content = bytearray(valid)
    content[valid.index(unzipped(valid)[KERNELS]) + 130] ^= 1
    return bytes(content)


class Boom:
    """Code that unpickling would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('the pickle was run')",))


ZEROS = np.zeros((2, 1, 3, 3), np.float32)
PICKLE = np.array([Boom()], dtype=object)
BROKEN = "is not a complete .npz file: "
CANNOT = "cannot be used: "
NOT_KNOWN = CANNOT + "its architecture is unknown to handcnn "
NO_NETWORK = CANNOT + "its architecture is not a valid network "
NO_SIZE = NO_NETWORK + "(Conv2D expects stride to be a whole number of at least 1, got {})"
NO_RATE = NO_NETWORK + "(Conv2D expects learning_rate to be a finite number of at least 0, got {})"
RATES: list[object] = [np.nan, np.inf, -1e308, -0.1, True, "fast", None, []]
PROGRESS = CANNOT + "its progress is damaged "
SHAPE = CANNOT + "the array 'layer1.weights' has shape {}, but (2, 1, 3, 3) of float32 is needed"
LENGTH = CANNOT + "the array 'layer1.weights' has {} bytes, but 72 are needed"

# The message after the file's path, and the changes to a valid file that cause it.
Damages = dict[str, list[Forge]]
DAMAGES: Damages = {
    BROKEN + "File is not a zip file": [
        lambda valid: b"",
        lambda valid: b"no weights\n" * 99,
        lambda valid: npy(PICKLE, allow_pickle=True),
        lambda valid: npy(np.zeros(9)),
        lambda valid: valid[: len(valid) // 2],
        lambda valid: valid[:-1],
    ],
    BROKEN + "Bad CRC-32 for file 'layer1.weights.npy'": [flipped],
    BROKEN + "Truncated file header": [patched(42, "<I", 2**31)],  # an entry beyond the end
    BROKEN + "[Errno 22] Invalid argument": [shifted],  # an entry before the start
    # another file
    CANNOT + "it was not written by handcnn (there is no entry 'metadata')": [
        lambda valid: zipped({}),
        lambda valid: zipped({"w.npy": npy(np.zeros(9))}),
    ],
    CANNOT + "it was not written by handcnn": [
        with_text('{"format": "theirs"}'),
        with_text('["handcnn"]'),
    ],
    CANNOT + "it has format version 2, this handcnn reads 1": [with_metadata(version=2)],
    CANNOT + "it has format version None, this handcnn reads 1": [with_metadata(version=...)],
    CANNOT + "it holds 'mnist', but '{kind}' is needed": [with_metadata(kind="mnist")],
    # entries
    CANNOT + "its entry 'metadata.npy' is compressed or encrypted": [
        lambda valid: zipped(unzipped(valid), zipfile.ZIP_DEFLATED),
        patched(8, "<H", 1),  # encrypted
    ],
    CANNOT + "its entries claim more bytes than the file has": [patched(24, "<I", 2**31)],
    CANNOT + "it holds two entries of the same name": [doubled],
    CANNOT + "the array 'layer2.bias' is missing": [without_entry("layer2.bias.npy")],
    **{
        CANNOT + f"it has an unexpected entry '{name}'": [with_entry(name, npy(0))]
        for name in ("layer4.bias.npy", "layer1.weights", "metadata", "../../evil.npy")
    },
    # arrays
    SHAPE.format("(2, 1, 3, 2) of float32"): [kernels(ZEROS[..., :2])],
    SHAPE.format("(2, 1, 3, 3) of float64"): [kernels(ZEROS.astype(float))],
    SHAPE.format("(2, 1, 3, 3) of >f4"): [kernels(ZEROS.astype(">f4"))],
    SHAPE.format("(2, 1, 3, 3) of int32"): [kernels(ZEROS.astype(np.int32))],
    SHAPE.format("(1,) of object"): [kernels(npy(PICKLE, True))],
    SHAPE.format("(2, 1, 3, 3) of object"): [kernels(npy(np.full(ZEROS.shape, PICKLE[0]), True))],
    SHAPE.format("(2,) of |S5"): [kernels(plain("'a5'", "(2,)"))],  # a deprecated dtype
    SHAPE.format(f"({2**50},) of float32"): [kernels(plain("'<f4'", f"({2**50},)"))],
    LENGTH.format(68): [kernels(npy(ZEROS)[:-4])],
    LENGTH.format(76): [kernels(npy(ZEROS) + b"more")],
    LENGTH.format(0): [kernels(plain("'<f4'", "(2L, 1L, 3L, 3L)"))],  # a header of Python 2
    CANNOT + "the array 'layer1.weights' holds values that are not finite (NaN or infinity)": [
        kernels(ZEROS + np.float32(np.nan)),
        kernels(ZEROS - np.float32(np.inf)),
    ],
    CANNOT + "the header of the array 'layer1.weights' is damaged": [
        kernels(b""),
        kernels(header("{}", (3, 0))),
        # NumPy parses headers as Python
        *(kernels(header(text)) for text in ("(" * 9000, "-" * 9000 + "1", " " * 20000)),
        kernels(header("__import__('os').abort()")),
        kernels(header("{'descr': '''")),
        kernels(header("  \n    a\n  b")),
        kernels(plain("()", "(2,)")),
        kernels(plain("',,,'", "(2,)")),
    ],
    # metadata
    CANNOT + "its metadata is not a JSON text": [
        with_text(npy(np.zeros(3))),
        with_text("{'format': 'handcnn'}"),
        with_text("[" * 100_000),
        with_text(plain(f"'<U{2**28}'", "()")),  # claims a gigabyte
        # not characters; Python makes ill-formed strings of some
        with_text(plain("'<U1'", "()") + b"\xff\xff\xff\x7f"),
        with_text(plain("'<U4'", "()") + '"🙂'.encode("utf-32-le") + b'\0\0\x11\0"\0\0\0'),
    ],
    # architecture
    NOT_KNOWN + "(there is no 'layers')": [with_metadata(layers=...)],
    CANNOT + "it has 1,001 layers, at most 1,000 are allowed": [
        with_metadata(layers=[{"class": "InputLayer"}] * 1001)
    ],
    NOT_KNOWN + "(there is no 'os.system')": [with_metadata(layer1={"class": "os.system"})],
    NOT_KNOWN + "(there is no 'object')": [with_metadata(dtypes={"layer1.weights": "object"})],
    NOT_KNOWN + "(there is no 'layer0.weights')": [
        with_metadata(layer0={"class": "OutputLayer", "input_size": 30, "output_size": 30})
    ],
    CANNOT + "the array 'layer2.weights' has shape (18, 5) of float32, "
    "but (1000000000000, 5) of float32 is needed": [with_metadata(layer2={"input_size": 10**12})],
    NO_SIZE.format(0): [with_metadata(layer1={"stride": 0})],
    NO_SIZE.format(True): [with_metadata(layer1={"stride": True})],
    **{NO_RATE.format(repr(x)): [with_metadata(layer1={"learning_rate": x})] for x in RATES},
    NO_NETWORK + "(int too large to convert to float)": [
        with_metadata(layer1={"learning_rate": 10**400})
    ],
    NO_NETWORK + "(Conv2D has an argument 'rng')": [with_metadata(layer1={"rng": "x"})],
    NO_NETWORK + "(Conv2D has an argument 'dtype')": [  # of a gigabyte
        with_metadata(layer1={"dtype": "U100000000"})
    ],
    NO_NETWORK + "(Conv2D.__init__() got an unexpected keyword argument 'colour')": [
        with_metadata(layer1={"colour": 1})
    ],
    NO_NETWORK + "(HiddenLayer(18 -> 5) expects x of shape (N, 18) or (N, C, H, W) with "
    "C*H*W = 18, got (N, 2, 5, 5); "
    "set input_size to the size of one input, or change the input)": [
        with_metadata(input_shape=[1, 9, 9])
    ],
    NO_NETWORK + "(there is no 'input_shape')": [with_metadata(input_shape=...)],
    NO_NETWORK + "(its input_shape is not a list of sizes)": [
        with_metadata(input_shape=shape)
        for shape in ("abc", [1, 5.0, 6.0], [True, 5, 6], [1, 5, -6])
    ],
}

STATE: dict[str, Any] = dict(checkpoint().rng.bit_generator.state)
STUCK = 0xFFFFFFFFFFFFFFFF << 64  # with the increment that makes PCG64 return to it at once
STUCK_INCREMENT = STUCK * (1 - 0x2360ED051FC65DA44385DF649FCCF645) % 2**128


def with_state(inc: object = 1, state: object = 1, **changes: object) -> Forge:
    return with_metadata(rng={**STATE, "state": {"state": state, "inc": inc}, **changes})


def with_row(**changes: object) -> Forge:
    return with_metadata(history=[row(1, **changes)])


CHECKPOINT_DAMAGES: Damages = {
    CANNOT + "the array 'best.layer3.weights' is missing": [
        without_entry("best.layer3.weights.npy")
    ],
    CANNOT + "it was trained with --average, which handcnn no longer has; start a new run": [
        with_metadata(has_average=True)
    ],
    CANNOT + "it has an unexpected entry 'average.layer1.bias.npy'": [
        with_entry("average.layer1.bias.npy", npy(np.zeros((2, 1), np.float32)))
    ],
    PROGRESS + "(there is no 'rng')": [with_metadata(rng=...)],
    PROGRESS + "(there is no 'state')": [with_metadata(rng={"bit_generator": "PCG64"})],
    PROGRESS + "(state must be for a PCG64 RNG)": [with_metadata(rng={"bit_generator": "MT19937"})],
    PROGRESS + "(state must be a dict)": [with_metadata(rng="PCG64")],
    PROGRESS + "(the state of its random generator is not one of PCG64)": [
        with_state(inc=STUCK_INCREMENT, state=STUCK),
        with_state(inc=2),
        with_state(inc=True),
        with_state(state=True),
        with_state(state=1.5),
        with_state(has_uint32=True),
        with_state(uinteger=1.5),
        with_state(more=0),
    ],
    PROGRESS + "(there is no 'history')": [with_metadata(history=...)],
    PROGRESS + "(there is no 'options')": [with_metadata(options=...)],
    PROGRESS + "(its history or its options are missing)": [
        with_metadata(history=""),
        with_metadata(options=7),
        with_metadata(options=[["epochs", 3]]),
    ],
    PROGRESS + "(the history of epoch 1 has the wrong columns)": [
        with_metadata(history=[bad]) for bad in (1, list(HISTORY_COLUMNS), {"epoch": 1})
    ],
    PROGRESS + "(the history of epoch 1 holds something that is not a number)": [
        with_row(loss=np.nan),
        with_row(loss="low"),
        with_row(epoch=True),
        with_row(loss=True),
    ],
    CANNOT + "the number of its steps is not a whole number": [
        with_metadata(steps=bad) for bad in (-1, 2.0, "2", True, None)
    ],
    CANNOT + "the array 'steps' has shape (4, 2) of float32, but (5, 2) of float32 is needed": [
        with_metadata(steps=5)
    ],
    CANNOT + "it has an unexpected entry 'steps.npy'": [with_metadata(steps=...)],
    PROGRESS + "(the history has epoch 1.0 in place of epoch 1)": [with_row(epoch=1.0)],
    PROGRESS + "(the history has epoch 3 in place of epoch 2)": [
        with_metadata(history=[row(1), row(3)])
    ],
}

LOADERS: dict[str, Callable[[Path], Network | Checkpoint]] = {
    "weights": load_network,
    "checkpoint": load_checkpoint,
}
every_kind = pytest.mark.parametrize("kind", LOADERS)
CASES = [
    (kind, fault, forges)
    for kinds, damages in ((LOADERS, DAMAGES), (["checkpoint"], CHECKPOINT_DAMAGES))
    for kind in kinds
    for fault, forges in damages.items()
]
# The program ignores NumPy's warnings about strange headers, and so do these tests.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    """Return two valid files of each kind, as bytes."""
    folder = tmp_path_factory.mktemp("valid")
    files: dict[str, list[bytes]] = {"weights": [], "checkpoint": []}
    for seed in (0, 1):
        network(seed).save(folder / "weights")
        save_checkpoint(folder / "checkpoint", checkpoint(seed))
        for kind, contents in files.items():
            contents.append((folder / kind).read_bytes())
    return files


def refusal(kind: str, path: Path) -> str:
    return refused(lambda: LOADERS[kind](path), HandcnnError)


@pytest.mark.parametrize(
    ("kind", "fault", "forges"), CASES, ids=[f"{kind}: {fault}" for kind, fault, _ in CASES]
)
def test_a_damaged_file_is_refused_in_one_sentence(
    tmp_path: Path, valid: dict[str, list[bytes]], kind: str, fault: str, forges: Iterable[Forge]
) -> None:
    path = tmp_path / "damaged.npz"
    for forge in forges:
        path.write_bytes(forge(valid[kind][0]))
        assert refusal(kind, path) == f"{path} {fault.replace('{kind}', kind)}"


@every_kind
@pytest.mark.parametrize("header_of_kernels", ["(2, 1, 3, 3)", "(2L, 1L, 3L, 3L)"])  # of Python 2
@pytest.mark.parametrize("forge", [with_metadata(), without_entry("nothing")])
def test_forging_without_damage_leaves_a_valid_file(
    tmp_path: Path, valid: dict[str, list[bytes]], kind: str, header_of_kernels: str, forge: Forge
) -> None:
    """Otherwise the test above would pass for any forgery."""
    ones = kernels(plain("'<f4'", header_of_kernels) + (ZEROS + 1).tobytes())
    found = load_or_refuse(kind, tmp_path / "a.npz", forge(ones(valid[kind][0])))
    assert found is not None
    np.testing.assert_array_equal(found["layer1.weights"], ZEROS + 1)


@every_kind
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    missing, long, null = tmp_path / "none.npz", Path("x" * 5000), Path("a\0b")
    assert refusal(kind, missing) == f"cannot read {missing}: No such file or directory"
    assert refusal(kind, tmp_path) == f"{tmp_path} is not a file"
    assert refusal(kind, Path(os.devnull)) == f"{os.devnull} is not a file"
    shown = "x" * 147 + " ... " + "x" * 147
    assert refusal(kind, long) == f"cannot read {shown}: File name too long"
    said = refusal(kind, null)  # Python's words differ between its versions
    assert said.startswith(r"cannot read a\x00b: ")
    assert "embedded null" in said


RED = "\x1b[31m\n"


@every_kind
@pytest.mark.parametrize(
    "forge",
    [
        with_metadata(layer1={"stride": "x" * 1_000_000}),
        with_metadata(layer1={RED: 1}),
        with_metadata(layer1={"class": RED * 1000}),
        with_metadata(kind=RED * 100_000),
        with_metadata(dtypes={"layer1.weights": [RED]}),
        with_entry(RED * 10_000, b""),
        with_text(RED),
    ],
)
def test_text_from_a_file_reaches_nobody_raw(
    tmp_path: Path, valid: dict[str, list[bytes]], kind: str, forge: Forge
) -> None:
    path = tmp_path / f"a file{RED}.npz"
    path.write_bytes(forge(valid[kind][0]))
    message = refusal(kind, path)
    assert message.startswith(rf"{tmp_path}/a file\x1b[31m\n.npz cannot be used: ")
    assert message.isprintable()
    assert len(message) < len(str(path)) + 400


# --- random damage -------------------------------------------------------------------------------

OTHER_VALUES = ["[]", "{}", '""', "true", "1.5"]


@st.composite
def retypings(draw: st.DrawFn) -> Damage:
    """Draw a way to replace a number, name or bracket of the metadata by another JSON value."""
    place = draw(st.floats(0, 1, exclude_max=True))
    new = draw(st.sampled_from([*("null", "-1", "0", "1e999", "NaN", "9" * 30), *OTHER_VALUES]))

    def retype(content: bytes) -> bytes:
        text = str(np.load(io.BytesIO(content)))
        tokens = [*re.finditer(r'"[^"]*"|[\w.+-]+|[][{}:,]', text)]
        token = tokens[int(place * len(tokens))]
        return npy(text[: token.start()] + new + text[token.end() :])

    return retype


def load_or_refuse(kind: str, path: Path, content: bytes) -> dict[str, Array] | None:
    """Return the arrays in a file of `content`, or None if it is properly refused."""
    path.write_bytes(content)
    try:
        loaded = LOADERS[kind](path)
    except HandcnnError as error:
        message = str(error)
        assert message.isprintable()  # so it is one line
        assert str(path) in message
        return None
    if isinstance(loaded, Network):
        return loaded.parameters()
    return loaded.net.parameters() | {f"best.{name}": array for name, array in loaded.best.items()}


@pytest.fixture(scope="module")
def intact(
    valid: dict[str, list[bytes]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[dict[str, Array]]]:
    """Return the arrays in each of the valid files."""
    path = tmp_path_factory.mktemp("intact") / "a.npz"
    loaded = {
        kind: [load_or_refuse(kind, path, content) for content in files]
        for kind, files in valid.items()
    }
    return {kind: [arrays for arrays in found if arrays] for kind, found in loaded.items()}


@every_kind
@fuzzed()
@given(data=st.data())
def test_a_damaged_file_is_refused_or_loads_what_was_saved(
    tmp_path: Path,
    valid: dict[str, list[bytes]],
    intact: dict[str, list[dict[str, Array]]],
    kind: str,
    data: st.DataObject,
) -> None:
    """If it loads, it equals one of the two files: no mixture and no changed number."""
    first, second = valid[kind]
    assert len(intact[kind]) == 2
    content = data.draw(damages(second))(first)
    loaded = load_or_refuse(kind, tmp_path / "a.npz", content)
    assert loaded is not None or content != first
    assert loaded is None or any(
        all(np.array_equal(loaded[name], original[name]) for name in original)
        for original in intact[kind]
    )


@every_kind
@fuzzed()
@given(data=st.data())
def test_an_entry_forged_with_a_right_checksum_is_refused_or_loads_what_its_architecture_says(
    tmp_path: Path,
    valid: dict[str, list[bytes]],
    intact: dict[str, list[dict[str, Array]]],
    kind: str,
    data: st.DataObject,
) -> None:
    """The damage gets past the checksums to the parsers. Weights may have other values.

    There must be no other exception, no second line, no wrong shape and no NaN.
    """
    entries, others = (unzipped(file) for file in valid[kind])
    # metadata half of the time; every entry begins with its header
    name = data.draw(st.just("metadata.npy") | st.sampled_from(sorted(entries)))
    damage = (
        damages(others[name]) | retypings() if name == "metadata.npy" else damages(others[name])
    )
    content = zipped({**entries, name: data.draw(damage)(entries[name])})
    loaded = load_or_refuse(kind, tmp_path / "a.npz", content)
    if loaded is not None:
        shapes = {name: (a.shape, a.dtype) for name, a in intact[kind][0].items()}
        assert {name: (a.shape, a.dtype) for name, a in loaded.items()} == shapes
        assert all(np.isfinite(array).all() for array in loaded.values())


# --- memory, and the cost of one image -----------------------------------------------------------


def megabytes(action: Callable[[], object]) -> float:
    """Return the peak memory of an action."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def test_no_bomb_takes_memory(tmp_path: Path, valid: dict[str, list[bytes]]) -> None:
    """Files that claim, or inflate to, much more than their size."""
    weights, path = valid["weights"][0], tmp_path / "bomb"
    large = {"input_size": 4096, "output_size": 4096}  # 67 MB of float32
    zeros = npy(np.zeros(tuple(large.values()), np.float32))
    claims = unzipped(with_metadata(layer2=large)(weights))
    text = plain(f"'<U{2**24}'", "()") + bytes(2**26)
    for bomb in (
        zipped({**claims, "layer2.weights.npy": zeros}, zipfile.ZIP_DEFLATED),
        zipped({**claims, "layer2.weights.npy": zeros[:9999]}),
        zipped({**unzipped(weights), "metadata.npy": text}, zipfile.ZIP_DEFLATED),
        kernels(plain("'<f4'", f"({2**50},)"))(weights),
        with_metadata(layer1={"padding": 10**7, "stride": 10**7})(weights),
    ):
        path.write_bytes(bomb)
        assert megabytes(lambda: refusal("weights", path)) < 5


def test_too_little_memory_is_not_taken_for_damage(tmp_path: Path) -> None:
    """Regression: an intact file was called damaged, and the data cache was quarantined."""
    Network([HiddenLayer(4096, 4096), OutputLayer(4096, 2)]).save(tmp_path / "w.npz")
    program = """
import resource, sys
from handcnn import load_network
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 2**25, -1))  # the weights are 2**26 bytes
try:
    load_network(sys.argv[1])
except MemoryError:
    print("out of memory")
"""
    command = [sys.executable, "-c", program, str(tmp_path / "w.npz")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("out of memory\n", "")


def forged(path: Path, layers: list[Layer]) -> Path:
    """Write a network to `path`, even if it is too large for `Network.save`."""
    net = Network(layers, (1, 28, 28))
    write_archive(path, "weights", net.parameters(), net.architecture())
    return path


def thin(count: int) -> list[Layer]:
    """Return layers of ten parameters each, for images of 628 x 628."""
    return [Conv2D(1, 1, 3, padding=301), *(Conv2D(1, 1, 3, padding=1) for _ in range(count - 1))]


def wide(count: int) -> list[Layer]:
    """Return layers of 64 channels, for images of 100 x 100."""
    first = Conv2D(1, 64, 3, padding=37)
    return [first, *(Conv2D(64, 64, 3, padding=1) for _ in range(count - 1))]


# 400 * (628 * 628 + 630 * 3 * 628); 60 * 2028 * 2028 + 2028 * 2028 + 60 * 2028 + 1;
# 100 * 100 * (64 * (9 + 1) + 3 * 64 * (64 * 9 + 1))
TOO_COSTLY: dict[str, list[Layer]] = {
    "it needs 632,521,600 numbers for one image, at most 10,000,000 are allowed": thin(400),
    "it needs 251,001,505 numbers for one image, at most 10,000,000 are allowed": [
        Conv2D(1, 60, 1, padding=1000),
        Conv2D(60, 1, 1, stride=3000),
    ],
    "it needs 1,114,240,000 multiplications for one image, at most 1,000,000,000 are allowed": wide(
        4
    ),
    # 2 * 1028 * 1028 + 400 * 400 * 629 * 629
    "it needs 63,304,673,568 multiplications for one image, at most 1,000,000,000 are allowed": [
        Conv2D(1, 1, 1, padding=500),
        MaxPool2D(400, stride=1),
    ],
}


@pytest.mark.parametrize(
    ("fault", "layers"), TOO_COSTLY.items(), ids=["deep", "padded", "wide", "pooled"]
)
def test_a_small_file_cannot_ask_for_memory_or_time_without_end(
    tmp_path: Path, fault: str, layers: list[Layer]
) -> None:
    """Padding adds no parameters, but it can make images arbitrarily large."""
    path = forged(tmp_path / "a.npz", layers)
    assert path.stat().st_size < 600_000
    assert refusal("weights", path) == f"{path} {NO_NETWORK}({fault})"
    message = refused(lambda: Network(layers, (1, 28, 28)).save(path), HandcnnError)
    assert message == f"{path} was not written: {fault}"


@pytest.mark.parametrize("layers", [thin(6), wide(3)], ids=["thin", "wide"])
def test_the_most_costly_networks_that_are_loaded(tmp_path: Path, layers: list[Layer]) -> None:
    """One image needs at most 8 bytes for each of the allowed numbers."""
    net = load_network(forged(tmp_path / "a.npz", layers))
    assert megabytes(lambda: net.predict(np.ones((1, 1, 28, 28), np.float32))) < 80
