"""Fair timing: the entries take turns, and each turn starts in silence.

Threads make it hard to compare two libraries in one process. PyTorch's go on spinning for about
5 ms after their last work, those of OpenBLAS for about 70 ms, and on few cores they take time from
whoever is next. So a turn starts when the whole process is idle, and its first calls, which wake
the threads up again, are not counted. The libraries keep all their settings but the thread count.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from statistics import median
from typing import NamedTuple

from handcnn.kernels.threads import use_threads

Run = Callable[[], object]
Side = Run | Mapping[str, Run]  # one way to write it, or several, of which the fastest is timed
Turns = list[list[float]]  # the seconds of every call, one list per turn

TURN = 0.02  # seconds of calls in a turn
MOST_CALLS = 20  # in a turn
SLOW = 0.3  # a call of so many seconds needs no warm-up


class Entry(NamedTuple):
    """One contender at one thread count."""

    name: str
    threads: int
    run: Run
    form: str = ""  # which of several ways to write it was the fastest
    scale: float = 1.0  # multiplies the measured times


class Statistics(NamedTuple):
    """Seconds per call."""

    minimum: float
    median: float


def statistics(turns: Turns) -> Statistics:
    """Return the minimum and the median over all calls."""
    calls = [call for turn in turns for call in turn]
    return Statistics(min(calls), median(calls))


def take_turns(entries: Sequence[Entry], seconds: float, rounds: int) -> list[Turns]:
    """Time all entries in turns, A B C A B C ..., and return the times of each.

    The first round is a warm-up. At least `rounds` more follow, until `seconds` have passed.
    """
    times: list[Turns] = [[] for _ in entries]
    start = time.perf_counter()
    for number in count():
        if number > rounds and time.perf_counter() - start > seconds:
            break
        for entry, turns in zip(entries, times, strict=True):
            with thread_count(entry.threads):
                wait_for_silence()
                turn = take_turn(entry.run)
            if number > 0:
                turns.append([entry.scale * call for call in turn])
    return times


def take_turn(run: Run) -> list[float]:
    """Warm up, then return the seconds of each call in one turn."""
    warm_up = time_calls(run, TURN / 4)
    return warm_up if warm_up[0] > SLOW else time_calls(run, TURN)


def time_calls(run: Run, seconds: float) -> list[float]:
    """Call `run` once or more, until `seconds` have passed; return the seconds of each call."""
    calls: list[float] = []
    while not calls or (sum(calls) < seconds and len(calls) < MOST_CALLS):
        start = time.perf_counter()
        run()
        calls.append(time.perf_counter() - start)
    return calls


def enter(name: str, threads: int, side: Side, scale: float) -> Entry:
    """Return the entry of one side; of several forms, the one fastest in a short trial."""
    if callable(side):
        return Entry(name, threads, side, scale=scale)
    forms = [Entry(name, threads, run, form, scale) for form, run in side.items()]
    minima = [statistics(turns).minimum for turns in take_turns(forms, seconds=0, rounds=2)]
    return forms[minima.index(min(minima))]


@contextmanager
def thread_count(threads: int) -> Iterator[None]:
    """Give this many threads to handcnn, as in training, and to PyTorch if it is loaded."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)
    with use_threads(threads):
        yield


def wait_for_silence(timeout: float = 0.5) -> None:
    """Return when this process has used next to no processor time for some milliseconds."""
    end = time.perf_counter() + timeout
    silent = 0
    while silent < 3 and time.perf_counter() < end:
        wall, used = time.perf_counter(), time.process_time()
        time.sleep(0.002)
        busy = (time.process_time() - used) / (time.perf_counter() - wall)
        silent = silent + 1 if busy < 0.2 else 0
