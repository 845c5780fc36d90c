"""A user's own images, by path: a Keras .npz, a folder of IDX files, or a folder of pictures.

The rules are the same for all formats: images of 28x28 bytes; labels from 0 to K-1, each with
training images; and a test part, which is split off if there is none.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.catalogue import MOST_CLASSES, SIDE
from data.download_cache import Say
from data.idx import read_idx
from data.keras import read_keras
from data.picture_folder import read_pictures, visible
from handcnn.errors import HandcnnError
from handcnn.text import one_line
from handcnn.types import Array, Shape, UInt8

Part = tuple[UInt8, UInt8]  # images (N, 28, 28) and labels (N,)

FORMS = (
    "give a Keras .npz file, a folder of IDX files (train-images-idx3-ubyte and so on), or a "
    "folder with a subfolder of pictures for each class"
)
ONE_IN = 6  # one image in six is split off for the test, then one in six for validation
MOST_TEST, MOST_VALIDATION = 10_000, 5_000
FEWEST = 10  # training images


class Own(NamedTuple):
    """A user's images (N, 28, 28) and labels (N,). The last `test` rows are the test part."""

    images: UInt8
    labels: UInt8
    test: int
    classes: list[str]
    form: str


def load_own(path: Path, say: Say) -> Own:
    """Return the images and labels at `path`.

    Raises:
        HandcnnError: there is nothing at `path`, or it cannot be used.
    """
    train, test, classes, form = _read(path, say)
    _check_classes(path, train, test)
    if test is None:
        train, test = _split_off(train)
        say(
            f"{one_line(path)} has no test part: {len(test[0]):,} images drawn at random are held "
            f"out for the test, {len(train[0]):,} remain"
        )
    images, labels = (np.concatenate(pair) for pair in zip(train, test, strict=True))
    return Own(images, labels, len(test[0]), classes, form)


