"""The computer of a measurement: its processor, its software, and whether it was idle."""

import json
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from handcnn.kernels.threads import cores

QUIET = 0.2  # cores that other processes may use


def has_pytorch() -> bool:
    """Return whether PyTorch is installed, without the second that importing it takes."""
    return find_spec("torch") is not None


@contextmanager
def figures(kind: str) -> Iterator[list[dict[str, Any]]]:
    """Print a description of the machine, yield a list for the figures, and save all as JSON.

    The file is outputs/<kind>-<date-time>.json. The last line says whether the machine was busy.
    """
    machine = describe()
    print(*(f"{name:12}{fact}" for name, fact in machine.items()), sep="\n", flush=True)
    start, before = time.perf_counter(), others_seconds()
    results: list[dict[str, Any]] = []
    try:
        yield results
    finally:  # also save the figures measured before a failure or Ctrl-C
        busy = (others_seconds() - before) / (time.perf_counter() - start)
        path = Path("outputs") / f"{kind}-{datetime.now():%Y%m%d-%H%M%S}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"machine": machine, "busy": busy, "results": results}))
        print(f"\nall figures: {path}\n{verdict(busy)}")


def describe() -> dict[str, str | int]:
    """Return the hardware and the versions, by name."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    missing = "not installed, so not timed; to get it: pip install -e '.[bench]'"
    return {
        "processor": processor(),
        "cores": cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": f"{np.__version__} with {blas['name']} {blas['version']}",
        "pytorch": version("torch") if has_pytorch() else missing,
    }


def processor() -> str:
    """Return the processor's name; on Linux with family and model, as clouds hide the name."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    facts = dict(re.findall(r"^(model name|cpu family|model)\s*: (.*)$", text, re.MULTILINE))
    named = ", ".join(f"{name} {value}" for name, value in facts.items())
    return named or platform.processor() or platform.machine()


def others_seconds() -> float:
    """Return the processor seconds of all other processes since boot, or NaN outside Linux."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return float("nan")
    fields = stat.read_text().split()[1:9]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
    ticks = user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])  # minus us and our children


def verdict(busy: float) -> str:
    """Return a sentence on whether to trust the figures, given how many cores others kept busy."""
    if busy <= QUIET:
        return "the machine was idle"
    if busy > QUIET:
        return (
            f"WARNING: other processes kept {busy:.1f} of {cores()} cores busy; "
            "measure again on an idle machine"
        )
    return "whether other processes were busy is only known on Linux"
