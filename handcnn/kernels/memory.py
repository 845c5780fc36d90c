"""Memory for arrays: what a step frees is kept for the next; some arrays start at a cache line.

A step allocates many megabytes and frees them all. glibc, the C library of most Linux systems,
returns such amounts to the system. Allocating them again costs a page fault for every 4 KB, which
can take half of the step's time.
"""

import ctypes
from math import prod

import numpy as np
import numpy.typing as npt

from handcnn.types import Array, Shape

CACHE_LINE = 64  # bytes
MAX_KEPT_BYTES = 30_000_000
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # the names are those of glibc's malloc.h, after M_


def keep_freed_memory() -> None:
    """Let glibc keep arrays of up to `MAX_KEPT_BYTES` for reuse, and twice as much in all.

    The environment may ask for less, as Dask does for its workers; this overrides it. Other C
    libraries are unaffected.
    """
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(MMAP_THRESHOLD, MAX_KEPT_BYTES)
        libc.mallopt(TRIM_THRESHOLD, 2 * MAX_KEPT_BYTES)


def aligned(shape: Shape, dtype: npt.DTypeLike) -> Array:
    """Return an uninitialised array that starts at a cache line.

    BLAS multiplies small matrices without copying them. It reads up to a third faster if no vector
    lies across two cache lines; NumPy aligns arrays only to 16 bytes.
    """
    memory = np.empty(prod(shape) * np.dtype(dtype).itemsize + CACHE_LINE, np.uint8)
    return np.ndarray(shape, dtype, memory, -memory.ctypes.data % CACHE_LINE)


def aligned_copy(array: Array) -> Array:
    """Return a C-contiguous copy that starts at a cache line."""
    copy = aligned(array.shape, array.dtype)
    copy[...] = array
    return copy
