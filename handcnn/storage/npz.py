"""The arrays of an .npz file from anywhere: each header is checked before memory is allocated.

Such a file is a zip archive with an entry `name.npy` for each array: a header with shape and dtype,
then the bytes. Nothing is unpickled. NumPy reads a header whole before it looks at its length, so
the length is checked here first.
"""

import errno
import io
import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.lib import format as npy

from handcnn.errors import HandcnnError
from handcnn.storage.files import open_file, unreadable, unusable
from handcnn.text import one_line
from handcnn.types import Array, Shape

MAX_HEADER_BYTES = 1_000  # with a much longer one, Python's parser runs out of memory
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# How the length of the header is written, and who reads it, for each version of the format
HEADERS = {
    (1, 0): ("<H", npy.read_array_header_1_0),
    (2, 0): ("<I", npy.read_array_header_2_0),
}


class Header(NamedTuple):
    """What an array claims to be, and the number of bytes that the archive claims for its data."""

    shape: Shape
    dtype: np.dtype[Any]
    length: int

    @property
    def size(self) -> int:
        """The bytes that an array of this shape and dtype has."""
        return prod(self.shape) * self.dtype.itemsize


@contextmanager
def open_npz(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
    """Open an .npz file. Every error in the block becomes one sentence that names the file.

    Raises:
        UnreadableError: the file is missing or cannot be read.
        HandcnnError: it is damaged, or the block raised a HandcnnError about its content.
        MemoryError: there is too little memory to read it; it may be intact.
    """
    with open_file(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield archive
        except HandcnnError as error:
            raise unusable(path, error) from error
        except MemoryError:
            raise
        except Exception as error:  # damaged bytes make zipfile and NumPy raise almost any class,
            # even EINVAL, for a seek to before the start. Other OSErrors come from the system.
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise unreadable(path, error) from error
            fault = f"is not a complete .npz file: {one_line(error)}"
            raise HandcnnError(f"{one_line(path)} {fault}") from error


def read_header(archive: zipfile.ZipFile, name: str) -> Header:
    """Return the header of an array.

    Raises:
        HandcnnError: the header is damaged, or the entry is encrypted or compressed unusually.
    """
    entry = archive.getinfo(f"{name}.npy")
    if entry.compress_type not in METHODS or entry.flag_bits & 0x1:
        raise HandcnnError(
            f"its entry {entry.filename!r} is packed in a way that NumPy does not use; save it "
            "with numpy.savez"
        )
    with archive.open(entry) as file:
        try:
            form, parse = HEADERS[npy.read_magic(cast(BinaryIO, file))]
            start = file.read(struct.calcsize(form))
            (length,) = struct.unpack(form, start)
            if length > MAX_HEADER_BYTES:
                raise ValueError
            shape, _, dtype = parse(io.BytesIO(start + file.read(length)))
        except (zipfile.BadZipFile, MemoryError):
            raise
        except Exception as error:  # a damaged header makes its parser raise almost any class
            raise HandcnnError(f"the header of the array {name!r} is damaged") from error
        return Header(shape, dtype, entry.file_size - file.tell())


def read_array(archive: zipfile.ZipFile, name: str) -> Array:
    """Return an array whose header was checked."""
    with archive.open(f"{name}.npy") as file:
        array: Array = npy.read_array(cast(BinaryIO, file), allow_pickle=False)
    return array
