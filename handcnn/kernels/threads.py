"""Split one computation between Python threads, to use several cores.

In a longer training, `handcnn.kernels.processes` splits the steps that are not fused instead.

NumPy lets other threads run while it computes, so a part that takes some tenths of a millisecond
is worth handing to another thread. BLAS threads are not used: they spin while they wait for work,
and on a busy machine all of them then wait for one that cannot run. The threads here sleep.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import lru_cache, partial
from itertools import pairwise
from queue import SimpleQueue
from threading import Event, Lock, Thread, local
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from handcnn.errors import HandcnnError
from handcnn.kernels.memory import keep_freed_memory

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

    from handcnn.kernels.processes import Processes

Result = TypeVar("Result")

# In multiplications that take as long
WAKING_COST = 2_500_000  # of waking another thread
MOVING_COST = 16  # of moving one number through memory


class Pool:
    """Threads that wait for tasks until the pool is closed."""

    def __init__(self, threads: int) -> None:
        self.threads = threads  # includes the thread that calls `share`
        self.process = os.getpid()  # after a fork, the new process has no helpers
        self.processes: Processes | None = None  # see handcnn.kernels.processes
        self.tasks: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self.helpers: list[Thread] = []
        try:
            for _ in range(threads - 1):
                self.helpers.append(started(self._help))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the threads and the processes, and wait for them."""
        try:
            if self.processes is not None:
                self.processes.close()
        finally:
            for _ in self.helpers:
                self.tasks.put(None)
            for helper in self.helpers:
                helper.join()

    def _help(self) -> None:
        while task := self.tasks.get():
            task()
            del task  # frees its arrays before waiting for the next task


def started(work: Callable[[], object]) -> Thread:
    """Start and return a daemon thread that does this work.

    Raises:
        HandcnnError: the system cannot start another thread.
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
    """Limit BLAS to one thread while any thread is inside the with block.

    BLAS has one setting for the whole process. The first thread to enter sets it, and the last to
    leave restores it. threadpoolctl requires that one thread does both and lives until then, so
    this class starts a thread just for that.
    """

    def __init__(self) -> None:
        self.lock, self.users = Lock(), 0
        if hasattr(os, "register_at_fork"):  # no fork while another thread enters or leaves
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
        """Forget the blocks of other threads, which do not exist in the new process."""
        self.users = len(_this_thread.pools)
        self.lock.release()

    def _hold(self) -> None:
        try:
            with _blas(len(sys.modules)).limit(limits=1, user_api="blas"):
                self.is_set.set()
                self.is_over.wait()
        except BaseException as error:
            self.fault = error
        finally:
            self.is_set.set()


@lru_cache(1)
def _blas(modules: int) -> "ThreadpoolController":
    """Return what limits BLAS. It takes 3 ms to find, and can change only with new modules."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


class OfThisThread(local):
    """What each thread has for itself: its open pools, of which it uses the last."""

    def __init__(self) -> None:
        self.pools: list[Pool] = []
        self.is_sharing = False


_this_thread = OfThisThread()
_one_blas_thread = OneBlasThread()


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads() -> int:
    """Return the default number of threads: one for each core, up to 4.

    With 8, the short steps of `lenet` would be no faster, and take twice the processor time.
    """
    return min(4, cores())


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Use `count` threads for the computations inside a with block.

    Only the thread that opens the block splits its work. Meanwhile, BLAS uses one thread in the
    whole process. Outside the block no work is split, and BLAS uses its own number of threads.
    From the first block on, the process keeps up to 60 MB of the memory that it frees
    (`handcnn.kernels.memory`).

    Threads wait for Python's lock, processes do not. So in a block that trains a network for more
    than a second, all parts of a step but the first are computed in `count - 1` processes, with the
    same results. They take 20 to 50 MB each and end with the block. Threads do the work where
    processes cannot: for fused steps, predictions and custom layers, on Windows, and with more
    threads than cores. A process uses handcnn as it is on the disk. Its first step is compared with
    that of threads, and if they differ, threads do all the work. Do not replace functions of
    handcnn later in the block.

    Raises:
        ValueError: `count` is not a whole number of at least 1.
        HandcnnError: the system cannot start so many threads.
    """
    is_whole = isinstance(count, int | np.integer) and not isinstance(count, bool)
    if not is_whole or count < 1:
        raise ValueError(f"use_threads expects a whole number of at least 1, got {count!r}")
    keep_freed_memory()
    pools, pool = _this_thread.pools, Pool(int(count))
    pools.append(pool)
    try:
        with _one_blas_thread:
            yield
    finally:
        pools.remove(pool)  # not always the last one: blocks may end in any order
        pool.close()


def share(work: Callable[[slice], Result], length: int, multiplications: int) -> list[Result]:
    """Cut range(length) into at most one part per thread; return the results of `work` in order.

    The calling thread does the first part, which is larger because the other threads must wake up
    first. All parts have ended when this returns or raises, even if Ctrl-C interrupts the waiting.

    Args:
        work: does one part. A nested `share` inside it is not split further.
        length: of the range.
        multiplications: roughly how many there are in total; if few, there are fewer parts.
    """
    pool, parts = this_pool(), split(length, multiplications)
    if pool is None or len(parts) == 1:
        return [work(parts[0])]
    results: list[Any] = [None] * len(parts)
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
    _this_thread.is_sharing = True
    try:
        for number in range(1, len(parts)):  # in a copy of this context, with its numpy.errstate
            pool.tasks.put(partial(copy_context().run, do, number))
            handed_over += 1
        results[0] = work(parts[0])
    finally:
        _this_thread.is_sharing = False
        _wait_for(handed_over, ended, wake)
    if errors:
        raise errors[0]
    return results


def this_pool() -> Pool | None:
    """Return the pool that this thread may use now: none without a block, or inside a part."""
    if not _this_thread.pools or _this_thread.is_sharing:
        return None
    pool = _this_thread.pools[-1]
    return pool if pool.process == os.getpid() else None


@contextmanager
def unshared() -> Iterator[None]:
    """Do one part: what it computes is not split further."""
    _this_thread.is_sharing = True
    try:
        yield
    finally:
        _this_thread.is_sharing = False


def split(length: int, multiplications: int) -> list[slice]:
    """Return the parts into which `share` cuts range(length). None is empty unless the length is 0.

    All parts end together, although only the first starts at once.
    """
    pool = this_pool()
    count = min(pool.threads, length, multiplications // WAKING_COST) if pool else 1
    if count <= 1:
        return [slice(0, length)]
    others = length * (multiplications - WAKING_COST) / (count * multiplications)
    cuts = [0, *(round(length - others * number) for number in reversed(range(count)))]
    return [slice(start, stop) for start, stop in pairwise(cuts) if start < stop]


def _wait_for(parts: int, ended: list[int], wake: "SimpleQueue[None]") -> None:
    """Wait until all parts have ended. If Ctrl-C interrupts the waiting, raise it only then."""
    interrupt: BaseException | None = None
    while len(ended) < parts:
        try:
            wake.get()
        except BaseException as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt
