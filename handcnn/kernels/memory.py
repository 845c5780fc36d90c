"""Freed memory stays with the process, where the next step finds it.

A step takes many megabytes and frees them all. glibc, the C library of most Linux systems, gives
such amounts back to the system. To get them again costs a page fault for every 4 KB, which can be
a third of a step.
"""

import numpy as np

KEPT = 30_000_000  # bytes of an array


def keep_freed_memory() -> None:
    """Let glibc keep arrays of up to `KEPT` bytes for reuse, and twice as many bytes in all.

    It takes the largest array freed so far, up to 32 MB, for its limit. So one is made and freed
    here. Nobody writes into it, so it costs nothing. Other C libraries do as they did before.
    """
    np.empty(KEPT, np.uint8)
