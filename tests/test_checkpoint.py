"""Weights and checkpoints on disk: what is read is what was written, or a sentence says why not.

Oracles: the arrays before they were written; `numpy.load` and `zipfile`, which read the same files
without handcnn; and files damaged, forged or spliced here in known ways, each of which has to be
refused with HandcnnError, in one line that names the file, at no cost in memory.
"""

import io
import json
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handcnn import (
    Conv2D,
    HandcnnError,
    HiddenLayer,
    InputLayer,
    Network,
    OutputLayer,
    load_network,
    loss_gradient,
)
from handcnn.storage.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from handcnn.storage.runs import HISTORY_COLUMNS

Array = np.ndarray


def network(seed: int = 0, dtype: type = np.float32) -> Network:
    rng = np.random.default_rng(seed)
    layers = [
        InputLayer(),
        Conv2D(1, 2, 3, 2, 1, 0.25, rng=rng, dtype=dtype),
        HiddenLayer(2 * 3 * 3, 5, rng=rng, dtype=dtype),
        OutputLayer(5, 3, rng=rng, dtype=dtype),
    ]
    return Network(layers, (1, 5, 6))


def pictures(n: int = 7) -> Array:
    return np.random.default_rng(9).random((n, 1, 5, 6), np.float32)


def row(epoch: int) -> dict[str, float]:
    values = (epoch, 0.1 + 0.2, 1 / 3, 0.5, 2e-17, 1.0, 2.25, 999)
    return dict(zip(HISTORY_COLUMNS, values, strict=True))


def checkpoint(seed: int = 0, epochs: int = 2) -> Checkpoint:
    rng = np.random.default_rng(seed)
    rng.integers(10, size=3, dtype=np.int32)  # half of a 64-bit number stays in the generator
    return Checkpoint(
        net=network(seed),
        best=network(seed + 100).parameters(),
        rng=rng,
        history=[row(epoch) for epoch in range(1, epochs + 1)],
        options={"epochs": 3, "dataset": "digits", "limit": None},
    )


def assert_same_arrays(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


# --- what was written is what is read ------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predictions_are_bit_identical(tmp_path: Path, dtype: type) -> None:
    net = network(dtype=dtype)
    net.save(tmp_path / "w.npz")
    loaded = load_network(tmp_path / "w.npz")
    np.testing.assert_array_equal(loaded.predict_proba(pictures()), net.predict_proba(pictures()))
    assert_same_arrays(loaded.parameters(), net.parameters())
    assert str(loaded) == str(net)
    assert [layer.config() for layer in loaded.layers] == [layer.config() for layer in net.layers]


def test_a_loaded_network_trains_on_in_the_same_way(tmp_path: Path) -> None:
    net, y = network(), np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2, 0]]
    net.layers[2].learning_rate = 0.125
    net.save(tmp_path / "w.npz")
    loaded = load_network(tmp_path / "w.npz")
    for trained in (net, loaded):
        trained.backward(loss_gradient(trained.forward(pictures()), y))
        trained.update_params()
    assert_same_arrays(loaded.parameters(), net.parameters())


def test_a_network_without_an_input_shape(tmp_path: Path) -> None:
    Network([OutputLayer(4, 3)]).save(tmp_path / "w.npz")
    assert load_network(tmp_path / "w.npz").input_shape is None


def test_numpy_alone_reads_the_file(tmp_path: Path) -> None:
    net = network()
    net.save(tmp_path / "w.npz", epoch=3, note="grüße")
    with np.load(tmp_path / "w.npz") as file:  # pickles are not allowed by default
        arrays = dict(file)
    metadata = json.loads(str(arrays.pop("metadata")))
    assert_same_arrays(arrays, net.parameters())
    assert metadata["epoch"] == 3
    assert metadata["note"] == "grüße"
    assert (metadata["format"], metadata["version"], metadata["kind"]) == ("handcnn", 1, "weights")
    assert metadata["layers"][1] == {
        "class": "Conv2D",
        "in_channels": 1,
        "out_channels": 2,
        "kernel_size": 3,
        "stride": 2,
        "padding": 1,
        "learning_rate": 0.25,
    }


