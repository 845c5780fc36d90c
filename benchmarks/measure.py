"""Time taken fairly: contestants take turns, and none burns the processor time of the next.

What makes a comparison of two libraries in one process wrong is their threads: those of OpenMP
(PyTorch) go on spinning for about 5 ms after their last work, waiting for more, those of OpenBLAS,
where they are used, for about 70 ms. On few cores the library whose turn is next would have to
share a core with them. So each turn begins when the whole process has fallen silent, whichever
libraries it has loaded, and the rival keeps the settings it comes with; after one or more warm-up
calls the threads of the library whose turn it is are awake again.
"""

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from handcnn.kernels.threads import cores, use_threads

INSTALL = "PyTorch is not installed, so there is no rival; to get it: pip install -e '.[bench]'"

Times = list[list[float]]  # seconds: a list for each turn, in it a number for each call

TURN = 0.02  # seconds, after which a turn ends
LONGEST_WARM_UP = 0.3  # seconds: a call that lasts longer needs no other to warm it up
MOST_CALLS = 20  # in a turn
MOST_ROUNDS = 200


class Contestant(NamedTuple):
    """Something to be timed: who, on how many threads, doing what; `note` says in which form."""

    name: str
    threads: int
    run: Callable[[], object]
    note: str = ""
    scale: float = 1.0  # the times are multiplied by it


class Statistics(NamedTuple):
    """Seconds a call took."""

    minimum: float
    median: float


class Threads:
    """How many threads each library gets: handcnn as in training, and PyTorch, if it is loaded."""

    def __init__(self) -> None:
        self.blas = ThreadpoolController().select(user_api="blas")

    @contextmanager
    def limited(self, threads: int) -> Iterator[None]:
        """Give both libraries this many threads."""
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(threads)
        with use_threads(threads):
            yield


def take_turns(
    contestants: Sequence[Contestant], threads: Threads, seconds: float, rounds: int
) -> list[Times]:
    """Let every contestant have a turn, again and again: A B C, A B C, ...

    Args:
        contestants: who takes part.
        threads: how each gets the threads it asks for.
        seconds: no round begins after this time,
        rounds: unless there are fewer than this; then none after twice the time.

    Returns:
        The times of each contestant.
    """
    times: list[Times] = [[] for _ in contestants]
    start = time.perf_counter()
    for number in range(MOST_ROUNDS):
        elapsed = time.perf_counter() - start
        if (number > rounds and elapsed > seconds) or (number > 1 and elapsed > 2 * seconds):
            break
        for contestant, turns in zip(contestants, times, strict=True):
            with threads.limited(contestant.threads):
                wait_for_silence()
                turn = take_turn(contestant.run)
            if number:  # the first round only warms up
                turns.append([contestant.scale * call for call in turn])
    return times


def take_turn(run: Callable[[], object]) -> list[float]:
    """Return the seconds of each call in one turn, after some that are not counted."""
    warm_up = calls(run, TURN / 4)
    return warm_up if warm_up[0] > LONGEST_WARM_UP else calls(run, TURN)


def calls(run: Callable[[], object], seconds: float) -> list[float]:
    """Call until so many seconds have passed, at least once; return the seconds of each call."""
    taken: list[float] = []
    while not taken or (sum(taken) < seconds and len(taken) < MOST_CALLS):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return taken


def fastest(forms: Mapping[str, Callable[[], object]]) -> str:
    """Return the name of the form whose fastest call is the fastest, in a short trial in turns."""
    best = dict.fromkeys(forms, float("inf"))
    for _ in range(3):
        for name, run in forms.items():
            best[name] = min([best[name], *take_turn(run)])
    return min(best, key=best.__getitem__)


def wait_for_silence(patience: float = 0.5) -> None:
    """Return when no thread of this process has worked, or spun, for some milliseconds."""
    end = time.perf_counter() + patience
    silent = 0
    while silent < 3 and time.perf_counter() < end:
        wall, used = time.perf_counter(), time.process_time()
        time.sleep(0.002)
        used, wall = time.process_time() - used, time.perf_counter() - wall
        silent = silent + 1 if used < 0.2 * wall else 0


def statistics(times: Times) -> Statistics:
    """Return the minimum and the median of all calls."""
    calls = [call for turn in times for call in turn]
    return Statistics(min(calls), float(np.median(calls)))


def ratio(theirs: Times, ours: Times) -> float:
    """Return how many times as long theirs took: the ratio of the medians of all calls."""
    return statistics(theirs).median / statistics(ours).median


def paired_ratio(theirs: Times, ours: Times) -> float:
    """Return the median, over the rounds, of the ratio of the medians within the round.

    Neighbours in time share what disturbed them: where this differs much from `ratio`, the machine
    was not quiet.
    """
    pairs = zip(theirs, ours, strict=True)
    return float(np.median([np.median(turn) / np.median(other) for turn, other in pairs]))


class Neighbours:
    """What else the machine was doing since this was made.

    The load average counts ourselves too and forgets slowly; Linux also says how many processor
    seconds it has spent, and what is not ours was somebody else's.
    """

    def __init__(self) -> None:
        self.start = time.perf_counter(), own_seconds(), machine_seconds()
        self.load = load_average()

    def share(self) -> float | None:
        """Return the share of all cores that others used, or None where that is not known."""
        wall, own, machine = self.start
        now = machine_seconds()
        if machine is None or now is None:
            return None
        others = (now - machine) - (own_seconds() - own)
        return max(0.0, others / ((time.perf_counter() - wall) * (os.cpu_count() or 1)))

    def warning(self) -> str | None:
        """Return a sentence if the figures cannot be trusted."""
        share = self.share()
        if share is not None and share > 0.05:
            return (
                f"WARNING: others used {100 * share:.0f} % of this machine in the meantime; "
                "the figures are not those of a quiet machine, take them again"
            )
        if share is None and self.load is not None and self.load > 0.5:
            return (
                f"WARNING: the load average was {self.load:.2f} at the start; "
                "the figures are not those of a quiet machine, take them again"
            )
        return None


def own_seconds() -> float:
    """Return the processor seconds of this process and of those it started that have ended."""
    return sum(os.times()[:4])


def machine_seconds() -> float | None:
    """Return the processor seconds that Linux has spent on all programs since it was started."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def load_average() -> float | None:
    """Return the load average of the last minute, or None where there is none (Windows)."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def show_load(load: float | None) -> str:
    """Return a load average for reading."""
    return "unknown" if load is None else f"{load:.2f}"


def torch_is_there() -> bool:
    """Return whether PyTorch can be imported, without importing it."""
    return find_spec("torch") is not None


def machine(threads: Threads) -> dict[str, Any]:
    """Return the hardware and the versions."""
    blas = [(pool["internal_api"], pool["version"]) for pool in threads.blas.info()]
    torch = sys.modules.get("torch")
    return {
        "processor": processor(),
        "cores": cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": ", ".join(f"{name} {version}" for name, version in blas),
        "torch": torch.__version__ if torch else None,
    }


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    facts: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    named = facts.get("model name", platform.processor() or platform.machine())
    model = f", family {facts['cpu family']} model {facts['model']}" if "model" in facts else ""
    return named + model
