"""Users' own images: they are read as written, and errors name what cannot be used.

Oracles: files written with NumPy's savez, and IDX headers packed by hand; a fuzzed file must read
as the original or be refused in one line; pictures in a folder must match predict.py's preparation.
"""

import gzip
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damaged_files import Damage, damages, fuzzed
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data import Dataset, load_dataset
from data.idx import read_idx
from data.keras import read_keras
from data.own import FORMS, load_own
from handcnn import HandcnnError
from handcnn.pictures import load_picture, prepare_picture

RNG = np.random.default_rng(8)
Arrays = dict[str, Any]


def images(count: int, *shape: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, *(shape or (28, 28))), dtype=np.uint8)


def labels(count: int, classes: int = 3) -> np.ndarray:
    return np.arange(count) % classes


def keras(path: Path, **changes: Any) -> Arrays:
    """Write a Keras .npz of three classes, with arrays changed, or left out if None."""
    arrays = {
        "x_train": images(24),
        "y_train": labels(24),
        "x_test": images(9),
        "y_test": labels(9),
    }
    arrays = {name: array for name, array in (arrays | changes).items() if array is not None}
    save: Any = np.savez_compressed
    save(path, **arrays)
    return arrays


def idx(array: np.ndarray) -> bytes:
    """Return an array of bytes in the IDX format."""
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return head + array.astype(np.uint8).tobytes()


def idx_files(folder: Path, **changes: Any) -> dict[str, np.ndarray]:
    """Write the four files, training part gzipped; `changes` replaces bytes, None omits a file."""
    folder.mkdir()
    arrays = {
        "train-images-idx3-ubyte.gz": images(24),
        "train-labels-idx1-ubyte.gz": labels(24),
        "t10k-images-idx3-ubyte": images(9),
        "t10k-labels-idx1-ubyte": labels(9),
    }
    for name, array in arrays.items():
        content = changes.get(name.partition("-idx")[0].replace("-", "_"), idx(array))
        if content is not None:
            content = gzip.compress(content) if name.endswith(".gz") else content
            (folder / name).write_bytes(content)
    return arrays


