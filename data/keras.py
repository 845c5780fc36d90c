"""Keras's layout of a data set: an .npz file with x_train, y_train, x_test and y_test.

The file may come from anywhere. Nothing in it is unpickled. Before memory is allocated for an
array, its header is checked, and its size is compared with what the file can hold.
"""

import zipfile
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, cast

from numpy.lib import format as npy

from handcnn.errors import HandcnnError
from handcnn.text import one_line
from handcnn.types import Array, Shape

NAMES = ("x_train", "y_train", "x_test", "y_test")
MOST_BYTES = 1_000_000_000  # of one array
DENSEST = 1100  # the most bytes that one compressed byte can become; the limit of deflate is 1032

Check = Callable[[str, Shape, Any], None]


def read_keras(path: Path, check: Check) -> dict[str, Array]:
    """Return the arrays of NAMES that an .npz file holds, by name.

    Args:
        path: the file.
        check: is called with name, shape and dtype; raises a HandcnnError if they cannot be used.

    Raises:
        HandcnnError: the file is missing, damaged, or holds an array that cannot be used.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            most = min(MOST_BYTES, DENSEST * path.stat().st_size)
            return {
                name: _array(archive, entries[f"{name}.npy"], name, most, check)
                for name in NAMES
                if f"{name}.npy" in entries
            }
    except HandcnnError as fault:
        raise HandcnnError(f"{one_line(path)}: {fault}") from None
    except OSError as error:
        raise HandcnnError(
            f"{one_line(path)} cannot be read: {error.strerror or error}; check the path"
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes make zipfile and NumPy raise almost any class
        raise HandcnnError(
            f"{one_line(path)} is not a complete .npz file ({one_line(error)}); save it again"
        ) from None


def _array(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, most: int, check: Check
) -> Array:
    with archive.open(entry) as file:
        shape, dtype = _header(cast(BinaryIO, file))
        if dtype.hasobject:
            raise HandcnnError(f"{name} is pickled, which is never loaded; save plain numbers")
        check(name, shape, dtype)
        size = prod(shape) * dtype.itemsize
        if size > most or size != entry.file_size - file.tell():
            raise HandcnnError(
                f"the header of {name} claims an array of shape {shape}, which the file does not "
                "hold; save it again"
            )
    with archive.open(entry) as file:
        array: Array = npy.read_array(cast(BinaryIO, file), allow_pickle=False)
    return array


def _header(stream: BinaryIO) -> tuple[Shape, Any]:
    """Return the shape and dtype of an array in NumPy's format."""
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    shape, _, dtype = read[npy.read_magic(stream)](stream)
    return shape, dtype
