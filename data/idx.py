"""IDX, the format in which MNIST was published: a header, then the bytes of one array.

The header is two zero bytes, the type (8 for unsigned bytes), the number of dimensions, and each
dimension in four bytes, the highest first (LeCun, Cortes, Burges, 1998). The file may be gzipped.
"""

import gzip
import zlib
from math import prod
from pathlib import Path
from typing import IO, cast

import numpy as np

from handcnn.errors import HandcnnError
from handcnn.text import one_line
from handcnn.types import UInt8

MOST_BYTES = 1_000_000_000
PIECE = 1_000_000  # bytes per read, so that a false header cannot allocate more than the file holds
GZIP = b"\x1f\x8b"


def read_idx(path: Path) -> UInt8:
    """Return the array of bytes in an IDX file.

    Raises:
        HandcnnError: it cannot be read, is not an IDX file, or does not match its header.
    """
    try:
        with path.open("rb") as file:
            if file.peek(2)[:2] == GZIP:
                with gzip.open(file) as content:
                    return _array(cast(IO[bytes], content))
            return _array(file)
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


def _array(file: IO[bytes]) -> UInt8:
    start = file.read(4)
    if start[:3] != b"\0\0\x08" or start[3:] not in (b"\1", b"\3"):
        raise HandcnnError("is not an IDX file of images or labels in unsigned bytes")
    header = file.read(4 * start[3])
    if len(header) < 4 * start[3]:
        raise HandcnnError("has an incomplete header; get it again")
    shape = tuple(np.frombuffer(header, ">u4").tolist())
    size = prod(shape)
    if size > MOST_BYTES:
        raise HandcnnError(f"claims an array of shape {shape}, more than the limit of 1 GB")
    content = bytearray()
    while len(content) <= size and (piece := file.read(PIECE)):
        content += piece
    if len(content) != size:
        there = f"only {len(content):,}" if len(content) < size else "more"
        raise HandcnnError(
            f"does not hold what its header says: {size:,} bytes for an array of shape {shape}, "
            f"but {there}; get it again"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)