def pictures(folder: Path, **counts: int) -> None:
    """Write PNGs of thick crosses, in a folder for each class."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            picture = np.full((40, 50), 255, np.uint8)
            picture[10:30, 20 + number % 5 : 24 + number % 5] = 0
            picture[15 + number % 9 : 18 + number % 9, 12:34] = 0
            Image.fromarray(picture).save(folder / name / f"{number:02}.png")


def load(path: Path, **options: Any) -> tuple[Dataset, list[str]]:
    said: list[str] = []
    return load_dataset(str(path), say=said.append, **options), said


def rows(dataset: Dataset) -> list[tuple[bytes, int]]:
    """Return the training and validation images with their labels, in any order."""
    parts = (dataset.train, dataset.validation)
    return sorted((i.tobytes(), int(n)) for part in parts for i, n in zip(*part, strict=True))


# --- what is read -------------------------------------------------------------------------------


def test_keras(tmp_path: Path) -> None:
    arrays = keras(tmp_path / "letters.npz")
    found, said = load(tmp_path / "letters.npz")
    assert said == []
    expected = zip(arrays["x_train"], arrays["y_train"], strict=True)
    assert rows(found) == sorted((i.tobytes(), int(n)) for i, n in expected)
    np.testing.assert_array_equal(found.test.images, arrays["x_test"])
    np.testing.assert_array_equal(found.test.labels, arrays["y_test"])
    assert (found.name, found.title) == ("own-letters", "letters.npz (own data)")
    assert found.address == str(tmp_path / "letters.npz")
    assert found.record["source"] == f"{tmp_path / 'letters.npz'} (Keras .npz)"
    assert found.record["sizes"] == {"train": 20, "validation": 4, "test": 9}
    assert found.class_names == ["0", "1", "2"]
    assert found.record["classes"] == 3
    ((_, y),) = found.batches("test", 50)
    assert y.shape == (9, 3)


def test_keras_with_a_channel_axis_and_labels_in_a_column(tmp_path: Path) -> None:
    x, y = images(24, 28, 28, 1), labels(24)
    keras(tmp_path / "own.npz", x_train=x, y_train=y[:, None].astype(np.uint8))
    found, _ = load(tmp_path / "own.npz")
    expected = zip(x, y, strict=True)
    assert rows(found) == sorted((i.tobytes(), int(n)) for i, n in expected)


def test_idx_files(tmp_path: Path) -> None:
    arrays = [*idx_files(tmp_path / "set").values()]
    found, said = load(tmp_path / "set")
    assert said == []
    expected = zip(arrays[0], arrays[1], strict=True)
    assert rows(found) == sorted((i.tobytes(), int(n)) for i, n in expected)
    np.testing.assert_array_equal(found.test.images, arrays[2])
    np.testing.assert_array_equal(found.test.labels, arrays[3])
    assert found.record["source"] == f"{tmp_path / 'set'} (IDX files)"


def test_pictures(tmp_path: Path) -> None:
    pictures(tmp_path / "set", plus=7, cross=9)
    (tmp_path / "set" / ".hidden").mkdir()
    (tmp_path / "set" / "plus" / ".DS_Store").write_bytes(b"")
    (tmp_path / "set" / "readme.txt").write_text("not a class")
    found, said = load(tmp_path / "set")
    assert found.class_names == ["cross", "plus"]
    assert said == [
        f"{tmp_path / 'set'} has no test part: 2 images drawn at random are held out for the test, "
        "14 remain"
    ]
    assert found.record["sizes"] == {"train": 12, "validation": 2, "test": 2}
    parts = rows(found) + [(i.tobytes(), int(n)) for i, n in zip(*found.test, strict=True)]
    expected = [
        (prepare_picture(load_picture(file)).tobytes(), label)
        for label, name in enumerate(("cross", "plus"))
        for file in (tmp_path / "set" / name).glob("[!.]*")
    ]
    assert sorted(parts) == sorted(expected)


def test_pictures_with_a_test_part(tmp_path: Path) -> None:
    pictures(tmp_path / "set" / "train", a=6, b=6)
    pictures(tmp_path / "set" / "test", a=2, b=1)
    found, said = load(tmp_path / "set")
    assert (said, found.class_names) == ([], ["a", "b"])
    assert found.record["sizes"] == {"train": 10, "validation": 2, "test": 3}
    assert found.test.labels.tolist() == [0, 0, 1]


def test_what_is_split_off_is_always_the_same(tmp_path: Path) -> None:
    arrays = keras(
        tmp_path / "own.npz", x_train=images(60), y_train=labels(60), x_test=None, y_test=None
    )
    first, said = load(tmp_path / "own.npz", seed=1)
    assert said == [
        f"{tmp_path / 'own.npz'} has no test part: 10 images drawn at random are held out for the "
        "test, 50 remain"
    ]
    second, _ = load(tmp_path / "own.npz", seed=2)
    np.testing.assert_array_equal(first.test.images, second.test.images)
    assert first.record["sha256"] == second.record["sha256"]
    assert rows(first) == rows(second)
    assert not np.array_equal(first.validation.images, second.validation.images)
    parts = rows(first) + [(i.tobytes(), int(n)) for i, n in zip(*first.test, strict=True)]
    expected = zip(arrays["x_train"], arrays["y_train"], strict=True)
    assert sorted(parts) == sorted((i.tobytes(), int(n)) for i, n in expected)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("mnist", "own-mnist"),
        ("Grüße & Küsse!", "own-Gr-e-K-sse"),
        ("..", "own-images"),
        ("x" * 99, "own-" + "x" * 40),
    ],
)
def test_the_name_is_plain_and_no_other_one(tmp_path: Path, stem: str, name: str) -> None:
    path = tmp_path / f"{stem}.npz"
    keras(path)
    assert load(path)[0].name == name


# --- what is refused ------------------------------------------------------------------------------

KERAS: dict[str, tuple[Arrays, str]] = {
    "no labels": (
        {"y_train": None},
        " holds no y_train; the Keras layout is x_train, y_train, x_test, y_test",
    ),
    "nothing": (
        dict.fromkeys(("x_train", "y_train", "x_test", "y_test")),
        " holds no x_train and no y_train; the Keras layout is x_train, y_train, x_test, y_test",
    ),
    "half a test part": (
        {"x_test": None},
        " holds no x_test; the Keras layout is x_train, y_train, x_test, y_test",
    ),
    "fractions": (
        {"x_train": images(24) / 255},
        ": x_train holds float64; grey values must be bytes (uint8) from 0 to 255, black as 0: "
        "multiply fractions by 255 and convert",
    ),
    "larger images": (
        {"x_test": images(9, 32, 32)},
        ": x_test has shape (9, 32, 32); images must be 28x28, (N, 28, 28): scale them, or save "
        "them as pictures in a subfolder for each class, which are scaled automatically",
    ),
    "colours": (
        {"x_train": images(24, 28, 28, 3)},
        ": x_train has shape (24, 28, 28, 3); images must be 28x28, (N, 28, 28): scale them, or "
        "save them as pictures in a subfolder for each class, which are scaled automatically",
    ),
    "no images": (
        {"x_train": images(0)},
        ": x_train has shape (0, 28, 28); images must be 28x28, (N, 28, 28): scale them, or save "
        "them as pictures in a subfolder for each class, which are scaled automatically",
    ),
    "a number for an array": (
        {"x_train": np.uint8(3)},
        ": x_train has shape (); images must be 28x28, (N, 28, 28): scale them, or save them as "
        "pictures in a subfolder for each class, which are scaled automatically",
    ),
    "labels that are no whole numbers": (
        {"y_train": labels(24) + 0.5},
        ": y_train has shape (24,) of float64; labels must be whole numbers, one for each image",
    ),
    "labels in words": (
        {"y_train": np.array(["cat"] * 24)},
        ": y_train has shape (24,) of <U3; labels must be whole numbers, one for each image",
    ),
    "one-hot labels": (
        {"y_test": np.eye(3, dtype=int)[labels(9)]},
        ": y_test has shape (9, 3) of int64; labels must be whole numbers, one for each image",
    ),
    "fewer labels": (
        {"y_train": labels(23)},
        ": x_train holds 24 images, but {path}: y_train 23 labels; there must be one label per "
        "image",
    ),
    "labels below zero": (
        {"y_train": labels(24) - 1},
        ": y_train holds labels from -1 to 1; number the classes from 0, at most to 99",
    ),
    "very large labels": (
        {"y_train": labels(24) * 1000},
        ": y_train holds labels from 0 to 2000; number the classes from 0, at most to 99",
    ),
    "a class without images": (
        {"y_train": labels(24) * 2},
        ": no training image has the label 1, but the largest is 4; number the classes without "
        "gaps",
    ),
    "an unknown class in the test": (
        {"y_test": labels(9, 5)},
        ": the test part has the label 4, which no training image has",
    ),
    "one class": (
        {"y_train": labels(24) * 0},
        " holds 24 training images of 1 classes; at least 10 images of 2 classes are needed",
    ),
    "few images": (
        {"x_train": images(6), "y_train": labels(6)},
        " holds 6 training images of 3 classes; at least 10 images of 2 classes are needed",
    ),
    "pickled labels": (
        {"y_train": np.array([{}] * 24)},
        ": y_train is pickled, which is never loaded; save plain numbers",
    ),
}


@pytest.mark.parametrize(("changes", "sentence"), KERAS.values(), ids=KERAS.keys())
def test_keras_that_cannot_be_used(tmp_path: Path, changes: Arrays, sentence: str) -> None:
    path = tmp_path / "own.npz"
    keras(path, **changes)
    assert refusal(path) == f"{path}{sentence.format(path=path)}"


def refusal(path: Path) -> str:
    with pytest.raises(HandcnnError) as caught:
        load(path)
    return str(caught.value)


DAMAGED = idx(images(24))
IDX: dict[str, tuple[dict[str, Any], str]] = {
    "cut short": (
        {"t10k_images": idx(images(9))[:-5]},
        "{path}/t10k-images-idx3-ubyte does not hold what its header says: 7,056 bytes for an "
        "array of shape (9, 28, 28), but only 7,051; get it again",
    ),
    "more than it says": (
        {"t10k_labels": idx(labels(9)) + b"\0"},
        "{path}/t10k-labels-idx1-ubyte does not hold what its header says: 9 bytes for an array of "
        "shape (9,), but more; get it again",
    ),
    "a header alone": (
        {"train_images": idx(images(24))[:16]},
        "{path}/train-images-idx3-ubyte.gz does not hold what its header says: 18,816 bytes for an "
        "array of shape (24, 28, 28), but only 0; get it again",
    ),
    "half a header": (
        {"train_images": idx(images(24))[:13]},
        "{path}/train-images-idx3-ubyte.gz has an incomplete header; get it again",
    ),
    "a header that claims everything": (
        {"train_images": struct.pack(">HBBIII", 0, 8, 3, 2**32 - 1, 28, 28)},
        "{path}/train-images-idx3-ubyte.gz claims an array of shape (4294967295, 28, 28), more "
        "than the limit of 1 GB",
    ),
    "floats": (
        {"train_images": struct.pack(">HBBIII", 0, 13, 3, 24, 28, 28)},
        "{path}/train-images-idx3-ubyte.gz is not an IDX file of images or labels in unsigned "
        "bytes",
    ),
    "empty": (
        {"train_labels": b""},
        "{path}/train-labels-idx1-ubyte.gz is not an IDX file of images or labels in unsigned "
        "bytes",
    ),
    "other sizes": (
        {"train_images": idx(images(24, 28, 27))},
        "{path}/train-images-idx3-ubyte.gz has shape (24, 28, 27); images must be 28x28, "
        "(N, 28, 28): scale them, or save them as pictures in a subfolder for each class, which "
        "are scaled automatically",
    ),
    "no labels": (
        {"train_labels": None},
        "{path} holds only one of train-images-idx3-ubyte and train-labels-idx1-ubyte; put the "
        "other beside it",
    ),
    "a class without images": (
        {"train_labels": idx(labels(24) * 2)},
        "{path}: no training image has the label 1, but the largest is 4; number the classes "
        "without gaps",
    ),
}


@pytest.mark.parametrize(("changes", "sentence"), IDX.values(), ids=IDX.keys())
def test_idx_files_that_cannot_be_used(tmp_path: Path, changes: Arrays, sentence: str) -> None:
    path = tmp_path / "set"
    idx_files(path, **changes)
    assert refusal(path) == sentence.format(path=path)


def test_a_gzipped_idx_file_cut_short(tmp_path: Path) -> None:
    idx_files(tmp_path / "set")
    file = tmp_path / "set" / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-20])
    assert refusal(tmp_path / "set") == (
        f"{file} is incomplete or damaged (Compressed file ended before the end-of-stream marker "
        "was reached); get it again"
    )


def no_class(folder: Path) -> None:
    pictures(folder, a=6, b=6)
    (folder / "c").mkdir()


def one_class(folder: Path) -> None:
    pictures(folder, a=12)


def other_classes(folder: Path) -> None:
    pictures(folder / "train", a=6, b=6)
    pictures(folder / "test", a=2, c=2)


def empty_parts(folder: Path) -> None:
    for part in ("train", "test"):
        (folder / part).mkdir(parents=True)


FOLDERS: list[tuple[Callable[[Path], object], str]] = [
    (no_class, "{path}/c holds no pictures; add some or remove the folder"),
    (one_class, f"{{path}} holds no data set; {FORMS}"),
    (other_classes, "{path}: train and test have different classes; give both the same folders"),
    (
        empty_parts,
        "{path}/train holds 0 folders; there must be 1 to 100, one of pictures for each class",
    ),
    (Path.mkdir, f"{{path}} holds no data set; {FORMS}"),
    (lambda path: None, f"{{path}} does not exist; {FORMS}"),
    (lambda path: path.write_text("x"), f"{{path}} is not a data set; {FORMS}"),
]


@pytest.mark.parametrize(("make", "sentence"), FOLDERS)
def test_paths_that_cannot_be_used(
    tmp_path: Path, make: Callable[[Path], object], sentence: str
) -> None:
    make(tmp_path / "set")
    assert refusal(tmp_path / "set") == sentence.format(path=tmp_path / "set")


def test_unreadable_pictures_are_listed_together(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    pictures(folder, a=6, b=6)
    (folder / "a" / "Thumbs.db").write_bytes(b"thumbs")
    (folder / "a" / "deeper").mkdir()
    Image.new("L", (30, 30), 255).save(folder / "b" / "white.png")
    (folder / "b" / "00.png").write_bytes((folder / "b" / "00.png").read_bytes()[:60])
    said: list[str] = []
    with pytest.raises(HandcnnError) as caught:
        load_dataset(str(folder), say=said.append)
    assert str(caught.value) == (f"4 of 15 pictures in {folder} cannot be used; fix or remove them")
    named = [message.removeprefix(f"{folder}/").replace(":", " ").split()[0] for message in said]
    assert named == ["a/Thumbs.db", "a/deeper", "b/00.png", "b/white.png"]


def test_too_many_classes(tmp_path: Path) -> None:
    for number in range(101):
        (tmp_path / "set" / f"{number:03}").mkdir(parents=True)
    assert refusal(tmp_path / "set") == (
        f"{tmp_path / 'set'} holds 101 folders; there must be 1 to 100, one of pictures for each "
        "class"
    )


# --- forged and damaged files ---------------------------------------------------------------------


def zipped(path: Path, content: bytes, claimed: int | None = None) -> None:
    """Write an .npz whose x_train.npy is `content`, perhaps claiming another size."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_train.npy", content)
    if claimed is not None:
        data = bytearray(path.read_bytes())
        struct.pack_into("<I", data, data.rindex(b"PK\1\2") + 24, claimed)
        path.write_bytes(data)


