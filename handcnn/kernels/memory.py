"""Keep freed memory in the process for the next step.

A step allocates many megabytes and frees them all. glibc, the C library of most Linux systems,
returns such amounts to the system. Allocating them again costs a page fault for every 4 KB, which
can take a third of the step's time.
"""

import numpy as np

KEPT = 30_000_000  # bytes


def keep_freed_memory() -> None:
    """Let glibc keep arrays of up to `KEPT` bytes for reuse, and twice as many bytes in all.

    The limit of glibc is the largest array freed so far, up to 32 MB. So this creates and frees an
    array, which costs nothing because nothing is written into it. Other C libraries are unaffected.
    """
    np.empty(KEPT, np.uint8)
