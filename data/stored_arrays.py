"""Images and labels stored as arrays, in whatever file: found by name, checked, turned into bytes.

The headers of all arrays are checked before memory is allocated for any.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data.catalogue import MAX_CLASSES, SIDE
from data.dataset import Dataset, Part, PartName, users_dataset
from handcnn.errors import HandcnnError
from handcnn.text import one_line
from handcnn.types import Array, Shape, UInt8

Kind = Literal["images", "labels"]

MAX_BYTES = 1_000_000_000  # of all arrays of a data set
MAX_EXPANSION = 1100  # bytes from one compressed byte; the limit of deflate is 1032
BLOCK_IMAGES = 1000  # images converted at once, to save memory

# What people call the parts, and the arrays in them
PARTS: dict[str, PartName] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "t10k"), "test"),
}
KINDS: dict[str, Kind] = {
    **dict.fromkeys(("x", "images", "image", "imgs", "img"), "images"),
    **dict.fromkeys(("y", "labels", "label", "targets"), "labels"),
}


@dataclass(frozen=True, kw_only=True)
class StoredArray:
    """An array in a file: what its header claims, and a function that reads it.

    Attributes:
        what: the file and the name of the array, for messages.
        shape: its shape.
        dtype: its dtype.
        read: returns the array, or raises a HandcnnError.
    """

    what: str
    shape: Shape
    dtype: np.dtype[Any]
    read: Callable[[], Array]

    @property
    def size(self) -> int:
        """The bytes that the array takes."""
        return prod(self.shape) * self.dtype.itemsize


Arrays = dict[tuple[PartName, Kind], StoredArray]


def words(name: str) -> list[str]:
    """Return the words of a file's or an array's name in lower case: x_train -> x, train."""
    return re.findall("[a-z0-9]+", name.lower())


def part_in(name: str) -> PartName | None:
    """Return the part that a name names, or None: `train` for x_train, emnist-train-images."""
    return next((PARTS[word] for word in words(name) if word in PARTS), None)


def kind_in(name: str) -> Kind | None:
    """Return what a name says that an array holds, or None: `images` for x_train, val_images."""
    return next((KINDS[word] for word in words(name) if word in KINDS), None)


def by_role(place: str, named: Iterable[tuple[str, StoredArray]]) -> Arrays:
    """Return the arrays by part and kind, both taken from their names.

    If no name names a part, all are of the part `train`. Otherwise those without one are ignored.

    Raises:
        HandcnnError: two have the same part and kind, so they are of different data sets.
    """
    found: Arrays = {}
    listed = [(part_in(name), kind_in(name), array) for name, array in named]
    is_divided = any(part for part, _, _ in listed)
    for part, kind, array in listed:
        if kind is None or (is_divided and part is None):
            continue
        role = part or "train", kind
        if role in found:
            raise HandcnnError(
                f"{place} holds more than one data set: {found[role].what} and {array.what}; "
                "give each a folder or a file for itself"
            )
        found[role] = array
    return found


def read_arrays(path: Path, form: str, arrays: Arrays) -> Dataset:
    """Return the data set in these arrays. Its classes are the labels of the training images.

    Args:
        path: the file or folder that the user named.
        form: the name of the format.
        arrays: images and labels of at least the part `train`.

    Raises:
        HandcnnError: an array is missing, cannot be read or cannot be used.
    """
    parts = {part: None for part, _ in arrays}
    for part in ("train", *parts):
        if missing := [kind for kind in ("images", "labels") if (part, kind) not in arrays]:
            there = ", ".join(array.what for array in arrays.values())
            raise HandcnnError(
                f"{one_line(path)} holds no {part} {' and no '.join(missing)}"
                + (there and f", only {there}")
            )
    for part in parts:
        _check(arrays[part, "images"], arrays[part, "labels"])
    if (total := sum(array.size for array in arrays.values())) > MAX_BYTES:
        raise HandcnnError(
            f"{one_line(path)} claims {total / 1e6:,.0f} MB, more than the limit of "
            f"{MAX_BYTES / 1e6:,.0f} MB; leave out images"
        )
    labels = {part: _whole_numbers(arrays[part, "labels"]) for part in parts}
    classes = _classes(arrays["train", "labels"].what, labels["train"])
    for part in parts:
        if len(unknown := np.setdiff1d(labels[part], classes)):
            raise HandcnnError(
                f"{arrays[part, 'labels'].what} holds the label {unknown[0]}, which no training "
                "image has"
            )
    return users_dataset(
        path,
        form,
        {
            part: Part(
                grey_bytes(arrays[part, "images"]),
                np.searchsorted(classes, labels[part]).astype(np.uint8),
            )
            for part in parts
        },
        [str(label) for label in classes],
        "whole",
    )


def _check(images: StoredArray, labels: StoredArray) -> None:
    """Refuse images and labels by what their headers claim."""
    shape, pixels = images.shape, SIDE * SIDE
    if images.dtype.kind not in "buif":
        raise HandcnnError(f"{images.what} holds {images.dtype}; grey values must be numbers")
    if labels.dtype.kind not in "uif":
        raise HandcnnError(f"{labels.what} holds {labels.dtype}; labels must be whole numbers")
    if shape[1:] in ((SIDE, SIDE, 3), (3, SIDE, SIDE)):
        raise HandcnnError(
            f"{images.what} has shape {shape}; colours are not read: take the mean over the axis "
            "of size 3, or save the images as pictures in a subfolder for each class"
        )
    if shape[1:] not in ((SIDE, SIDE), (SIDE, SIDE, 1), (1, SIDE, SIDE), (pixels,)):
        raise HandcnnError(
            f"{images.what} has shape {shape}; images must be {SIDE}x{SIDE}, (N, {SIDE}, {SIDE}): "
            "scale them, or save them as pictures in a subfolder for each class, which are scaled "
            "automatically"
        )
    if shape[0] == 0:
        raise HandcnnError(f"{images.what} holds no images; save at least one")
    if len(labels.shape) != 1 and labels.shape[1:] != (1,):
        raise HandcnnError(
            f"{labels.what} has shape {labels.shape}; there must be one label per image, (N,): of "
            "one-hot labels, save y.argmax(axis=1)"
        )
    if labels.shape[0] != shape[0]:
        raise HandcnnError(
            f"{images.what} holds {shape[0]:,} images, but {labels.what} {labels.shape[0]:,} "
            "labels; there must be one label per image"
        )


def _whole_numbers(stored: StoredArray) -> Array:
    """Return labels (N,) as whole numbers; refuse fractions, NaN and infinity."""
    labels = stored.read().reshape(-1)
    with np.errstate(invalid="ignore"):
        numbers: Array = labels.astype(np.int64)
    if not np.array_equal(numbers, labels):
        raise HandcnnError(f"{stored.what} holds labels that are not whole numbers")
    return numbers


def _classes(what: str, labels: Array) -> Array:
    """Return the different labels in ascending order; refuse too many or negative ones."""
    classes: Array = np.unique(labels)
    if classes[0] < 0 or len(classes) > MAX_CLASSES:
        raise HandcnnError(
            f"{what} holds {len(classes):,} different labels from {classes[0]} to {classes[-1]}; "
            f"there may be {MAX_CLASSES} from 0 on"
        )
    return classes


def grey_bytes(stored: StoredArray) -> UInt8:
    """Return images (N, 28, 28) as bytes; fractions become 255 times as large.

    Raises:
        HandcnnError: they are not grey values from 0 to 255, or fractions from 0 to 1.
    """
    values = stored.read().reshape(-1, SIDE, SIDE)
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 255):  # true for NaN, too
        raise HandcnnError(
            f"{stored.what} holds values from {low} to {high}; grey values must lie between 0 "
            "(black) and 255 (white), or be fractions from 0 to 1"
        )
    are_fractions = values.dtype.kind in "bf" and high <= 1
    if high <= 1 and not are_fractions:
        raise HandcnnError(
            f"{stored.what} holds whole numbers up to {high}; white is 255: multiply by 255"
        )
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    images = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), BLOCK_IMAGES):
        block = values[start : start + BLOCK_IMAGES].astype(np.float64)
        images[start : start + BLOCK_IMAGES] = np.rint(block * 255 if are_fractions else block)
    return images
