"""Fair timing: the entries take turns, and each turn starts when the process is idle.

Threads make it hard to compare two libraries in one process. After their last work, PyTorch's
threads spin for about 5 ms and those of OpenBLAS for about 70 ms, and on few cores this slows down
the next entry. So a turn starts when the whole process is idle, and its first calls, which wake the
threads, are not counted. Except for the thread count, the libraries keep their settings.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count

from handcnn.kernels.threads import use_threads

Run = Callable[[], object]
Entry = tuple[str, int]  # a form and its number of threads

WARM_UP, TURN = 0.005, 0.02  # seconds of calls
SLOW = 0.3  # seconds; longer calls need no warm-up


def take_turns(runs: Mapping[Entry, Run], seconds: float, rounds: int) -> dict[Entry, list[float]]:
    """Time all entries in turns, A B C A B C ...; return the seconds of every call, by entry.

    The first round is a warm-up. At least `rounds` more follow, until `seconds` have passed.
    """
    times: dict[Entry, list[float]] = {entry: [] for entry in runs}
    start = time.perf_counter()
    for number in count():
        if number > rounds and time.perf_counter() - start > seconds:
            break
        for (name, threads), run in runs.items():
            with thread_count(threads):
                wait_for_silence()
                calls = take_turn(run)
            if number > 0:
                times[name, threads] += calls
    return times


def take_turn(run: Run) -> list[float]:
    """Warm up, then call `run` once or more; return the seconds of each call after the warm-up."""
    calls: list[float] = []
    warm_up = 0.0
    while not calls or sum(calls) < TURN:
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        if warm_up < WARM_UP and seconds < SLOW:
            warm_up += seconds
        else:
            calls.append(seconds)
    return calls


@contextmanager
def thread_count(threads: int) -> Iterator[None]:
    """Use this many threads in handcnn, as in training, and in PyTorch if it is loaded."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)
    with use_threads(threads):
        yield


def wait_for_silence(timeout: float = 0.5) -> None:
    """Wait until this process has used almost no processor time for some milliseconds."""
    end, silent = time.perf_counter() + timeout, 0
    while silent < 3 and time.perf_counter() < end:
        wall, used = time.perf_counter(), time.process_time()
        time.sleep(0.002)
        busy = (time.process_time() - used) / (time.perf_counter() - wall)
        silent = silent + 1 if busy < 0.2 else 0
