"""Users' own images: they are read as written, and errors name what cannot be used.

Oracles: files written with NumPy's savez, and IDX headers packed by hand; a fuzzed file must read
as the original or be refused in one line; pictures in a folder must match predict.py's preparation.
"""

import gzip
import io
import os
import struct
import tracemalloc
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
from data.dataset import per_class
from data.idx import read_idx
from data.npz_file import arrays_in_npz
from data.users_images import FORMS, read_path
from handcnn import HandcnnError
from handcnn.pictures import load_picture, prepare_picture

RNG = np.random.default_rng(8)
Arrays = dict[str, Any]


def images(count: int, *shape: int) -> np.ndarray:
    """Return random images that are rather dark, as those of bright ink on black."""
    factors = RNG.integers(0, 256, (2, count, *(shape or (28, 28))))
    dark: np.ndarray = (factors.prod(axis=0) // 255).astype(np.uint8)
    dark.flat[:2] = 0, 255
    return dark


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


IDX_TYPES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def idx(array: np.ndarray, dtype: str = "uint8") -> bytes:
    """Return the bytes of an IDX file of this array, by default with numbers of one byte."""
    head = struct.pack(f">HBB{array.ndim}I", 0, IDX_TYPES[dtype], array.ndim, *array.shape)
    return head + array.astype(np.dtype(dtype).newbyteorder(">")).tobytes()


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
    assert found.record["source"] == f"{tmp_path / 'letters.npz'} (.npz)"
    assert found.record["sizes"] == {"train": 20, "validation": 4, "test": 9}
    assert found.class_names == ["0", "1", "2"]
    assert found.record["classes"] == 3
    ((_, y),) = found.batches("test", 50)
    assert y.shape == (9, 3)


def expected_rows(x: np.ndarray, y: np.ndarray) -> list[tuple[bytes, int]]:
    return sorted((i.tobytes(), int(n)) for i, n in zip(x, y, strict=True))


SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "a channel axis at the end": lambda x: x[..., None],
    "a channel axis at the front": lambda x: x[:, None],
    "rows of pixels": lambda x: x.reshape(-1, 784),
    "transposed in memory": lambda x: np.asfortranarray(x),
    "a view of something transposed": lambda x: np.ascontiguousarray(x.T).T,
    "bytes in large numbers": lambda x: x.astype(np.int64),
    "whole numbers with a point": lambda x: x.astype(np.float32),
    "big-endian numbers": lambda x: x.astype(">i2"),
    "fractions": lambda x: x / 255,
    "small fractions": lambda x: (x / 255).astype(np.float32),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_same_images_in_other_shapes_and_numbers(tmp_path: Path, name: str) -> None:
    x, y = images(24), labels(24)
    keras(tmp_path / "own.npz", x_train=SHAPES[name](x), y_train=y[:, None].astype(np.uint8))
    found, said = load(tmp_path / "own.npz")
    assert (said, rows(found)) == ([], expected_rows(x, y))


def test_labels_with_a_point(tmp_path: Path) -> None:
    x, y = images(24), labels(24)
    keras(tmp_path / "own.npz", x_train=x, y_train=y.astype(np.float32))
    found, _ = load(tmp_path / "own.npz")
    assert (rows(found), found.class_names) == (expected_rows(x, y), ["0", "1", "2"])


def test_black_and_white(tmp_path: Path) -> None:
    x, y = images(24) > 100, labels(24)
    keras(tmp_path / "own.npz", x_train=x)
    assert rows(load(tmp_path / "own.npz")[0]) == expected_rows(x.astype(np.uint8) * 255, y)


@pytest.mark.parametrize("step", [(1, 1), (0, 7), (1000, 3)])
def test_labels_that_start_anywhere_and_have_gaps(tmp_path: Path, step: tuple[int, int]) -> None:
    """The classes keep their original labels as names."""
    start, gap = step
    x, y = images(24), labels(24)
    keras(tmp_path / "own.npz", x_train=x, y_train=start + gap * y, y_test=start + gap * labels(9))
    found, _ = load(tmp_path / "own.npz")
    assert found.class_names == [str(start + gap * n) for n in range(3)]
    assert rows(found) == expected_rows(x, y)
    assert found.test.labels.tolist() == labels(9).tolist()


def test_medmnist(tmp_path: Path) -> None:
    """Other names, labels in a column, and a validation part, which is used as such."""
    x, y = {}, {}
    for part, count in (("train", 24), ("val", 6), ("test", 9)):
        x[part], y[part] = images(count), labels(count)
    arrays: Arrays = {f"{part}_images": array for part, array in x.items()}
    arrays |= {f"{part}_labels": array[:, None] for part, array in y.items()}
    np.savez_compressed(tmp_path / "bloodmnist.npz", **arrays)
    found, said = load(tmp_path / "bloodmnist.npz")
    assert said == []
    assert found.record["sizes"] == {"train": 24, "validation": 6, "test": 9}
    np.testing.assert_array_equal(found.validation.images, x["val"])
    np.testing.assert_array_equal(found.test.labels, y["test"])


def test_arrays_without_parts(tmp_path: Path) -> None:
    """They are divided. Beside arrays with parts, they are something else."""
    x, y = images(24), labels(24)
    np.savez(tmp_path / "own.npz", images=x, labels=y)
    found, _ = load(tmp_path / "own.npz")
    both = [*rows(found), *((i.tobytes(), int(n)) for i, n in zip(*found.test, strict=True))]
    assert sorted(both) == expected_rows(x, y)
    keras(tmp_path / "own.npz", x_train=x, label_names=np.array(["a", "b", "c"]))
    assert rows(load(tmp_path / "own.npz")[0]) == expected_rows(x, y)


def test_kannada_mnist(tmp_path: Path) -> None:
    """A file for each array, beside files of another set without parts."""
    x, y = images(24), labels(24)
    files = {"X_kannada_MNIST_train": x, "y_kannada_MNIST_train": y}
    files |= {"X_kannada_MNIST_test": images(9), "y_kannada_MNIST_test": labels(9)}
    for name, array in files.items():
        np.savez_compressed(tmp_path / f"{name}.npz", array)
    found, said = load(tmp_path)
    assert (said, rows(found)) == ([], expected_rows(x, y))
    assert found.record["sizes"]["test"] == 9


def idx_pair(
    folder: Path, x: np.ndarray, y: np.ndarray, images_name: str, labels_name: str
) -> None:
    folder.mkdir(exist_ok=True)
    (folder / images_name).write_bytes(idx(x))
    (folder / labels_name).write_bytes(idx(y))


@pytest.mark.parametrize("dot", ["-", "."])
def test_idx_files_with_a_prefix(tmp_path: Path, dot: str) -> None:
    x, y = images(24), labels(24)
    names = [f"letters-train-{kind}{dot}ubyte" for kind in ("images-idx3", "labels-idx1")]
    names = [name.replace("-idx", f"{dot}idx").replace(".ubyte", "-ubyte") for name in names]
    idx_pair(tmp_path / "set", x, y, *names)
    assert {i for i, _ in rows(load(tmp_path / "set")[0])} <= {i.tobytes() for i in x}


def test_emnist_is_turned_upright(tmp_path: Path) -> None:
    x, y = images(24), labels(24)
    names = ("emnist-digits-train-images-idx3-ubyte", "emnist-digits-train-labels-idx1-ubyte")
    idx_pair(tmp_path / "emnist-digits", x.transpose(0, 2, 1), y + 1, *names)
    idx_pair(
        tmp_path / "emnist-digits",
        x[:9].transpose(0, 2, 1),
        y[:9] + 1,
        *(name.replace("train", "test") for name in names),
    )
    found, said = load(tmp_path / "emnist-digits")
    assert said == [
        f"{tmp_path / 'emnist-digits'}: EMNIST's files hold transposed images; they are turned "
        "upright"
    ]
    assert (rows(found), found.class_names) == (expected_rows(x, y), ["1", "2", "3"])
    (tmp_path / "emnist-digits").rename(tmp_path / "set")
    assert rows(load(tmp_path / "set")[0]) == rows(found)  # by the names of the files alone


def test_qmnist(tmp_path: Path) -> None:
    """The labels are eight whole numbers; the first one is the class."""
    x, y = images(24), labels(24)
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "qmnist-train-images-idx3-ubyte").write_bytes(idx(x))
    eight = np.column_stack([y, *RNG.integers(0, 9, (7, 24))]).astype(">i4")
    head = struct.pack(">HBBII", 0, 12, 2, *eight.shape)
    (folder / "qmnist-train-labels-idx2-int").write_bytes(head + eight.tobytes())
    found, _ = load(folder)
    both = [*rows(found), *((i.tobytes(), int(n)) for i, n in zip(*found.test, strict=True))]
    assert sorted(both) == expected_rows(x, y)


