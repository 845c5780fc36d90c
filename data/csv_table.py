"""A table of pixels as text: a row for each image, its label and 784 grey values.

Kaggle's Digit Recognizer has this form, with a header whose first word is `label`; other files have
no header. The label may stand in another column, if the header names it.
"""

import warnings
from pathlib import Path

import numpy as np

from data.catalogue import SIDE
from data.progress import Say
from data.stored_arrays import MAX_BYTES, Arrays, StoredArray, grey_bytes, part_in
from handcnn.errors import HandcnnError
from handcnn.storage.files import open_file
from handcnn.text import one_line
from handcnn.types import Array, UInt8

LABELS = ("label", "class", "target", "y")
MAX_HEADER_BYTES = 100_000  # bytes of the header


def arrays_in_csv(paths: list[Path], say: Say) -> Arrays:
    """Return the images and labels in one table, whatever its name, or in those that name a part.

    Raises:
        HandcnnError: a table cannot be read or is no such table.
    """
    tables: Arrays = {}
    for path in paths:
        part = part_in(path.stem) if len(paths) > 1 else "train"
        if part is None:
            continue  # such as Kaggle's sample_submission.csv
        if (part, "images") in tables:
            raise HandcnnError(
                f"{one_line(path.parent)} holds more than one table of the part {part}: "
                f"{one_line(path.name)} is one; give each data set a folder for itself"
            )
        has_labels, header = _columns(path)
        if not has_labels and part == "test":
            say(f"{one_line(path)} has no labels, so it is not used for the test")
            continue
        if not has_labels:
            raise HandcnnError(
                f"{one_line(path)} has no labels; each row must be a label and {SIDE * SIDE} pixels"
            )
        numbers = _numbers(path, skip=header is not None)
        column = 0 if header is None else next(i for i, name in enumerate(header) if name in LABELS)
        tables[part, "images"] = _stored(path, np.delete(numbers, column, axis=1))
        tables[part, "labels"] = _stored(path, numbers[:, column])
    return tables


def images_without_labels(path: Path) -> UInt8 | None:
    """Return the images (N, 28, 28) in a table that has no labels, such as Kaggle's test.csv.

    Return None if the table has labels.

    Raises:
        HandcnnError: it cannot be read or is no table of pixels.
    """
    has_labels, header = _columns(path)
    if has_labels:
        return None
    numbers = _numbers(path, skip=header is not None, columns=SIDE * SIDE)
    return grey_bytes(_stored(path, numbers))


def _stored(path: Path, array: Array) -> StoredArray:
    return StoredArray(
        what=one_line(path), shape=array.shape, dtype=array.dtype, read=lambda: array
    )


def _columns(path: Path) -> tuple[bool, list[str] | None]:
    """Return whether a table has labels, and the words of its header, if it has one.

    Raises:
        HandcnnError: it does not have 784 columns of pixels.
    """
    with open_file(path) as file:
        line = file.readline(MAX_HEADER_BYTES).decode("utf-8-sig", "replace")
    cells = [cell.strip(" \t\r\n\"'").lower() for cell in line.split(",")]
    header = None if all(map(_is_number, cells)) else cells
    pixels = len(cells) - 1
    if len(cells) == SIDE * SIDE and not (header and set(header) & set(LABELS)):
        return False, header
    if pixels != SIDE * SIDE or (header and sum(name in LABELS for name in header) != 1):
        raise HandcnnError(
            f"{one_line(path)} has {len(cells):,} columns; there must be a label and "
            f"{SIDE * SIDE} pixels in each row, and a header must call the label one of "
            f"{', '.join(LABELS)}"
        )
    return True, header


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(path: Path, *, skip: bool, columns: int = SIDE * SIDE + 1) -> Array:
    """Return the numbers of a table with so many columns, without its header."""
    if path.stat().st_size > MAX_BYTES:
        raise HandcnnError(f"{one_line(path)} is larger than the limit of 1 GB; leave out images")
    try:
        with path.open(encoding="utf-8-sig") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an empty file, which is refused below
            numbers: Array = np.loadtxt(
                file,
                np.float32,
                delimiter=",",
                skiprows=int(skip),
                comments=None,
                quotechar='"',
                ndmin=2,
            )
    except ValueError as error:
        raise HandcnnError(
            f"{one_line(path)} is not a table of numbers ({one_line(error)}); get it again"
        ) from None
    if numbers.size == 0:
        raise HandcnnError(f"{one_line(path)} holds no images; save at least one")
    if numbers.shape[1] != columns:
        raise HandcnnError(
            f"{one_line(path)} has {columns} columns in its first line and "
            f"{numbers.shape[1]} in others; get it again"
        )
    return numbers
