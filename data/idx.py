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
import numpy.typing as npt

from handcnn.errors import HandcnnError
from handcnn.text import one_line

UInt8 = npt.NDArray[np.uint8]

MOST_BYTES = 1_000_000_000
PIECE = 1_000_000  # bytes read at a time: a header gets no more memory than there are bytes
GZIP = b"\x1f\x8b"


def read_idx(path: Path) -> UInt8:
    """Return the array of bytes in an IDX file.

    Raises:
        HandcnnError: it cannot be read, is no such file, or holds more or less than it says.
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
            f"{one_line(path)} is incomplete or damaged ({error}); get it once more"
        ) from None
    except OSError as error:
        raise HandcnnError(
            f"{one_line(path)} cannot be read: {error.strerror or error}; check the path"
        ) from None


def _array(file: IO[bytes]) -> UInt8:
    start = file.read(4)
    if start[:3] != b"\0\0\x08" or start[3:] not in (b"\1", b"\3"):
        raise HandcnnError("is no IDX file of images or labels in unsigned bytes")
    header = file.read(4 * start[3])
    if len(header) < 4 * start[3]:
        raise HandcnnError("is cut short in its header; get it once more")
    shape = tuple(np.frombuffer(header, ">u4").tolist())
    size = prod(shape)
    if size > MOST_BYTES:
        raise HandcnnError(f"claims an array of shape {shape}, more than the gigabyte that is read")
    content = bytearray()
    while len(content) <= size and (piece := file.read(PIECE)):
        content += piece
    if len(content) != size:
        there = f"only {len(content):,}" if len(content) < size else "more"
        raise HandcnnError(
            f"does not hold what its header says: {size:,} bytes for an array of shape {shape}, "
            f"but {there}; get it once more"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)
