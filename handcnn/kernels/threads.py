"""Parts of one computation on several cores: each is done by a Python thread.

NumPy lets other threads run while it computes, so a part that takes some tenths of a millisecond
is worth handing over. The threads of BLAS are not used. They spin while they wait for work, and
on a busy machine everybody then waits for the one that cannot run. Those here sleep.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from itertools import pairwise
from queue import SimpleQueue
from threading import Event, Lock, Thread, local
from typing import Any, TypeVar

import numpy as np

from handcnn.errors import HandcnnError
from handcnn.kernels.memory import keep_freed_memory

Result = TypeVar("Result")

# Multiplications that take as long as it takes another thread to wake up.
WAKING = 2_500_000
MOVED = 16  # multiplications that take as long as moving a number through memory


class Pool:
    """Threads that wait for tasks until the pool is closed."""

    def __init__(self, threads: int) -> None:
        self.threads = threads  # the one that hands over is among them
        self.process = os.getpid()  # a fork leaves the others behind
        self.tasks: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self.helpers: list[Thread] = []
        try:
            for _ in range(threads - 1):
                self.helpers.append(started(self._help))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the threads."""
        for _ in self.helpers:
            self.tasks.put(None)
        for helper in self.helpers:
            helper.join()

    def _help(self) -> None:
        while task := self.tasks.get():
            task()
            del task  # and the arrays it refers to, before waiting for the next one


def started(work: Callable[[], object]) -> Thread:
    """Return a thread that does this work; it ends with the program at the latest.

    Raises:
        HandcnnError: the system gives no more threads, or no memory for them.
    """
    thread = Thread(target=work, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise HandcnnError(
            f"a thread cannot be started ({error}); use fewer threads, or close other programs"
        ) from error
    return thread


class OneBlasThread:
    """Holds BLAS to one thread as long as anybody asks for it.

    BLAS has one setting for the whole process. The first to enter sets it, and the last to leave
    restores it, whichever threads they are in. threadpoolctl wants both done by one thread, which
    must live until then, so there is a thread for just that.
    """

    def __init__(self) -> None:
        self.lock, self.users = Lock(), 0
        if hasattr(os, "register_at_fork"):  # no fork while another thread is in the middle of it
            lock = self.lock
            os.register_at_fork(
                before=lock.acquire, after_in_parent=lock.release, after_in_child=self._after_fork
            )

    def __enter__(self) -> None:
        with self.lock:
            if self.users == 0:
                self.is_set, self.is_over = Event(), Event()
                self.fault: BaseException | None = None
                self.holder = started(self._hold)
                try:
                    self.is_set.wait()
                    if self.fault:
                        raise self.fault
                except BaseException:
                    self.is_over.set()
                    raise
            self.users += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.users -= 1
            if self.users == 0:
                self.is_over.set()
                self.holder.join()
                if self.fault:
                    raise self.fault

    def _after_fork(self) -> None:
        """Forget the blocks of other threads: of them, none lives on in the new process."""
        self.users = len(_own.pools)
        self.lock.release()

    def _hold(self) -> None:
        try:
            from threadpoolctl import threadpool_limits

            with threadpool_limits(1, "blas"):
                self.is_set.set()
                self.is_over.wait()
        except BaseException as error:
            self.fault = error
        finally:
            self.is_set.set()


class Own(local):
    """What belongs to each thread: the pools it has open, of which it uses the last."""

    def __init__(self) -> None:
        self.pools: list[Pool] = []
        self.is_sharing = False


_own = Own()
_one_blas_thread = OneBlasThread()


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads() -> int:
    """Return the number of threads measured to be good here: 2, or 1 on a single core."""
    return min(2, cores())


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Compute on `count` cores for the length of a with block.

    This holds for the thread that opens the block; other threads do not share their work. BLAS
    uses one thread in the whole process meanwhile. Outside of such a block nothing is shared, and
    BLAS uses as many threads as it likes. From the first block on, the process keeps the memory
    that it frees, up to 60 MB (`handcnn.kernels.memory`).

    Raises:
        ValueError: `count` is not a whole number of at least 1.
        HandcnnError: the system does not give so many threads.
    """
    is_whole = isinstance(count, int | np.integer) and not isinstance(count, bool)
    if not is_whole or count < 1:
        raise ValueError(f"use_threads expects a whole number of at least 1, got {count!r}")
    keep_freed_memory()
    pools, pool = _own.pools, Pool(int(count))
    pools.append(pool)
    try:
        with _one_blas_thread:
            yield
    finally:
        pools.remove(pool)  # not always the last: blocks may end in any order
        pool.close()


def share(work: Callable[[slice], Result], length: int, multiplications: int) -> list[Result]:
    """Cut range(length) into at most one part a thread and return what `work` gives for each.

    The caller does the first part, which is larger: the other threads must wake up first. All
    parts have ended when this returns or raises, also when Ctrl-C interrupts the waiting.

    Args:
        work: does one part. What it would share in turn is done by its own thread.
        length: of the range.
        multiplications: about how many it all takes; few are done in fewer parts.
    """
    pool = _own.pools[-1] if _own.pools and not _own.is_sharing else None
    count = 1
    if pool is not None and pool.process == os.getpid():
        count = min(pool.threads, length, multiplications // WAKING)
    if pool is None or count <= 1:
        return [work(slice(0, length))]
    parts = _parts(length, count, multiplications)
    results: list[Any] = [None] * count
    errors: list[BaseException] = []
    ended: list[int] = []
    wake: SimpleQueue[None] = SimpleQueue()

    def do(number: int) -> None:
        try:
            results[number] = work(parts[number])
        except BaseException as error:
            errors.append(error)
        ended.append(number)
        wake.put(None)

    handed_over = 0
    _own.is_sharing = True
    try:
        for number in range(1, count):  # in this context, to which numpy.errstate belongs
            pool.tasks.put(partial(copy_context().run, do, number))
            handed_over += 1
        results[0] = work(parts[0])
    finally:
        _own.is_sharing = False
        _wait_for(handed_over, ended, wake)
    if errors:
        raise errors[0]
    return results


def _parts(length: int, count: int, multiplications: int) -> list[slice]:
    """Cut range(length) so that all parts end together, although all but the first start late."""
    others = length * (multiplications - WAKING) / (count * multiplications)
    cuts = [0, *(round(length - others * number) for number in reversed(range(count)))]
    return [slice(start, stop) for start, stop in pairwise(cuts)]


def _wait_for(parts: int, ended: list[int], wake: "SimpleQueue[None]") -> None:
    """Wait until all parts have ended. Raise what interrupts the waiting only after that."""
    interrupt: BaseException | None = None
    while len(ended) < parts:
        try:
            wake.get()
        except BaseException as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt
