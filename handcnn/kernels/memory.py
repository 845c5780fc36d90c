"""Keep freed memory in the process for the next step.

A step allocates many megabytes and frees them all. glibc, the C library of most Linux systems,
returns such amounts to the system. Allocating them again costs a page fault for every 4 KB, which
can take half of the step's time.
"""

import ctypes

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
