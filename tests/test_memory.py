"""Freed memory is used again by the next step or block; arrays can start at a cache line.

The oracles: the system's count of page faults, Python's count of bytes, and the address.
"""

import os
import platform
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from handcnn.kernels.convolution import BLOCK_BYTES, correlate, input_gradient
from handcnn.kernels.memory import aligned, aligned_copy
from handcnn.types import Array

ROOT = Path(__file__).parent.parent

# Ten times, allocate 16 MB in eight arrays and free them together: 40,000 pages of 4 KB.
PROGRAM = """
from contextlib import nullcontext
from resource import RUSAGE_SELF, getrusage
import numpy as np
from handcnn import use_threads

with {block}:
    for step in range(12):
        if step == 2:
            before = getrusage(RUSAGE_SELF).ru_minflt
        arrays = [np.ones(500_000, np.float32) for _ in range(8)]
        del arrays
    print(getrusage(RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(block: str, environment: dict[str, str]) -> int:
    command = [sys.executable, "-c", PROGRAM.format(block=block)]
    return int(subprocess.check_output(command, cwd=ROOT, env=os.environ | environment))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries decide themselves")
@pytest.mark.parametrize("environment", [{}, {"MALLOC_TRIM_THRESHOLD_": "65536"}], ids=["", "Dask"])
def test_a_step_finds_the_memory_of_the_step_before(environment: dict[str, str]) -> None:
    """With Dask's setting, seen to fail: a step of a worker took twice as long."""
    count = page_faults("nullcontext()", environment)
    assert count > 10_000  # otherwise the other count would prove nothing
    assert page_faults("use_threads(2)", environment) < 1000


@pytest.mark.parametrize(
    ("compute", "copies"),
    [
        (lambda x, weights: correlate(x, weights, padding=1), 0),
        (lambda dz, weights: input_gradient(dz, weights, (16, 59, 59), stride=2), 1),  # of dz
    ],
    ids=["windows", "scatter"],
)
def test_a_block_takes_the_place_of_the_one_before(
    compute: Callable[[Array, Array], Array], copies: int
) -> None:
    """With two blocks in memory, which need twice the cache, a step of `deep` took 5 % longer."""
    x = np.zeros((16, 29, 29, 64), np.float32).transpose(3, 0, 1, 2)
    weights = np.zeros((16, 16, 3, 3), np.float32)
    tracemalloc.start()
    try:
        result = compute(x, weights)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    blocks = (peak - result.nbytes - copies * x.nbytes) / BLOCK_BYTES
    assert 0.5 < blocks < 1.3


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (7, 1, 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_aligned_arrays_start_at_a_cache_line(shape: tuple[int, ...], dtype: str) -> None:
    some = [aligned(shape, dtype) for _ in range(20)]  # one could be aligned by chance
    assert {(array.shape, array.dtype.name, array.flags.c_contiguous) for array in some} == {
        (shape, dtype, True)
    }
    assert all(array.ctypes.data % 64 == 0 for array in some if array.size)


def test_an_aligned_copy_has_the_numbers_of_the_array() -> None:
    array = np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1)
    copy = aligned_copy(array)
    np.testing.assert_array_equal(copy, array)
    assert copy.flags.c_contiguous
    assert copy.ctypes.data % 64 == 0
    copy += 1
    assert array[0, 0, 0] == 0
