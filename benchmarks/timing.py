"""Fair timing: the entries take turns, and each turn starts when the process is idle.

Threads make it hard to compare two libraries in one process. After their last work, PyTorch's
threads spin for about 5 ms and those of OpenBLAS for about 70 ms, and on few cores this slows down
the next entry. So a turn starts when the whole process is idle, and its first calls, which wake the
threads, are not counted. Except for the thread count, the libraries keep their settings.

As in a training, handcnn keeps its threads and processes from turn to turn. The processes start
during the first turns, which are not counted either.
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
STARTING = 3.0  # seconds, more than processes need to start


def take_turns(runs: Mapping[Entry, Run], seconds: float, rounds: int) -> dict[Entry, list[float]]:
    """Time the entries in turns, A B C A B C ...; return the seconds of every call, by entry.

    Each thread count has turns of its own, with the entries that use so many. They last for at
    least `seconds`. The first `STARTING` seconds are a warm-up; after them, at least so many
    `rounds` are counted.
    """
    times: dict[Entry, list[float]] = {entry: [] for entry in runs}
    for threads in sorted({threads for _, threads in runs}):
        of_count = {entry: run for entry, run in runs.items() if entry[1] == threads}
        with thread_count(threads):
            start = time.perf_counter()
            take_one_turn_each(of_count)  # at least one round is a warm-up
            while time.perf_counter() - start < min(STARTING, seconds):
                take_one_turn_each(of_count)
            for number in count():
                if number >= rounds and time.perf_counter() - start > seconds:
                    break
                for entry, calls in take_one_turn_each(of_count).items():
                    times[entry] += calls
    return times


def take_one_turn_each(runs: Mapping[Entry, Run]) -> dict[Entry, list[float]]:
    """Give each entry one turn, while the process is idle; return the seconds of all its calls."""
    calls = {}
    for entry, run in runs.items():
        wait_for_silence()
        calls[entry] = take_turn(run)
    return calls


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
