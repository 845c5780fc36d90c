"""One computation on several processor cores: each takes a part of it in a Python thread.

NumPy lets other threads run while it computes, so a part that takes some tenths of a millisecond
is worth handing over. The threads of BLAS are not used: they spin while they wait for work, and
where another program wants the core, everybody waits for the one that cannot run. Those here sleep.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from threading import Thread, local
from typing import Any, NamedTuple, TypeVar

Result = TypeVar("Result")
Tasks = SimpleQueue[Callable[[], object] | None]

# Multiplications that take as long as it takes another thread to wake up.
WAKING = 2_500_000
MOVED = 16  # so many multiplications take as long as moving a number through memory


class Pool(NamedTuple):
    """Threads that wait for tasks."""

    tasks: Tasks
    threads: int  # the one that hands over included
    process: int  # a fork leaves them behind


class Own(local):
    """What belongs to each thread: the pool it has opened."""

    pool: Pool | None = None


_own = Own()


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads() -> int:
    """Return how many threads are known to be good here: 2, or 1 where there is one core only."""
    return min(2, cores())


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Share what is worth it between `count` threads, for the length of a with block.

    It holds for the thread that opens it: what others compute meanwhile is not shared. BLAS, which
    knows no such difference, computes in the thread that calls it. Without this context nothing is
    shared, and BLAS does as it likes.
    """
    from threadpoolctl import threadpool_limits

    tasks: Tasks = SimpleQueue()
    before = _own.pool
    helpers = [Thread(target=_help, args=(tasks,), daemon=True) for _ in range(count - 1)]
    for helper in helpers:
        helper.start()
    _own.pool = Pool(tasks, count, os.getpid())
    try:
        with threadpool_limits(1, "blas"):
            yield
    finally:
        _own.pool = before
        for _ in helpers:
            tasks.put(None)
        for helper in helpers:
            helper.join()


def share(work: Callable[[slice], Result], length: int, multiplications: int) -> list[Result]:
    """Cut range(length) into a part for each thread and return what `work` gives for the parts.

    The first part is the caller's, and larger, so that all end together: the others wake up first.

    Args:
        work: does one part, which may be empty; what it would share, its thread does alone.
        length: of what is cut.
        multiplications: about how many it takes altogether; few are done in fewer parts, or in one.
    """
    pool, count = _own.pool, 1
    if pool is not None and pool.process == os.getpid():
        count = min(pool.threads, length, multiplications // WAKING)
    if pool is None or count <= 1:
        return [work(slice(0, length))]
    others = length * (multiplications - WAKING) / (count * multiplications)  # the length of one
    cuts = [0, *(round(length - others * number) for number in reversed(range(count)))]
    results: list[Any] = [None] * count
    errors: SimpleQueue[BaseException | None] = SimpleQueue()

    def do(number: int) -> None:
        try:
            results[number] = work(slice(cuts[number], cuts[number + 1]))
        except BaseException as error:
            errors.put(error)
        else:
            errors.put(None)

    for number in range(1, count):  # in this context: what numpy.errstate has set belongs to it
        pool.tasks.put(partial(copy_context().run, do, number))
    _own.pool = None
    do(0)
    _own.pool = pool
    for error in [errors.get() for _ in results]:
        if error is not None:
            raise error
    return results


def _help(tasks: Tasks) -> None:
    while task := tasks.get():
        task()
        del task  # and the arrays that it knows, before waiting for the next