def validation_share(rows: int) -> int:
    """Return how many of `rows` training images to use for validation."""
    return min(MOST_VALIDATION, rows // ONE_IN)


def _split_off(part: Part) -> tuple[Part, Part]:
    """Split test images off at random, always the same ones; return the rest and these."""
    images, labels = part
    order = np.random.default_rng(0).permutation(len(images))
    count = min(MOST_TEST, len(images) // ONE_IN)
    kept, drawn = np.sort(order[count:]), np.sort(order[:count])
    return (images[kept], labels[kept]), (images[drawn], labels[drawn])


# The three formats --------------------------------------------------------------------------------


def _read(path: Path, say: Say) -> tuple[Part, Part | None, list[str], str]:
    """Return the training part, the test part if there is one, the classes, and the format."""
    if not path.exists():
        raise HandcnnError(f"{one_line(path)} does not exist; {FORMS}")
    if path.is_file() and path.suffix == ".npz":
        train, test = _read_keras(path)
        return train, test, _numbered(train), "Keras .npz"
    if not path.is_dir():
        raise HandcnnError(f"{one_line(path)} is not a data set; {FORMS}")
    if train_or_none := _read_idx_part(path, "train"):
        test = _read_idx_part(path, "t10k")
        return train_or_none, test, _numbered(train_or_none), "IDX files"
    return *_read_pictures(path, say), "pictures"


def _read_keras(path: Path) -> tuple[Part, Part | None]:
    arrays = read_keras(path, _check_header)
    parts: list[Part | None] = []
    for name in ("train", "test"):
        names = (f"x_{name}", f"y_{name}")
        missing = [one for one in names if one not in arrays]
        if len(missing) == 1 or (missing and name == "train"):
            raise HandcnnError(
                f"{one_line(path)} holds no {' and no '.join(missing)}; the Keras layout is "
                "x_train, y_train, x_test, y_test"
            )
        x, y = (f"{one_line(path)}: {one}" for one in names)
        parts.append(None if missing else _part(x, arrays[names[0]], y, arrays[names[1]]))
    assert parts[0]
    return parts[0], parts[1]


def _read_idx_part(folder: Path, part: str) -> Part | None:
    found = {
        kind: min(folder.glob(f"{part}-{kind}?idx{dimensions}-ubyte*"), default=None)
        for kind, dimensions in (("images", 3), ("labels", 1))
    }
    images, labels = found["images"], found["labels"]
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        raise HandcnnError(
            f"{one_line(folder)} holds only one of {part}-images-idx3-ubyte and "
            f"{part}-labels-idx1-ubyte; put the other beside it"
        )
    return _part(one_line(images), read_idx(images), one_line(labels), read_idx(labels))


def _read_pictures(folder: Path, say: Say) -> tuple[Part, Part | None, list[str]]:
    names = [path.name for path in visible(folder) if path.is_dir()]
    if sorted(names) != ["test", "train"]:
        if len(names) < 2:
            raise HandcnnError(f"{one_line(folder)} holds no data set; {FORMS}")
        images, labels, classes = read_pictures(folder, say)
        return (images, labels), None, classes
    (*train, classes), (*test, others) = (
        read_pictures(folder / name, say) for name in ("train", "test")
    )
    if others != classes:
        raise HandcnnError(
            f"{one_line(folder)}: train and test have different classes; give both the same folders"
        )
    return (train[0], train[1]), (test[0], test[1]), classes


def _numbered(part: Part) -> list[str]:
    return [str(number) for number in range(int(part[1].max()) + 1)]


# What images and labels must be -------------------------------------------------------------------


def _check_header(name: str, shape: Shape, dtype: Any) -> None:
    """Refuse an array of images (x...) or labels (y...) by its shape and dtype."""
    if name.startswith("x"):
        _check_images(name, shape, dtype)
    elif dtype.kind not in "iu" or (len(shape) != 1 and shape[1:] != (1,)):
        raise HandcnnError(
            f"{name} has shape {shape} of {dtype}; labels must be whole numbers, one for each image"
        )


def _check_images(what: str, shape: Shape, dtype: Any) -> None:
    if dtype != np.uint8:
        raise HandcnnError(
            f"{what} holds {dtype}; grey values must be bytes (uint8) from 0 to 255, black as 0: "
            "multiply fractions by 255 and convert"
        )
    if shape[1:] not in ((SIDE, SIDE), (SIDE, SIDE, 1)) or shape[0] == 0:
        raise HandcnnError(
            f"{what} has shape {shape}; images must be {SIDE}x{SIDE}, (N, {SIDE}, {SIDE}): scale "
            "them, or save them as pictures in a subfolder for each class, which are scaled "
            "automatically"
        )


def _part(x: str, images: Array, y: str, labels: Array) -> Part:
    """Return images (N, 28, 28) and labels (N,) as bytes; errors name them `x` and `y`."""
    _check_images(x, images.shape, images.dtype)
    labels = labels.reshape(-1)
    if len(labels) != len(images):
        raise HandcnnError(
            f"{x} holds {len(images):,} images, but {y} {len(labels):,} labels; there must be one "
            "label per image"
        )
    if not 0 <= labels.min() <= labels.max() < MOST_CLASSES:
        raise HandcnnError(
            f"{y} holds labels from {labels.min()} to {labels.max()}; number the classes from 0, "
            f"at most to {MOST_CLASSES - 1}"
        )
    return images.reshape(-1, SIDE, SIDE), labels.astype(np.uint8)


def _check_classes(path: Path, train: Part, test: Part | None) -> None:
    counts = np.bincount(train[1])
    if len(counts) < 2 or len(train[1]) < FEWEST:
        raise HandcnnError(
            f"{one_line(path)} holds {len(train[1])} training images of {len(counts)} classes; at "
            f"least {FEWEST} images of 2 classes are needed"
        )
    if not counts.all():
        raise HandcnnError(
            f"{one_line(path)}: no training image has the label {counts.argmin()}, but the largest "
            f"is {len(counts) - 1}; number the classes without gaps"
        )
    if test is not None and test[1].max() >= len(counts):
        raise HandcnnError(
            f"{one_line(path)}: the test part has the label {test[1].max()}, which no training "
            "image has"
        )