def test_the_name_is_taken_as_it_is(tmp_path: Path) -> None:
    network().save(tmp_path / "weights.of.mine")
    assert [path.name for path in tmp_path.iterdir()] == ["weights.of.mine"]
    load_network(str(tmp_path / "weights.of.mine"))


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        network().save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_checkpoint_comes_back_whole(tmp_path: Path) -> None:
    saved = checkpoint()
    save_checkpoint(tmp_path / "c.npz", saved)
    loaded = load_checkpoint(tmp_path / "c.npz")
    assert_same_arrays(loaded.net.parameters(), saved.net.parameters())
    assert_same_arrays(loaded.best, saved.best)
    assert (loaded.history, loaded.options) == (saved.history, saved.options)
    assert loaded.history[0]["learning_rate"] == 0.1 + 0.2  # to the last digit
    for bits in (np.int32, np.int64):  # the generator goes on as if nothing had happened
        expected = saved.rng.integers(2**31 - 1, size=5, dtype=bits)
        np.testing.assert_array_equal(loaded.rng.integers(2**31 - 1, size=5, dtype=bits), expected)


def test_a_checkpoint_before_the_first_epoch(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.npz", checkpoint(epochs=0))
    assert load_checkpoint(tmp_path / "c.npz").history == []


def test_a_checkpoint_of_ten_thousand_epochs(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.npz", checkpoint(epochs=10_000))
    assert len(load_checkpoint(tmp_path / "c.npz").history) == 10_000


def test_headers_as_python_2_wrote_them_are_read_without_a_warning(tmp_path: Path) -> None:
    network().save(tmp_path / "w.npz")
    weights = network().layers[3].weights
    old = plain("'<f4'", "(5L, 3L)") + weights.tobytes()
    forge = with_entry("layer3.weights.npy", old)
    (tmp_path / "w.npz").write_bytes(forge((tmp_path / "w.npz").read_bytes()))
    np.testing.assert_array_equal(load_network(tmp_path / "w.npz").layers[3].weights, weights)


# --- what is not written at all ------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_parameters_that_are_not_finite_never_replace_a_good_file(
    tmp_path: Path, value: float
) -> None:
    path = tmp_path / "w.npz"
    net = network()
    net.save(path)
    former = path.read_bytes()
    net.layers[2].weights[3, 4] = value
    with pytest.raises(HandcnnError) as caught:
        net.save(path)
    assert str(caught.value) == (
        f"{path} was not written: the array 'layer2.weights' holds values that are not finite "
        "(NaN or infinity)"
    )
    assert path.read_bytes() == former
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.npz"]


def test_metadata_too_long_to_be_read_again_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(HandcnnError, match="was not written: its metadata is too long"):
        network().save(tmp_path / "w.npz", note="x" * 5_000_000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["kind", "format", "version", "layers", "dtypes", "input_shape"])
def test_metadata_cannot_replace_what_the_file_needs(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="expects") as caught:
        network().save(tmp_path / "w.npz", **{name: "mine"})
    assert str(caught.value) == (
        f"Network.save expects another name for the metadata '{name}', which the file uses itself"
    )
    assert not list(tmp_path.iterdir())


def test_metadata_that_json_cannot_say(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        network().save(tmp_path / "w.npz", when=object())
    assert not list(tmp_path.iterdir())


# --- forging files -------------------------------------------------------------------------------

Entries = dict[str, bytes]
KERNELS = "layer1.weights.npy"


def unzipped(content: bytes) -> Entries:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(entries: Entries | list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in entries.items() if isinstance(entries, dict) else entries:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def npy(array: Array, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def header(text: str, version: tuple[int, int] = (1, 0)) -> bytes:
    """Return an .npy header with any text in it."""
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H", len(text)) + text.encode("latin-1")


def plain(descr: str, shape: str) -> bytes:
    return header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}")


def with_entry(name: str, content: bytes) -> Callable[[bytes], bytes]:
    return lambda valid: zipped({**unzipped(valid), name: content})


def without_entry(name: str) -> Callable[[bytes], bytes]:
    return lambda valid: zipped({k: v for k, v in unzipped(valid).items() if k != name})


def with_metadata(**changes: Any) -> Callable[[bytes], bytes]:
    """Change entries of the metadata; `layer1=dict(...)` changes the arguments of that layer."""

    def forge(valid: bytes) -> bytes:
        entries = unzipped(valid)
        metadata = json.loads(str(np.load(io.BytesIO(entries["metadata.npy"]))))
        for name, value in changes.items():
            if name.startswith("layer") and name != "layers":
                metadata["layers"][int(name[5:])] |= value
            elif value is ...:
                del metadata[name]
            else:
                metadata[name] = value
        return zipped({**entries, "metadata.npy": npy(np.array(json.dumps(metadata)))})

    return forge


def patched(offset: int, form: str, value: int) -> Callable[[bytes], bytes]:
    """Change a field of the first entry, the metadata, in the zip file's central directory."""

    def forge(valid: bytes) -> bytes:
        content = bytearray(valid)
        struct.pack_into(form, content, content.index(b"PK\x01\x02") + offset, value)
        return bytes(content)

    return forge


def doubled(valid: bytes) -> bytes:
    """Return the file with an entry twice; the name is changed after zipping, unnoticed."""
    entries = unzipped(valid)
    content = zipped({**entries, "layer9.weights.npy": entries[KERNELS]})
    return content.replace(b"layer9.weights.npy", KERNELS.encode())


def flipped(valid: bytes) -> bytes:
    """Return the file with one bit of one weight changed."""
    content = bytearray(valid)
    content[valid.index(unzipped(valid)[KERNELS]) + 130] ^= 1
    return bytes(content)


class Boom:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('the pickle was run')",))


PICKLE = np.array([Boom()], dtype=object)
CANNOT, INCOMPLETE = "cannot be used: ", "is not a complete .npz file of handcnn: "
NOT_KNOWN = CANNOT + "its architecture is not one that handcnn knows "
NO_NETWORK = CANNOT + "its architecture is no network "
HEADER = CANNOT + "the header of an array is damaged"
NEEDED = "but (2, 1, 3, 3) of float32 is needed"

DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    # not such a file at all
    "empty": (lambda valid: b"", INCOMPLETE + "File is not a zip file"),
    "text": (lambda valid: b"no weights\n" * 99, INCOMPLETE + "File is not a zip file"),
    "a pickle": (
        lambda valid: npy(PICKLE, allow_pickle=True),
        INCOMPLETE + "File is not a zip file",
    ),
    "a single .npy": (lambda valid: npy(np.zeros(9)), INCOMPLETE + "File is not a zip file"),
    "an empty zip": (
        lambda valid: zipped({}),
        CANNOT + "it was not written by handcnn (there is no entry 'metadata')",
    ),
    "saved by plain numpy": (
        lambda valid: zipped({"w.npy": npy(np.zeros(9))}),
        CANNOT + "it was not written by handcnn (there is no entry 'metadata')",
    ),
    "metadata of somebody else": (
        lambda valid: zipped({"metadata.npy": npy(np.array('{"format": "theirs"}'))}),
        CANNOT + "it was not written by handcnn",
    ),
    # cut, flipped, compressed
    "half": (lambda valid: valid[: len(valid) // 2], INCOMPLETE + "File is not a zip file"),
    "a byte short": (lambda valid: valid[:-1], INCOMPLETE + "File is not a zip file"),
    "a bit of a weight": (flipped, INCOMPLETE + "Bad CRC-32 for file 'layer1.weights.npy'"),
    "compressed": (
        lambda valid: zipped(unzipped(valid), zipfile.ZIP_DEFLATED),
        CANNOT + "its entry 'metadata.npy' is compressed or encrypted",
    ),
    "encrypted": (
        patched(8, "<H", 1),
        CANNOT + "its entry 'metadata.npy' is compressed or encrypted",
    ),
    "an entry larger than the file": (
        patched(24, "<I", 2**31),
        CANNOT + "its entries claim more bytes than the file has",
    ),
    "an entry beyond the end": (patched(42, "<I", 2**31), INCOMPLETE + "Truncated file header"),
    # names
    "an entry twice": (doubled, CANNOT + "it holds two entries of the same name"),
    "an array missing": (
        without_entry("layer2.bias.npy"),
        CANNOT + "the array 'layer2.bias' is missing",
    ),
    "an array too many": (
        with_entry("layer4.bias.npy", npy(np.zeros(3))),
        CANNOT + "there is an array too many, 'layer4.bias'",
    ),
    "an entry that is no array": (
        with_entry("layer1.weights", b"x"),
        CANNOT + "there is an array too many, 'layer1.weights'",
    ),
    "a path": (
        with_entry("../../evil.npy", npy(np.zeros(3))),
        CANNOT + "there is an array too many, '../../evil'",
    ),
    # arrays
    "a wrong shape": (
        with_entry(KERNELS, npy(np.zeros((2, 1, 3, 2), np.float32))),
        CANNOT + f"the array 'layer1.weights' has shape (2, 1, 3, 2) of float32, {NEEDED}",
    ),
    "a wrong dtype": (
        with_entry(KERNELS, npy(np.zeros((2, 1, 3, 3)))),
        CANNOT + f"the array 'layer1.weights' has shape (2, 1, 3, 3) of float64, {NEEDED}",
    ),
    "other byte order": (
        with_entry(KERNELS, npy(np.zeros((2, 1, 3, 3), ">f4"))),
        CANNOT + f"the array 'layer1.weights' has shape (2, 1, 3, 3) of >f4, {NEEDED}",
    ),
    "whole numbers": (
        with_entry(KERNELS, npy(np.zeros((2, 1, 3, 3), np.int32))),
        CANNOT + f"the array 'layer1.weights' has shape (2, 1, 3, 3) of int32, {NEEDED}",
    ),
    "a pickle inside": (
        with_entry(KERNELS, npy(PICKLE, allow_pickle=True)),
        CANNOT + f"the array 'layer1.weights' has shape (1,) of object, {NEEDED}",
    ),
    "a pickle of the right shape": (
        with_entry(KERNELS, npy(np.full((2, 1, 3, 3), PICKLE[0]), allow_pickle=True)),
        CANNOT + f"the array 'layer1.weights' has shape (2, 1, 3, 3) of object, {NEEDED}",
    ),
    "petabytes": (
        with_entry(KERNELS, plain("'<f4'", f"({2**50},)")),
        CANNOT + f"the array 'layer1.weights' has shape (1125899906842624,) of float32, {NEEDED}",
    ),
    "NaN": (
        with_entry(KERNELS, npy(np.full((2, 1, 3, 3), np.nan, np.float32))),
        CANNOT + "the array 'layer1.weights' holds values that are not finite (NaN or infinity)",
    ),
    "infinity": (
        with_entry(KERNELS, npy(np.full((2, 1, 3, 3), -np.inf, np.float32))),
        CANNOT + "the array 'layer1.weights' holds values that are not finite (NaN or infinity)",
    ),
    "an array without its end": (
        with_entry(KERNELS, npy(np.zeros((2, 1, 3, 3), np.float32))[:-4]),
        CANNOT + "the array 'layer1.weights' has 68 bytes, 72 are needed",
    ),
    "an array with more behind it": (
        with_entry(KERNELS, npy(np.zeros((2, 1, 3, 3), np.float32)) + b"more"),
        CANNOT + "the array 'layer1.weights' has 76 bytes, 72 are needed",
    ),
    "an entry of no bytes": (with_entry(KERNELS, b""), HEADER),
    ".npy version 3": (
        with_entry(KERNELS, header("{}", (3, 0))),
        CANNOT + "an array has .npy version (3, 0), plain arrays have (1, 0)",
    ),
    # headers, which numpy parses as Python
    "a header of brackets": (with_entry(KERNELS, header("(" * 9000)), HEADER),
    "a header of signs": (with_entry(KERNELS, header("-" * 9000 + "1")), HEADER),
    "a header of 20,000 spaces": (with_entry(KERNELS, header(" " * 20000)), HEADER),
    "a header with a call": (with_entry(KERNELS, header("__import__('os').abort()")), HEADER),
    "an open string": (with_entry(KERNELS, header("{'descr': '''")), HEADER),
    "wrong indentation": (with_entry(KERNELS, header("  \n    a\n  b")), HEADER),
    "an empty dtype": (with_entry(KERNELS, plain("()", "(2,)")), HEADER),
    "a dtype of commas": (with_entry(KERNELS, plain("',,,'", "(2,)")), HEADER),
    "a deprecated dtype": (
        with_entry(KERNELS, plain("'a5'", "(2,)")),
        CANNOT + f"the array 'layer1.weights' has shape (2,) of |S5, {NEEDED}",
    ),
    "a header from Python 2": (
        with_entry(KERNELS, plain("'<f4'", "(2L, 1L, 3L, 3L)")),
        CANNOT + "the array 'layer1.weights' has 0 bytes, 72 are needed",
    ),
    "a shape of 4,000 digits": (
        with_entry(KERNELS, plain("'<f4'", f"({'9' * 4000},)")),
        CANNOT + "the array 'layer1.weights' has shape ...",
    ),
    # metadata
    "metadata that is no text": (
        with_entry("metadata.npy", npy(np.zeros(3))),
        CANNOT + "its metadata is not a JSON text",
    ),
    "metadata of a terabyte": (
        with_entry("metadata.npy", plain(f"'<U{2**28}'", "()")),
        CANNOT + "its metadata is not a JSON text",
    ),
    "metadata that is no JSON": (
        with_entry("metadata.npy", npy(np.array("{'format': 'handcnn'}"))),
        CANNOT + "its metadata is not a JSON text",
    ),
    "metadata of brackets": (
        with_entry("metadata.npy", npy(np.array("[" * 100_000))),
        CANNOT + "its metadata is not a JSON text",
    ),
    "metadata of impossible letters": (
        with_entry("metadata.npy", plain("'<U1'", "()") + b"\xff\xff\xff\x7f"),
        INCOMPLETE + "invalid maximum character passed to PyUnicode_New",
    ),
    "another version": (
        with_metadata(version=2),
        CANNOT + "it has format version 2, this handcnn reads 1",
    ),
    "no version": (
        with_metadata(version=...),
        CANNOT + "it has format version None, this handcnn reads 1",
    ),
    "another kind": (
        with_metadata(kind="mnist"),
        CANNOT + "it holds 'mnist', where '{kind}' is needed",
    ),
    # architecture
    "no layers": (with_metadata(layers=...), NOT_KNOWN + "('layers')"),
    "an unknown layer": (with_metadata(layer1={"class": "os.system"}), NOT_KNOWN + "('os.system')"),
    "a dtype handcnn does not use": (
        with_metadata(dtypes=dict.fromkeys(["layer1.weights"], "object")),
        NOT_KNOWN + "('object')",
    ),
    "more layers than arrays": (
        with_metadata(layer0={"class": "OutputLayer", "input_size": 30, "output_size": 30}),
        NOT_KNOWN + "('layer0.weights')",
    ),
    "a layer of terabytes": (
        with_metadata(layer2={"input_size": 10**12}),
        CANNOT + "the array 'layer2.weights' has shape (18, 5) of float32, "
        "but (1000000000000, 5) of float32 is needed",
    ),
    "a stride of zero": (
        with_metadata(layer1={"stride": 0}),
        NO_NETWORK + "(Conv2D expects stride to be a whole number of at least 1, got 0)",
    ),
    "a padding of terabytes": (
        with_metadata(layer1={"padding": 10**7, "stride": 10**7}),
        NO_NETWORK + "(Conv2D(1 -> 2, 3x3) makes 180,000,045 numbers of one image)",
    ),
    "a learning rate that is no number": (
        with_metadata(layer1={"learning_rate": float("nan")}),
        NO_NETWORK + "(the arguments of Conv2D are damaged)",
    ),
    "a learning rate that is a text": (
        with_metadata(layer1={"learning_rate": "fast"}),
        NO_NETWORK + "(must be real number, not str)",
    ),
    "a generator that is none": (
        with_metadata(layer1={"rng": "x"}),
        NO_NETWORK + "(the arguments of Conv2D are damaged)",
    ),
    "a dtype of a gigabyte": (
        with_metadata(layer1={"dtype": "U100000000"}),
        NO_NETWORK + "(the arguments of Conv2D are damaged)",
    ),
    "an argument too many": (
        with_metadata(layer1={"colour": 1}),
        NO_NETWORK + "(Conv2D.__init__() got an unexpected keyword argument 'colour')",
    ),
    "layers that do not fit together": (
        with_metadata(input_shape=[1, 9, 9]),
        NO_NETWORK + "(HiddenLayer(18 -> 5) expects x of shape (N, 18) or (N, C, H, W) with "
        "C*H*W = 18, got (N, 2, 5, 5); "
        "build the layer for the size of its input, or give inputs of the size of the layer)",
    ),
    "an input of text": (
        with_metadata(input_shape="abc"),
        NO_NETWORK + "(its input_shape is no list of sizes)",
    ),
    "an input of fractions": (
        with_metadata(input_shape=[1, 5.0, 6.0]),
        NO_NETWORK + "(its input_shape is no list of sizes)",
    ),
    "no input": (with_metadata(input_shape=...), NO_NETWORK + "('input_shape')"),
}

PROGRESS = CANNOT + "its progress is damaged "
CHECKPOINT_DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "no best weights": (
        without_entry("best.layer3.weights.npy"),
        CANNOT + "the array 'best.layer3.weights' is missing",
    ),
    "no generator": (with_metadata(rng=...), PROGRESS + "('rng')"),
    "another generator": (
        with_metadata(rng={"bit_generator": "MT19937"}),
        PROGRESS + "(state must be for a PCG64 RNG)",
    ),
    "a generator of text": (with_metadata(rng="PCG64"), PROGRESS + "(state must be a dict)"),
    "no history": (with_metadata(history=...), PROGRESS + "('history')"),
    "a history of numbers": (
        with_metadata(history=[1]),
        PROGRESS + "('int' object is not iterable)",
    ),
    "an epoch missing": (
        with_metadata(history=[row(1), row(3)]),
        PROGRESS + "(the history of epoch 2 has other columns)",
    ),
    "a column missing": (
        with_metadata(history=[{"epoch": 1}]),
        PROGRESS + "(the history of epoch 1 has other columns)",
    ),
    "a loss that is none": (
        with_metadata(history=[row(1) | {"loss": float("nan")}]),
        PROGRESS + "(the history of epoch 1 holds something that is no number)",
    ),
    "a text among the numbers": (
        with_metadata(history=[row(1) | {"loss": "low"}]),
        PROGRESS + "(the history of epoch 1 holds something that is no number)",
    ),
    "no options": (with_metadata(options=...), PROGRESS + "('options')"),
    "options that are none": (
        with_metadata(options=7),
        PROGRESS + "('int' object is not iterable)",
    ),
}

LOADERS: dict[str, Callable[[Path], Any]] = {
    "weights": load_network,
    "checkpoint": load_checkpoint,
}


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    """Return two valid files of each kind, as bytes."""
    folder = tmp_path_factory.mktemp("valid")
    files: dict[str, list[bytes]] = {"weights": [], "checkpoint": []}
    for seed in (0, 1):
        network(seed).save(folder / "w.npz")
        files["weights"].append((folder / "w.npz").read_bytes())
        save_checkpoint(folder / "c.npz", checkpoint(seed))
        files["checkpoint"].append((folder / "c.npz").read_bytes())
    return files


def refusal(kind: str, path: Path) -> str:
    with pytest.raises(HandcnnError) as caught:
        LOADERS[kind](path)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize(("forge", "fault"), DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_files_are_refused_in_one_sentence(
    tmp_path: Path,
    valid: dict[str, list[bytes]],
    kind: str,
    forge: Callable[[bytes], bytes],
    fault: str,
) -> None:
    path = tmp_path / "damaged.npz"
    path.write_bytes(forge(valid[kind][0]))
    assert refusal(kind, path) == f"{path} {fault.replace('{kind}', kind)}"


@pytest.mark.parametrize(
    ("forge", "fault"), CHECKPOINT_DAMAGES.values(), ids=CHECKPOINT_DAMAGES.keys()
)
def test_damaged_checkpoints_are_refused_in_one_sentence(
    tmp_path: Path, valid: dict[str, list[bytes]], forge: Callable[[bytes], bytes], fault: str
) -> None:
    path = tmp_path / "damaged.npz"
    path.write_bytes(forge(valid["checkpoint"][0]))
    assert refusal("checkpoint", path) == f"{path} {fault}"


@pytest.mark.parametrize("kind", LOADERS)
def test_forging_without_a_change_leaves_a_valid_file(
    tmp_path: Path, valid: dict[str, list[bytes]], kind: str
) -> None:
    """Otherwise the tests above would pass whatever they forged."""
    for forge in (with_metadata(), without_entry("nothing"), lambda content: content):
        (tmp_path / "a.npz").write_bytes(forge(valid[kind][0]))
        LOADERS[kind](tmp_path / "a.npz")


@pytest.mark.parametrize(("kind", "other"), [("weights", "checkpoint"), ("checkpoint", "weights")])
def test_one_kind_of_file_in_the_place_of_the_other(
    tmp_path: Path, valid: dict[str, list[bytes]], kind: str, other: str
) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(valid[other][0])
    assert refusal(kind, path) == (
        f"{path} cannot be used: it holds '{other}', where '{kind}' is needed"
    )


@pytest.mark.parametrize("kind", LOADERS)
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    missing = tmp_path / "none.npz"
    assert refusal(kind, missing) == f"cannot read {missing}: No such file or directory"
    assert refusal(kind, tmp_path) == f"{tmp_path} is not a file"


# --- thousands of damages ------------------------------------------------------------------------


def flip(rng: np.random.Generator, first: bytes, second: bytes) -> bytes:
    """Change one to four bytes; half of the time near a header, where most can go wrong."""
    content = bytearray(first)
    headers = [i for i in range(len(first)) if first[i : i + 2] in (b"PK", b"\x93N")]
    for _ in range(rng.integers(1, 5)):
        near = rng.choice(headers) + rng.integers(64)
        anywhere = rng.integers(len(content))
        position = min(near if rng.random() < 0.5 else anywhere, len(content) - 1)
        content[position] = rng.integers(256)
    return bytes(content)


def truncate(rng: np.random.Generator, first: bytes, second: bytes) -> bytes:
    return first[: rng.integers(len(first))]


def splice(rng: np.random.Generator, first: bytes, second: bytes) -> bytes:
    """Begin with one file and go on with the other, from the same or from another place."""
    start, end = rng.integers(len(first)), rng.integers(len(second))
    return first[:start] + second[start if rng.random() < 0.7 else end :]


def cut_out(rng: np.random.Generator, first: bytes, second: bytes) -> bytes:
    start, end = sorted(rng.integers(len(first), size=2))
    return first[:start] + first[end:]


def repeat(rng: np.random.Generator, first: bytes, second: bytes) -> bytes:
    start, end = sorted(rng.integers(len(first), size=2))
    return first[:end] + first[start:]


def retype(rng: np.random.Generator, first: bytes, second: bytes) -> bytes:
    """Replace a number, a name or a bracket of the text by something else that JSON can say."""
    if b"'<U" not in first:  # an array of numbers, not a text
        return flip(rng, first, second)
    text = str(np.load(io.BytesIO(first)))
    tokens = [*re.finditer(r'"[^"]*"|[\w.+-]+|[][{}:,]', text)]
    token = tokens[rng.integers(len(tokens))]
    new = rng.choice(["null", "-1", "0", "1e999", "NaN", "9" * 30, "[]", "{}", '""', "true", "1.5"])
    return npy(np.array(text[: token.start()] + new + text[token.end() :]))


def intact(kind: str, path: Path, valid: dict[str, list[bytes]]) -> Any:
    path.write_bytes(valid[kind][0])
    return LOADERS[kind](path)


def load_or_refuse(kind: str, path: Path) -> dict[str, Array] | None:
    """Return the arrays in the file, or None if it was refused as it should be."""
    try:
        return content(kind, LOADERS[kind](path))
    except HandcnnError as error:
        message = str(error)
    assert str(path) in message
    assert "\n" not in message
    return None


DAMAGES_EACH = 400  # of 22 sorts


def content(kind: str, loaded: Any) -> dict[str, Array]:
    if kind == "weights":
        return loaded.parameters()
    return loaded.net.parameters() | {f"best.{name}": a for name, a in loaded.best.items()}


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("damage", [flip, truncate, splice, cut_out, repeat])
def test_a_damaged_file_is_refused_or_loads_what_was_saved(
    tmp_path: Path, valid: dict[str, list[bytes]], kind: str, damage: Callable[..., bytes]
) -> None:
    """Whatever loads is one of the two files, whole: no mixture and no changed number."""
    path = tmp_path / "a.npz"
    originals = []
    for file in valid[kind]:
        path.write_bytes(file)
        originals.append(content(kind, LOADERS[kind](path)))
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(DAMAGES_EACH):
        path.write_bytes(damage(rng, *valid[kind]))
        loaded = load_or_refuse(kind, path)
        if loaded is None:
            refused += 1
        else:
            assert any(
                all(np.array_equal(loaded[name], original[name]) for name in original)
                for original in originals
            )
    assert refused > DAMAGES_EACH / 2  # most of it was noticed, so there was something to notice


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("damage", [flip, truncate, splice, cut_out, repeat, retype])
def test_an_entry_forged_with_a_right_checksum_is_refused_or_loads_what_its_architecture_says(
    tmp_path: Path, valid: dict[str, list[bytes]], kind: str, damage: Callable[..., bytes]
) -> None:
    """The damage reaches the parsers behind the checksums; weights may have become other numbers.

    What must not happen: another exception, more than a line, a warning, a wrong shape, NaN.
    """
    path = tmp_path / "a.npz"
    entries, others = (unzipped(file) for file in valid[kind])
    shapes = {name: array.shape for name, array in content(kind, intact(kind, path, valid)).items()}
    rng = np.random.default_rng(0)
    for i in range(DAMAGES_EACH):
        # metadata half of the time; every entry begins with its header
        name = "metadata.npy" if i % 2 else rng.choice(list(entries))
        path.write_bytes(zipped({**entries, name: damage(rng, entries[name], others[name])}))
        loaded = load_or_refuse(kind, path)
        if loaded is not None:
            assert {name: array.shape for name, array in loaded.items()} == shapes
            assert all(np.isfinite(array).all() for array in loaded.values())


# --- memory --------------------------------------------------------------------------------------


def test_no_bomb_takes_memory(tmp_path: Path, valid: dict[str, list[bytes]]) -> None:
    """Files that claim or inflate to much more than they are, in a process that is watched."""
    entries = unzipped(valid["weights"][0])
    large = (4096, 16384)  # 256 MB of float32
    zeros = npy(np.zeros(large, np.float32))
    forged = with_metadata(layer2={"input_size": large[0], "output_size": large[1]})
    claims = unzipped(forged(valid["weights"][0]))
    bombs = {
        "inflates": zipped({**claims, "layer2.weights.npy": zeros}, zipfile.ZIP_DEFLATED),
        "claims": zipped({**claims, "layer2.weights.npy": zeros[:9999]}),
        "metadata inflates": zipped(
            {**entries, "metadata.npy": plain(f"'<U{2**26}'", "()") + bytes(2**28)},
            zipfile.ZIP_DEFLATED,
        ),
        "petabytes": with_entry(KERNELS, plain("'<f4'", f"({2**50},)"))(valid["weights"][0]),
        "padding": with_metadata(layer1={"padding": 10**7, "stride": 10**7})(valid["weights"][0]),
    }
    for name, bomb in bombs.items():
        (tmp_path / f"{name}.npz").write_bytes(bomb)
    program = """
import resource, sys
from handcnn import HandcnnError, load_network

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # MB

before = peak()
for path in sys.argv[1:]:
    try:
        load_network(path)
    except HandcnnError:
        print("refused", peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, tmp_path.iterdir())],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [word for word, _ in lines] == ["refused"] * len(bombs)
    assert all(int(megabytes) < 20 for _, megabytes in lines), done.stdout


def test_a_small_file_cannot_ask_for_memory_without_end(tmp_path: Path) -> None:
    """Padding costs no parameters, but what it surrounds may be of any size."""

    def save(filters: int, padding: int) -> Path:
        first = Conv2D(1, filters, 1, padding=padding)
        layers = [first, Conv2D(filters, 1, 1, stride=3000), OutputLayer(1, 3)]
        Network(layers, (1, 28, 28)).save(tmp_path / "a.npz")
        return tmp_path / "a.npz"

    assert len(load_network(save(2, 100)).layers) == 3
    with pytest.raises(HandcnnError) as caught:
        load_network(save(60, 1000))
    assert str(caught.value) == (
        f"{tmp_path / 'a.npz'} cannot be used: its architecture is no network "
        "(Conv2D(1 -> 60, 1x1) makes 246,767,040 numbers of one image)"
    )