def test_idx_files_as_kaggle_unpacks_them(tmp_path: Path) -> None:
    """Each file in a folder of its own name, and again beside it under another name."""
    idx_files(tmp_path / "plain")
    expected = rows(load(tmp_path / "plain")[0])
    outer = tmp_path / "archive" / "mnist"
    outer.mkdir(parents=True)
    for file in (tmp_path / "plain").iterdir():
        content = gzip.decompress(file.read_bytes()) if file.suffix else file.read_bytes()
        (outer / file.stem).mkdir()
        (outer / file.stem / file.stem).write_bytes(content)
        (outer / file.stem.replace("-idx", ".idx")).write_bytes(content)
    assert rows(load(tmp_path / "archive")[0]) == expected


def csv(path: Path, x: np.ndarray, y: np.ndarray | None, header: str = "") -> None:
    pixels = x.reshape(len(x), -1)
    table = pixels if y is None else np.column_stack([y, pixels])
    lines = [",".join(map(str, row)) for row in table.tolist()]
    path.write_text("\n".join([*filter(None, [header]), *lines]) + "\n")


PIXEL_NAMES = ",".join(f"pixel{n}" for n in range(784))
CSV_FORMS: dict[str, Callable[[Path, np.ndarray, np.ndarray], None]] = {
    "Kaggle": lambda path, x, y: csv(path, x, y, f"label,{PIXEL_NAMES}"),
    "no header": csv,
    "spaces, quotes and a mark": lambda path, x, y: csv(
        path, x, y, '\ufeff"Label", ' + PIXEL_NAMES.replace(",", ", ")
    ),
}


