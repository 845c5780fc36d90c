"""Freed memory stays in the process. The oracle is the system's count of page faults."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

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