def header(shape: tuple[int, ...], descr: str = "|u1") -> bytes:
    stream = io.BytesIO()
    facts = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, facts)
    return stream.getvalue()


FORGED: dict[str, Callable[[Path], None]] = {
    "a header that claims a gigabyte": lambda path: zipped(path, header((1_200_000, 28, 28))),
    "a header and a directory that claim 700 MB": lambda path: zipped(
        path, header((900_000, 28, 28)), len(header((900_000, 28, 28))) + 900_000 * 784
    ),
    "a header that claims less": lambda path: zipped(path, header((2, 28, 28)) + bytes(3 * 784)),
    "a negative size": lambda path: zipped(path, header((-1, 28, 28))),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_header_gets_no_memory(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_array(*_: object, **__: object) -> None:
        raise AssertionError("memory is taken")

    path = tmp_path / "own.npz"
    FORGED[name](path)
    monkeypatch.setattr("numpy.lib.format.read_array", read_array)
    assert "the header of x_train claims an array of shape (" in refusal(path)


IMAGES = images(5)


def read_damaged(read: Callable[[Path], Any], path: Path, content: bytes) -> Any:
    """Return the data in a damaged file, or None if it is refused."""
    path.write_bytes(content)
    try:
        return read(path)
    except HandcnnError as error:
        message = str(error)
    assert message.startswith(str(path))
    assert "\n" not in message
    return None


@fuzzed()
@given(damages(), st.booleans())
def test_a_damaged_idx_file_is_what_its_header_says_or_refused(
    tmp_path: Path, damage: Damage, zip_it: bool
) -> None:
    """A gzipped file also has a checksum."""
    content = damage(gzip.compress(idx(IMAGES), mtime=0) if zip_it else idx(IMAGES))
    found = read_damaged(read_idx, tmp_path / "images", content)
    if found is not None and zip_it:
        np.testing.assert_array_equal(found, IMAGES)
    elif found is not None:
        assert idx(found) == content


@fuzzed()
@given(damages(), st.booleans())
def test_a_damaged_npz_is_read_as_it_was_or_refused(
    tmp_path: Path, damage: Damage, compressed: bool
) -> None:
    """Each array has a checksum."""
    file, arrays = io.BytesIO(), {"x_train": IMAGES, "y_train": labels(5)}
    save: Any = np.savez_compressed if compressed else np.savez
    save(file, **arrays)

    def read(path: Path) -> Arrays:
        return read_keras(path, lambda *_: None)

    found = read_damaged(read, tmp_path / "own.npz", damage(file.getvalue()))
    for name, array in (found or {}).items():
        np.testing.assert_array_equal(array, arrays[name])


@settings(max_examples=200)
@given(content=st.binary(max_size=200))
def test_bytes_from_anywhere_are_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "anything.npz"
    path.write_bytes(content)
    with pytest.raises(HandcnnError):
        load_own(path, print)
    with pytest.raises(HandcnnError):
        read_idx(path)