@pytest.mark.parametrize("form", CSV_FORMS)
def test_a_csv_table(tmp_path: Path, form: str) -> None:
    x, y = images(24), labels(24)
    CSV_FORMS[form](tmp_path / "train.csv", x, y)
    found, said = load(tmp_path / "train.csv")
    assert said[0].startswith(f"{tmp_path / 'train.csv'} has no test part: 4 images chosen ")
    both = [*rows(found), *((i.tobytes(), int(n)) for i, n in zip(*found.test, strict=True))]
    assert sorted(both) == expected_rows(x, y)


def test_a_csv_table_with_the_label_in_another_column(tmp_path: Path) -> None:
    x, y = images(24), labels(24)
    lines = [",".join(map(str, (*i.ravel().tolist(), n))) for i, n in zip(x, y, strict=True)]
    (tmp_path / "a.csv").write_text("\n".join([f"{PIXEL_NAMES},class", *lines]))
    found, _ = load(tmp_path / "a.csv")
    both = [*rows(found), *((i.tobytes(), int(n)) for i, n in zip(*found.test, strict=True))]
    assert sorted(both) == expected_rows(x, y)


def test_kaggles_folder_of_tables(tmp_path: Path) -> None:
    """The test table has no labels; another table belongs to no part."""
    csv(tmp_path / "train.csv", images(24), labels(24), f"label,{PIXEL_NAMES}")
    csv(tmp_path / "test.csv", images(9), None, PIXEL_NAMES)
    (tmp_path / "sample_submission.csv").write_text("ImageId,Label\n1,0\n")
    found, said = load(tmp_path)
    assert said[0] == f"{tmp_path / 'test.csv'} has no labels, so it is not used for the test"
    assert found.record["sizes"] == {"train": 17, "validation": 3, "test": 4}
    csv(tmp_path / "test.csv", x := images(9), labels(9))
    found, said = load(tmp_path)
    assert said == []
    np.testing.assert_array_equal(found.test.images, x)


COLUMNS = (
    "columns; there must be a label and 784 pixels in each row, and a header must call the label "
    "one of label, class, target, y"
)
BAD_CSV = {
    "7,8,9\n": f" has 3 {COLUMNS}",
    "": f" has 1 {COLUMNS}",
    f"{PIXEL_NAMES},name\n": f" has 785 {COLUMNS}",
    f"label,{PIXEL_NAMES}\n": " holds no images; save at least one",
    f"label,{PIXEL_NAMES}\n" + ",".join(["x"] * 785): " is not a table of numbers (could not ",
    f"label,{PIXEL_NAMES}\n1,2\n": " has 785 columns in its first line and 2 in others",
    f"label,{PIXEL_NAMES}\n" + ",".join(["0.5"] * 785): " holds labels that are not whole numbers",
    PIXEL_NAMES: " has no labels; each row must be a label and 784 pixels",
}


