"""IDX, the format in which MNIST was published: a header, then the numbers of one array.

The header is two zero bytes, the type (8 for unsigned bytes), the number of dimensions, and each
dimension in four bytes, the highest first (LeCun, Cortes, Burges, 1998). The file may be gzipped.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from data.stored_arrays import MAX_BYTES, MAX_EXPANSION, Arrays, StoredArray, by_role, words
from handcnn.errors import HandcnnError
from handcnn.storage.files import open_file
from handcnn.text import one_line
from handcnn.types import Array, Shape

PIECE_BYTES = 1_000_000  # per read, so that a false header cannot allocate more than the file holds
GZIP = b"\x1f\x8b"
NAME = re.compile(r".*(images|labels)[-.]idx(\d)-(ubyte|int)(\.gz)?", re.IGNORECASE)
DTYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def arrays_in_idx_files(paths: list[Path]) -> Arrays:
    """Return the images and labels in those of the files that have the names of IDX files.

    `x-ubyte`, `x-ubyte.gz` and `x-ubyte/x-ubyte` hold the same, and the first of them is used.

    Raises:
        HandcnnError: one cannot be read, or there are files of different data sets.
    """
    distinct: dict[tuple[str, ...], Path] = {}
    for path in sorted(paths, key=lambda path: (len(path.parts), path.name)):
        if NAME.fullmatch(path.name):
            distinct.setdefault(tuple(word for word in words(path.name) if word != "gz"), path)
    named = ((path.name, _first_column(path)) for path in distinct.values())
    return by_role(one_line(paths[0].parent) if paths else "", named)


def _first_column(path: Path) -> StoredArray:
    """Return a stored array; of labels in several columns (QMNIST's), only the class."""
    array = stored_idx(path)
    if "idx2" not in words(path.name) or len(array.shape) != 2:
        return array
    read = partial(lambda whole: whole.read()[:, :1], array)
    return replace(array, shape=(array.shape[0], 1), read=read)


def stored_idx(path: Path) -> StoredArray:
    """Return the array of an IDX file, not yet read.

    Raises:
        HandcnnError: it cannot be read, is not an IDX file, or cannot hold what it claims.
    """
    with _opened(path) as file:
        shape, dtype = _header(file)
    size, most = prod(shape) * dtype.itemsize, MAX_EXPANSION * path.stat().st_size
    if size > min(MAX_BYTES, most):
        raise HandcnnError(
            f"{one_line(path)} claims an array of shape {shape}, more than it can hold or than the "
            "limit of 1 GB"
        )
    return StoredArray(what=one_line(path), shape=shape, dtype=dtype, read=partial(read_idx, path))


def read_idx(path: Path) -> Array:
    """Return the array in an IDX file.

    Raises:
        HandcnnError: it cannot be read, is not an IDX file, or does not match its header.
    """
    with _opened(path) as file:
        shape, dtype = _header(file)
        size = prod(shape) * dtype.itemsize
        content = bytearray()
        while len(content) <= size and (piece := file.read(PIECE_BYTES)):
            content += piece
        if len(content) != size:
            there = f"only {len(content):,}" if len(content) < size else "more"
            raise HandcnnError(
                f"does not hold what its header says: {size:,} bytes for an array of shape "
                f"{shape}, but {there}; get it again"
            )
        return np.frombuffer(content, dtype).reshape(shape)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that may be gzipped; every error in the block names it in one sentence."""
    with open_file(path) as file:
        try:
            if file.peek(2)[:2] == GZIP:
                with gzip.open(file) as content:
                    yield cast(IO[bytes], content)
            else:
                yield file
        except HandcnnError as fault:
            raise HandcnnError(f"{one_line(path)} {fault}") from None
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise HandcnnError(
                f"{one_line(path)} is incomplete or damaged ({error}); get it again"
            ) from None
        except OSError as error:
            raise HandcnnError(
                f"{one_line(path)} cannot be read: {error.strerror or error}; check the path"
            ) from None


def _header(file: IO[bytes]) -> tuple[Shape, np.dtype[Any]]:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in DTYPES or not 1 <= start[3] <= 4:
        raise HandcnnError("is not an IDX file of images or labels; get it again")
    header = file.read(4 * start[3])
    if len(header) < 4 * start[3]:
        raise HandcnnError("has an incomplete header; get it again")
    return tuple(np.frombuffer(header, ">u4").tolist()), np.dtype(DTYPES[start[2]])
