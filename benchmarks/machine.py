"""The computer under the figures: its processor, its software, and whether it was quiet."""

import os
import platform
import re
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from handcnn.kernels.threads import cores

INSTALL = "PyTorch is not installed, so it is not timed; to get it: pip install -e '.[bench]'"
QUIET = 0.2  # cores that others may use


def has_pytorch() -> bool:
    """Return whether PyTorch is installed, without the second that importing it takes."""
    return find_spec("torch") is not None


def describe() -> dict[str, str | int | float | None]:
    """Return hardware, versions and the load average of the last minute."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "processor": processor(),
        "cores": cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": f"{blas['name']} {blas['version']}",
        "torch": getattr(sys.modules.get("torch"), "__version__", None),
        "load average": load_average(),
    }


def processor() -> str:
    """Return the processor's name; on Linux with family and model, since clouds hide the name."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    facts = dict(re.findall(r"^(model name|cpu family|model)\s*: (.*)$", text, re.MULTILINE))
    named = ", ".join(f"{name} {value}" for name, value in facts.items())
    return named or platform.processor() or platform.machine()


def load_average() -> float | None:
    """Return the load average of the last minute, or None on Windows, which has none."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


class Neighbours:
    """What other processes take from this machine, counted from when this is made.

    Linux counts their processor seconds. Elsewhere the load average at the start has to do, since
    later it includes ourselves.
    """

    def __init__(self) -> None:
        self.start, self.before = time.perf_counter(), others_seconds()
        self.load = load_average()

    def busy_cores(self) -> float:
        """Return how many cores the others kept busy on average."""
        after = others_seconds()
        if self.before is None or after is None:
            return self.load or 0.0
        return (after - self.before) / (time.perf_counter() - self.start)

    def warning(self) -> str:
        """Return a sentence that says whether the figures can be trusted."""
        busy = self.busy_cores()
        if busy <= QUIET:
            return "the machine was quiet"
        return (
            f"WARNING: other processes kept {busy:.1f} of {cores()} cores busy; "
            "these are not the figures of a quiet machine, so take them again"
        )


def others_seconds() -> float | None:
    """Return the processor seconds of all other processes since boot, or None outside Linux."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    fields = stat.read_text().split()[1:9]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
    ticks = user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])  # less our own