@pytest.mark.parametrize("text", BAD_CSV)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str) -> None:
    for name in ("a.csv", "test.csv"):  # regression: a table alone had to be of the part train
        path = tmp_path / name
        path.write_text(text)
        assert refusal(path).startswith(f"{path}{BAD_CSV[text]}")


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
    found, said = load(tmp_path / "set", prepare="digits")
    assert found.class_names == ["cross", "plus"]
    assert said == [
        f"{tmp_path / 'set'} has no test part: 2 images chosen at random are held out for the "
        "test, 14 remain"
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


LAYOUTS = [
    ("train", "val", "test"),
    ("Training", "Validation", "Testing"),
    ("TRAIN", "valid", "Test"),
    ("train", "val", None),
    ("training", None, "testing"),
]


@pytest.mark.parametrize("names", LAYOUTS)
def test_parts_under_the_names_that_people_give_them(
    tmp_path: Path, names: tuple[str, str | None, str | None]
) -> None:
    """Wrapped in another folder, and with what systems leave lying about."""
    train, validation, test = names
    folder = tmp_path / "set" / "inner"
    pictures(folder / train, a=12, b=12)
    for part in filter(None, (validation, test)):
        pictures(folder / part, a=2, b=1)
    (folder / "__MACOSX").mkdir()
    for litter in ("Thumbs.db", "desktop.ini", ".DS_Store"):
        (folder / litter).write_bytes(b"litter")
        (folder / train / "a" / litter).write_bytes(b"litter")
    found, said = load(tmp_path / "set")
    assert found.class_names == ["a", "b"]
    assert len(said) == (test is None)
    sizes = found.record["sizes"]
    assert sizes["validation"] == (4 if validation is None else 3)
    assert sizes["test"] == (4 if test is None else 3)
    assert sum(sizes.values()) == 24 + 3 * (validation is not None) + 3 * (test is not None)


def test_folders_in_class_folders(tmp_path: Path) -> None:
    pictures(tmp_path / "set" / "a", anna=4, ben=3)
    pictures(tmp_path / "set", b=7)
    found, _ = load(tmp_path / "set")
    labels = np.concatenate([found.train.labels, found.validation.labels, found.test.labels])
    assert (found.class_names, np.bincount(labels).tolist()) == (["a", "b"], [7, 7])


def test_test_pictures_without_classes_are_not_used(tmp_path: Path) -> None:
    pictures(tmp_path / "set" / "train", a=8, b=8)
    pictures(tmp_path / "set", test=3)
    found, said = load(tmp_path / "set")
    assert said[0] == f"{tmp_path / 'set' / 'test'} has no class folders, so it is not used"
    assert sum(found.record["sizes"].values()) == 16


# --- silently wrong conventions -------------------------------------------------------------------


def dark_on_bright(count: int) -> np.ndarray:
    x = np.full((count, 28, 28), 255, np.uint8)
    x[:, 8:20, 12:16] = images(count, 12, 4)
    return x


def test_a_bright_border_is_noticed_and_can_be_inverted(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    x, y = dark_on_bright(24), labels(24)
    keras(path, x_train=x, x_test=dark_on_bright(9))
    found, said = load(path)
    assert said == [
        f"warning: 100% of the images in {path} have a bright background. Digits in "
        "photographs and drawings are given to a network bright on black: if these images are dark "
        "ink on a bright ground, add --invert"
    ]
    assert rows(found) == expected_rows(x, y)
    found, said = load(path, invert=True)
    assert (said, rows(found)) == ([], expected_rows(255 - x, y))
    assert found.record["invert"] is True
    assert found.sha256 != load(path)[0].sha256


def test_inverting_what_is_right_is_noticed(tmp_path: Path) -> None:
    keras(tmp_path / "own.npz", x_train=255 - dark_on_bright(24), x_test=255 - dark_on_bright(9))
    assert load(tmp_path / "own.npz")[1] == []
    (warning,) = load(tmp_path / "own.npz", invert=True)[1]
    assert warning.endswith("omit --invert")


def test_transposing(tmp_path: Path) -> None:
    arrays = keras(tmp_path / "own.npz")
    found, said = load(tmp_path / "own.npz", transpose=True)
    x, y = arrays["x_train"].transpose(0, 2, 1), arrays["y_train"]
    assert (said, rows(found)) == ([], expected_rows(x, y))


def test_pictures_are_never_turned_by_options(tmp_path: Path) -> None:
    pictures(tmp_path / "set", a=6, b=6)
    with pytest.raises(HandcnnError, match="omit --invert and --transpose"):
        load(tmp_path / "set", invert=True)
    with pytest.raises(HandcnnError, match="are for the path of your own images"):
        load_dataset("digits", invert=True)


def test_a_name_in_the_catalogue_beside_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path / "digits", a=6, b=6)
    monkeypatch.chdir(tmp_path)
    found, said = load(Path("digits"))
    assert found.name == "digits"
    assert said == [
        "digits is the data set of that name; for what is here under that name, give ./digits"
    ]
    assert load_dataset("./digits", say=said.append).name == "own-digits"


# --- the division ---------------------------------------------------------------------------------


@given(
    counts=st.lists(st.integers(3, 40), min_size=2, max_size=26),
    seed=st.integers(0, 99),
)
def test_every_class_is_divided_in_proportion(counts: list[int], seed: int) -> None:
    y = np.repeat(np.arange(len(counts)), counts).astype(np.uint8)
    held = len(y) // 6
    kept, drawn = per_class(y, held, np.random.default_rng(seed))
    assert sorted([*kept, *drawn]) == list(range(len(y)))
    assert len(drawn) == held
    found = np.bincount(y[drawn], minlength=len(counts))
    assert (np.bincount(y[kept], minlength=len(counts)) > 0).all()
    assert (abs(found - np.array(counts) / 6) <= 2).all()


def test_small_classes_are_drawn_as_often_as_others() -> None:
    """On average, not always, since a class of two images cannot give a sixth."""
    y = np.repeat(np.arange(3), [2, 10, 60]).astype(np.uint8)
    draws = [per_class(y, 12, np.random.default_rng(seed))[1] for seed in range(2000)]
    share = np.mean([np.bincount(y[drawn], minlength=3) for drawn in draws], axis=0) / [2, 10, 60]
    np.testing.assert_allclose(share, 1 / 6, rtol=0.1)


@pytest.mark.parametrize("counts", [[2] * 26, [59, 1], [5, 6]])
def test_no_class_is_left_without_training_images(tmp_path: Path, counts: list[int]) -> None:
    """Regression: of 26 classes of 2 pictures, one had none in 95 % of all divisions."""
    y = np.repeat(np.arange(len(counts)), counts)
    x = images(len(y))
    keras(tmp_path / "own.npz", x_train=x, y_train=y, x_test=None, y_test=None)
    for seed in range(20):
        found, _ = load(tmp_path / "own.npz", seed=seed)
        assert (np.bincount(found.train.labels, minlength=len(counts)) > 0).all()
        assert min(found.record["sizes"].values()) > 0


def test_too_few_images_to_divide(tmp_path: Path) -> None:
    keras(tmp_path / "own.npz", x_train=images(12), y_train=np.arange(12), x_test=None, y_test=None)
    assert refusal(tmp_path / "own.npz") == (
        f"{tmp_path / 'own.npz'} has no image to spare for the part validation: each class keeps "
        "one for training; add images"
    )


def test_a_limit_that_leaves_out_classes_is_noticed() -> None:
    said: list[str] = []
    load_dataset("digits", limit=4, say=said.append)
    (warning,) = said
    assert warning.startswith("warning: none of the 4 training images is of the class ")


def test_what_is_split_off_is_always_the_same(tmp_path: Path) -> None:
    arrays = keras(
        tmp_path / "own.npz", x_train=images(60), y_train=labels(60), x_test=None, y_test=None
    )
    first, said = load(tmp_path / "own.npz", seed=1)
    assert said == [
        f"{tmp_path / 'own.npz'} has no test part: 10 images chosen at random are held out for the "
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

SCALE = (
    "images must be 28x28, (N, 28, 28): scale them, or save them as pictures in a subfolder for "
    "each class, which are scaled automatically"
)
GREY = "grey values must lie between 0 (black) and 255 (white), or be fractions from 0 to 1"
COLOURS = (
    "colours are not read: take the mean over the axis of size 3, or save the images as pictures "
    "in a subfolder for each class"
)
KERAS: dict[str, tuple[Arrays, str]] = {
    "no labels": (
        {"y_train": None},
        " holds no train labels, only {path}: x_train, {path}: x_test, {path}: y_test",
    ),
    "nothing": (
        dict.fromkeys(("x_train", "y_train", "x_test", "y_test")),
        " holds no train images and no labels",
    ),
    "half a test part": (
        {"x_test": None},
        " holds no test images, only {path}: x_train, {path}: y_train, {path}: y_test",
    ),
    "normalized values": (
        {"x_train": images(24) / 255 - 0.5},
        f": x_train holds values from -0.5 to 0.5; {GREY}",
    ),
    "too large": (
        {"x_train": images(24).astype(int) * 2},
        f": x_train holds values from 0 to 510; {GREY}",
    ),
    "not a number": (
        {"x_train": np.full((24, 28, 28), np.nan)},
        f": x_train holds values from nan to nan; {GREY}",
    ),
    "ones": (
        {"x_train": images(24) // 128},
        ": x_train holds whole numbers up to 1; white is 255: multiply by 255",
    ),
    "larger images": (
        {"x_test": images(9, 32, 32)},
        f": x_test has shape (9, 32, 32); {SCALE}",
    ),
    "colours": (
        {"x_train": images(24, 28, 28, 3)},
        f": x_train has shape (24, 28, 28, 3); {COLOURS}",
    ),
    "no images": (
        {"x_train": images(0), "y_train": labels(0)},
        ": x_train holds no images; save at least one",
    ),
    "a number for an array": (
        {"x_train": np.uint8(3)},
        f": x_train has shape (); {SCALE}",
    ),
    "words for images": (
        {"x_train": np.array(["cat"] * 24)},
        ": x_train holds <U3; grey values must be numbers",
    ),
    "labels that are no whole numbers": (
        {"y_train": labels(24) + 0.5},
        ": y_train holds labels that are not whole numbers",
    ),
    "labels in words": (
        {"y_train": np.array(["cat"] * 24)},
        ": y_train holds <U3; labels must be whole numbers",
    ),
    "one-hot labels": (
        {"y_test": np.eye(3, dtype=int)[labels(9)]},
        ": y_test has shape (9, 3); there must be one label per image, (N,): of one-hot labels, "
        "save y.argmax(axis=1)",
    ),
    "fewer labels": (
        {"y_train": labels(23)},
        ": x_train holds 24 images, but {path}: y_train 23 labels; there must be one label per "
        "image",
    ),
    "labels below zero": (
        {"y_train": labels(24) - 1},
        ": y_train holds 3 different labels from -1 to 1; there may be 100 from 0 on",
    ),
    "too many labels": (
        {"x_train": images(101), "y_train": np.arange(101) * 10},
        ": y_train holds 101 different labels from 0 to 1000; there may be 100 from 0 on",
    ),
    "an unknown class in the test": (
        {"y_test": labels(9, 5)},
        ": y_test holds the label 3, which no training image has",
    ),
    "one class": (
        {"y_train": labels(24) * 0, "y_test": labels(9) * 0},
        " holds 24 training images of 1 classes; at least 10 images of 2 classes are needed",
    ),
    "few images": (
        {"x_train": images(6), "y_train": labels(6)},
        " holds 6 training images of 3 classes; at least 10 images of 2 classes are needed",
    ),
    "pickled labels": (
        {"y_train": np.array([{}] * 24)},
        " cannot be used: y_train is pickled, which is never loaded; save plain numbers",
    ),
    "two data sets": (
        {"images_train": images(24)},
        " holds more than one data set: {path}: x_train and {path}: images_train; give each a "
        "folder or a file for itself",
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
        "than it can hold or than the limit of 1 GB",
    ),
    "no images": (
        {"train_images": idx(images(0)), "train_labels": idx(labels(0))},
        "{path}/train-images-idx3-ubyte.gz holds no images; save at least one",
    ),
    "a size of zero": (
        {"train_images": struct.pack(">HBBIII", 0, 8, 3, 24, 0, 28)},
        f"{{path}}/train-images-idx3-ubyte.gz has shape (24, 0, 28); {SCALE}",
    ),
    "an unknown type": (
        {"train_images": struct.pack(">HBBIII", 0, 7, 3, 24, 28, 28)},
        "{path}/train-images-idx3-ubyte.gz is not an IDX file of images or labels; get it again",
    ),
    "empty": (
        {"train_labels": b""},
        "{path}/train-labels-idx1-ubyte.gz is not an IDX file of images or labels; get it again",
    ),
    "other sizes": (
        {"train_images": idx(images(24, 28, 27))},
        "{path}/train-images-idx3-ubyte.gz has shape (24, 28, 27); images must be 28x28, "
        "(N, 28, 28): scale them, or save them as pictures in a subfolder for each class, which "
        "are scaled automatically",
    ),
    "no labels": (
        {"train_labels": None, "t10k_labels": None},
        "{path} holds no train labels, only {path}/t10k-images-idx3-ubyte, "
        "{path}/train-images-idx3-ubyte.gz",
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


def parts_in_classes(folder: Path) -> None:
    for name in ("a", "b"):
        pictures(folder / name, train=6, test=2)


def classes_beside_parts(folder: Path) -> None:
    pictures(folder, a=6, b=6)
    pictures(folder / "test", a=2, b=2)


def no_training(folder: Path) -> None:
    pictures(folder / "val", a=6, b=6)
    pictures(folder / "test", a=2, b=2)


def training_twice(folder: Path) -> None:
    pictures(folder / "train", a=6, b=6)
    pictures(folder / "Training", a=6, b=6)


def two_sets(folder: Path) -> None:
    folder.mkdir()
    for name in ("emnist-digits", "emnist-letters"):
        (folder / f"{name}-train-images-idx3-ubyte").write_bytes(idx(images(24)))


def a_pipe(folder: Path) -> None:
    folder.mkdir()
    os.mkfifo(folder / "train-images-idx3-ubyte")


def pipes(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        os.mkfifo(folder / name / "1.png")


TOGETHER = (
    "put class folders alone into it, or the folders train, test and, if you like, val with the "
    "same class folders in each"
)
FOLDERS: list[tuple[Callable[[Path], object], str]] = [
    (no_class, "{path}/c holds no pictures; add some or remove the folder"),
    (one_class, f"{{path}} holds no data set; {FORMS}"),
    (
        other_classes,
        "{path}/test/c is a class that has no folder among those for training; give all parts the "
        "same class folders",
    ),
    (
        empty_parts,
        "{path}/train holds 0 folders; there must be 1 to 100, one of pictures for each class",
    ),
    (
        parts_in_classes,
        "{path}/a holds a folder test; it must be the other way round, with the class folders "
        "inside train and test",
    ),
    (classes_beside_parts, f"{{path}} holds the folders test, a, b; {TOGETHER}"),
    (no_training, f"{{path}} holds the folders test, val; {TOGETHER}"),
    (
        training_twice,
        "{path} holds both Training and train; give each part one folder",
    ),
    (
        two_sets,
        "{path} holds more than one data set: {path}/emnist-digits-train-images-idx3-ubyte and "
        "{path}/emnist-letters-train-images-idx3-ubyte; give each a folder or a file for itself",
    ),
    (a_pipe, "{path}/train-images-idx3-ubyte is not a file"),
    (
        pipes,
        "2 of 2 pictures in {path} cannot be used; fix or remove them, or leave them out with "
        "--skip-unreadable",
    ),
    (Path.mkdir, f"{{path}} holds no data set; {FORMS}"),
    (lambda path: None, f"{{path}} does not exist; {FORMS}"),
    (lambda path: path.write_text("x"), f"{{path}} is not a data set; {FORMS}"),
]


@pytest.mark.parametrize(("make", "sentence"), FOLDERS)
def test_paths_that_cannot_be_used(
    tmp_path: Path, make: Callable[[Path], object], sentence: str
) -> None:
    if make in (a_pipe, pipes) and not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    make(tmp_path / "set")
    assert refusal(tmp_path / "set") == sentence.format(path=tmp_path / "set")


def test_files_that_are_not_the_data_set_itself(tmp_path: Path) -> None:
    path = tmp_path / "archive.zip"
    zipped(path, b"")
    assert refusal(path) == f"{path} is packed; unpack it and give its folder"
    path = path.rename(tmp_path / "train-images-idx3-ubyte.gz")
    assert refusal(path) == f"{path} is one of several IDX files; give their folder"


def broken_pictures(folder: Path) -> None:
    """Write pictures of two parts, two of them broken and one of them empty."""
    pictures(folder / "train", a=6, b=7)
    pictures(folder / "test", a=2, b=2)
    Image.new("L", (30, 30), 255).save(folder / "train" / "b" / "white.png")
    for name in ("train/b/00.png", "test/a/00.png"):
        (folder / name).write_bytes((folder / name).read_bytes()[:60])


def test_unreadable_pictures_of_all_parts_are_listed_together(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    broken_pictures(folder)
    said: list[str] = []
    with pytest.raises(HandcnnError) as caught:
        load_dataset(str(folder), prepare="digits", say=said.append)
    assert str(caught.value) == (
        f"3 of 18 pictures in {folder} cannot be used; fix or remove them, or leave them out with "
        "--skip-unreadable"
    )
    named = [message.removeprefix(f"{folder}/").replace(":", " ").split()[0] for message in said]
    assert named == ["test/a/00.png", "train/b/00.png", "train/b/white.png"]


def test_unreadable_pictures_can_be_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    broken_pictures(folder)
    found, said = load(folder, prepare="digits", skip_unreadable=True)
    assert said[3:] == [f"3 of 18 pictures in {folder} cannot be used and are left out"]
    assert found.record["sizes"] == {"train": 10, "validation": 2, "test": 3}
    assert found.record["skipped_pictures"] == 3
    for file in (folder / "train" / "b").iterdir():
        file.write_bytes(b"")
    with pytest.raises(HandcnnError) as caught:
        load(folder, skip_unreadable=True)
    assert str(caught.value) == (
        f"{folder} holds 6 training images of 2 classes; at least 10 images of 2 classes are needed"
    )


def test_a_class_whose_pictures_are_all_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    pictures(folder, a=6, b=6, c=1)
    (folder / "c" / "00.png").write_bytes(b"")
    with pytest.raises(HandcnnError) as caught:
        load(folder, skip_unreadable=True)
    assert str(caught.value) == (
        f"{folder}: no training image of the class c can be used; add some, or remove the class"
    )


def test_very_many_unreadable_pictures_are_counted(tmp_path: Path) -> None:
    pictures(tmp_path / "set", a=12, b=12)
    for file in (tmp_path / "set").rglob("*.png"):
        file.write_bytes(b"")
    said: list[str] = []
    with pytest.raises(HandcnnError):
        load_dataset(str(tmp_path / "set"), say=said.append)
    assert (len(said), said[-1]) == (21, "... and 4 more")


def test_too_many_classes(tmp_path: Path) -> None:
    for number in range(101):
        (tmp_path / "set" / f"{number:03}").mkdir(parents=True)
    assert refusal(tmp_path / "set") == (
        f"{tmp_path / 'set'} holds 101 folders; there must be 1 to 100, one of pictures for each "
        "class"
    )


# --- forged and damaged files ---------------------------------------------------------------------


def zipped(
    path: Path, content: bytes, claimed: int | None = None, method: int = zipfile.ZIP_DEFLATED
) -> None:
    """Write an .npz whose x_train.npy is `content`, perhaps claiming another size."""
    with zipfile.ZipFile(path, "w", method) as archive:
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


CLAIMS = "the header of x_train claims an array of shape ("
FORGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a header that claims a gigabyte": (
        lambda path: zipped(path, header((1_200_000, 28, 28))),
        CLAIMS,
    ),
    "a header and a directory that claim 700 MB": (
        lambda path: zipped(
            path, header((900_000, 28, 28)), len(header((900_000, 28, 28))) + 900_000 * 784
        ),
        CLAIMS,
    ),
    "a header that claims less": (
        lambda path: zipped(path, header((2, 28, 28)) + bytes(3 * 784)),
        CLAIMS,
    ),
    "a negative size": (lambda path: zipped(path, header((-1, 28, 28))), CLAIMS),
    "a header of 50 MB": (
        lambda path: zipped(path, b"\x93NUMPY\2\0" + struct.pack("<I", 50_000_000) + bytes(50**4)),
        "the header of the array 'x_train' is damaged",
    ),
    "an entry packed with bzip2": (
        lambda path: zipped(path, header((9, 28, 28)), method=zipfile.ZIP_BZIP2),
        "its entry 'x_train.npy' is packed in a way that NumPy does not use",
    ),
    "more labels than images": (
        lambda path: np.savez_compressed(
            path, x_train=images(9), y_train=np.zeros(30_000_000, np.uint8)
        ),
        "x_train holds 9 images, but",
    ),
    "more than a gigabyte in all": (
        lambda path: np.savez_compressed(
            path, x_train=np.zeros((160_000, 784)), y_train=np.zeros(160_000, int)
        ),
        "claims 1,005 MB, more than the limit of 1,000 MB; leave out images",
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_header_gets_no_memory(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_array(*_: object, **__: object) -> None:
        raise AssertionError("memory is taken")

    path = tmp_path / "own.npz"
    FORGED[name][0](path)
    monkeypatch.setattr("numpy.lib.format.read_array", read_array)
    tracemalloc.start()
    message = refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert FORGED[name][1] in message
    assert "pickle" not in message


def test_a_gzipped_idx_file_that_swells_is_refused_by_its_header(tmp_path: Path) -> None:
    """A megabyte that becomes a gigabyte, but there are only nine labels."""
    folder = tmp_path / "set"
    folder.mkdir()
    head = struct.pack(">HBBIII", 0, 8, 3, 100_000, 28, 28)
    with gzip.open(folder / "train-images-idx3-ubyte.gz", "wb", 1) as file:
        file.write(head)
        for _ in range(784):
            file.write(bytes(100_000))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(labels(9)))
    tracemalloc.start()
    message = refusal(folder)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert "holds 100,000 images, but" in message


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
        assert idx(found, found.dtype.name) == content


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
        return {
            f"{'x' if kind == 'images' else 'y'}_{part}": stored.read()
            for (part, kind), stored in arrays_in_npz(path).items()
        }

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
        read_path(path, print)
    with pytest.raises(HandcnnError):
        read_idx(path)
