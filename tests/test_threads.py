"""Work split between threads: every part once, the same numbers, and no thread left over.

For a training, the oracle is the same training with one thread.
"""

import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count, permutations
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import threadpoolctl
from builders import Geometry, batch, close, literal_step, network, refused, set_blas_threads
from threadpoolctl import threadpool_info

from handcnn import HandcnnError
from handcnn.kernels import threads
from handcnn.kernels.threads import WAKING_COST, default_threads, share, use_threads
from handcnn.types import Array

MUCH = 1000 * WAKING_COST
LIMIT = "threadpoolctl.ThreadpoolController.limit"


def who(_: slice) -> int:
    return threading.get_ident()


def start(part: slice) -> Any:
    return part.start


def parts(count: int = 3) -> int:
    """Return the number of parts into which work is cut for `count` threads."""
    return len(share(start, count, MUCH))


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    running = threading.active_count()
    yield
    assert threading.active_count() == running


# --- the same numbers ----------------------------------------------------------------------------


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Split even small work; return a list of the numbers of parts."""
    counts: list[int] = []

    def counting(work: Callable[[slice], Any], length: int, _: int) -> list[Any]:
        results = share(work, length, MUCH)
        counts.append(len(results))
        return results

    for module in ("convolution", "fused", "products"):
        monkeypatch.setattr(f"handcnn.kernels.{module}.share", counting)
    return counts


def training(count: int, stride: int) -> list[Array]:
    """Return all results of two literal and two fused steps with this many threads."""
    geometry = Geometry(N=30, C=2, H=9, W=7, s=stride, p=1, M=8, K=4)
    x, y = batch(geometry)
    net, fused, seen = network(geometry), network(geometry), []
    with use_threads(count):
        for _ in range(2):
            seen += [literal_step(net, x, y), *net.gradients().values()]
            seen += [fused.train_step(x, y), fused.predict_proba(x)]
        dout = y
        for layer in reversed(net.layers):
            dout = layer.backward(dout)
    return [*seen, dout, *net.parameters().values(), *fused.parameters().values()]


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_threads_change_nothing_but_rounding(shared: list[int], count: int, stride: int) -> None:
    expected = training(1, stride)
    assert set(shared) == {1}
    found = training(count, stride)
    assert max(shared) == count
    for a, b, again in zip(found, expected, training(count, stride), strict=True):
        close(a, b)
        np.testing.assert_array_equal(a, again)  # the same number of threads, the same bits


# --- the parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("waking_times", [0, 1.9, 2, 3, 4, 10, 1000])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 1000])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_parts_cover_the_range_in_order(length: int, count: int, waking_times: float) -> None:
    with use_threads(count):
        cut = share(lambda part: list(range(length))[part], length, int(waking_times * WAKING_COST))
    assert [number for part in cut for number in part] == list(range(length))
    assert 1 <= len(cut) <= max(1, min(count, length, waking_times))
    sizes = [len(part) for part in cut]
    assert all(sizes) or length == 0
    assert sizes[0] >= max(sizes) - 1  # the caller, which need not wake up, does most
    assert max(sizes[1:], default=0) - min(sizes[1:], default=0) <= 1


def test_much_work_is_shared_evenly_and_little_is_not_shared() -> None:
    with use_threads(4):
        much, some = (
            share(lambda part: part.stop - part.start, 1000, times * WAKING_COST)
            for times in (1000, 4)
        )
        assert share(who, 3, 2 * WAKING_COST - 1) == [threading.get_ident()]
        meeting = threading.Barrier(4, timeout=60)  # all four must arrive before any leaves
        idents = share(lambda part: (meeting.wait(), threading.get_ident())[1], 4, MUCH)
    assert max(much) - min(much) < 10
    assert some[0] > 2 * some[1]  # the caller works while the others wake up
    assert idents[0] == threading.get_ident()
    assert len(set(idents)) == 4  # each part has its own thread


@pytest.mark.parametrize("error", ["raise", "ignore"])
def test_the_error_handling_of_numpy_holds_in_every_thread(error: Any) -> None:
    with use_threads(2), np.errstate(over=error):
        assert share(lambda part: np.geterr()["over"], 2, MUCH) == [error, error]


def test_a_part_that_would_share_does_not_wait_for_others() -> None:
    with use_threads(2):
        assert share(lambda part: parts(2), 2, MUCH) == [1, 1]
        assert parts(2) == 2


def test_what_was_shared_is_let_go() -> None:
    with use_threads(2):
        array = np.zeros(10)
        share(lambda part, array=array: array[part].sum(), 10, MUCH)  # type: ignore[misc]
        held = weakref.ref(array)
        del array
        deadline = time.monotonic() + 10
        while held() is not None and time.monotonic() < deadline:
            time.sleep(0.001)
        assert held() is None


# --- blocks --------------------------------------------------------------------------------------


def test_blas_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes most of the time of a block. A module that was loaded since may bring another."""
    found: list[object] = []
    controller = threadpoolctl.ThreadpoolController

    def find() -> object:
        found.append(controller())
        return found[-1]

    monkeypatch.setattr(threadpoolctl, "ThreadpoolController", find)
    for name in ("new", "newer"):
        monkeypatch.setitem(sys.modules, name, sys)
        for _ in range(3):
            with use_threads(1):
                blas = [pool for pool in controller().info() if pool["user_api"] == "blas"]
                assert {pool["num_threads"] for pool in blas} == {1}
    assert len(found) == 2


def test_blocks_within_blocks_and_left_in_another_order() -> None:
    assert parts() == 1
    with use_threads(3):
        with use_threads(1):
            assert parts() == 1
        assert parts() == 3
    outer, inner = use_threads(2), use_threads(3)
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert parts() == 3
    inner.__exit__(None, None, None)
    assert parts() == 1


def test_a_pool_belongs_to_the_thread_that_opened_it() -> None:
    with use_threads(2), ThreadPoolExecutor(1) as executor:
        assert executor.submit(parts).result() == 1


def test_several_threads_may_share_at_once() -> None:
    """Each with its own pool, opened and closed while others use theirs."""

    def user(number: int) -> None:
        for _ in range(30):
            with use_threads(3):
                found = share(lambda part: (number, part.start), 3, MUCH)
            assert found == [(number, 0), (number, 1), (number, 2)]

    with ThreadPoolExecutor(4) as executor:
        list(executor.map(user, range(4), timeout=30))


def test_a_number_of_threads_as_numpy_counts_them() -> None:
    with use_threads(np.int64(2)):  # type: ignore[arg-type]
        assert parts() == 2


# --- BLAS ----------------------------------------------------------------------------------------


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture
def _two_blas_threads() -> Iterator[None]:
    """Give BLAS two threads. With the one of conftest.py, no change could be detected."""
    set_blas_threads(2)
    assert blas_threads() == {2}
    yield
    assert blas_threads() == {2}
    set_blas_threads(1)


@pytest.mark.usefixtures("_two_blas_threads")
@pytest.mark.parametrize("moves", sorted({*permutations(["here", "here", "there", "there"])}))
def test_blas_has_one_thread_from_the_first_to_enter_to_the_last_to_leave(
    moves: tuple[str, ...],
) -> None:
    """Whichever threads these are. A thread enters its block at its first move, leaves at its next.

    Both threads live until the end. An error ends the blocks.
    """
    error = MemoryError()
    with ThreadPoolExecutor(1) as executor:
        blocks = {"here": use_threads(2), "there": use_threads(2)}
        inside: set[str] = set()
        for where in moves:
            block = blocks[where]
            move = (
                partial(block.__exit__, MemoryError, error, None)
                if where in inside
                else block.__enter__
            )
            with suppress(MemoryError):
                move() if where == "here" else executor.submit(move).result()
            inside ^= {where}
            assert blas_threads() == ({1} if inside else {2})


@pytest.mark.parametrize("moment", ["set", "restored"])
def test_what_the_thread_that_holds_blas_raises_is_raised(
    monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Once waited forever for a thread that had died."""

    @contextmanager
    def failing(*_: object, **limit: object) -> Iterator[None]:
        if moment == "restored":
            yield
        raise RuntimeWarning("two OpenMP libraries")

    seen: list[str] = []

    def user() -> None:
        try:
            with use_threads(2):
                seen.append("inside")
        except RuntimeWarning as error:
            seen.append(str(error))

    running = threading.active_count()
    with monkeypatch.context() as patch:
        patch.setattr(LIMIT, failing)
        thread = threading.Thread(target=user, daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
    assert seen == ["inside"] * (moment == "restored") + ["two OpenMP libraries"]
    assert threading.active_count() == running
    with use_threads(2):  # no lock is held afterwards
        pass


# --- errors and Ctrl-C ---------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0, 1, 2])
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_an_error_in_any_part_is_raised_when_all_parts_have_ended(
    bad: int, error: type[BaseException]
) -> None:
    ended = []

    def work(part: slice) -> None:
        if part.start == bad:
            raise error("part")
        time.sleep(0.02)
        ended.append(part.start)

    with use_threads(3):
        with pytest.raises(error, match="part"):
            share(work, 3, MUCH)
        assert sorted(ended) == sorted({0, 1, 2} - {bad})
        assert parts() == 3


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to threads here")
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("is_waiting", [True, False], ids=["it waits", "it works"])
def test_ctrl_c_is_raised_when_all_parts_have_ended(is_waiting: bool, times: int) -> None:
    """Fails if the interrupt is raised at once: a part would write after it."""
    written = np.zeros(2)

    def work(part: slice) -> None:
        if part.start == 0:
            time.sleep(0 if is_waiting else 30)  # Ctrl-C ends it
        else:
            for _ in range(times):
                time.sleep(0.05)
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                time.sleep(0.05)
        written[part] = 1

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with use_threads(2):
            with pytest.raises(KeyboardInterrupt):
                share(work, 2, MUCH)
            assert written.tolist() == [is_waiting, 1]
            assert parts(2) == 2
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_just_as_a_part_ends_does_not_wait_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python can raise KeyboardInterrupt between any two instructions, also right after `get`."""
    raised: list[object] = []

    class Interrupted(SimpleQueue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            number = super().get(block, timeout)
            if not raised:
                raised.append(number)
                raise KeyboardInterrupt
            return number

    def caller() -> None:
        with use_threads(2):
            monkeypatch.setattr(threads, "SimpleQueue", Interrupted)
            try:
                share(start, 2, MUCH)
            except KeyboardInterrupt as error:
                raised.append(error)

    thread = threading.Thread(target=caller, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert len(raised) == 2


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_threads_that_cannot_be_started_leave_none_waiting(
    monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """The third thread is the one that limits BLAS to one thread."""
    running, start_thread, calls = threading.active_count(), threading.Thread.start, count(1)

    def limited(thread: threading.Thread) -> None:
        if next(calls) == failing:
            raise RuntimeError("can't start new thread")
        start_thread(thread)

    def enter() -> None:
        with use_threads(3):
            pass

    monkeypatch.setattr(threading.Thread, "start", limited)
    assert refused(enter, HandcnnError) == (
        "a thread cannot be started (can't start new thread); "
        "use fewer threads, or close other programs"
    )
    assert threading.active_count() == running
    assert parts() == 1
    with use_threads(3):
        assert parts() == 3


# --- processes -----------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_forked_process_does_its_work_alone() -> None:
    with use_threads(2), use_threads(2):
        assert parts(2) == 2
        pid = os.fork()
        if not pid:
            os._exit(parts(2))
        deadline = time.monotonic() + 20
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        assert os.waitstatus_to_exitcode(ended[1]) == 1  # a single part
        assert parts(2) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_process_forked_while_another_thread_enters_a_block_can_enter_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once waited forever for a lock of a thread that does not exist after the fork."""
    original = threadpoolctl.ThreadpoolController.limit
    is_entering, may_go_on = threading.Event(), threading.Event()

    def slowly(*args: Any, **limit: Any) -> Any:
        is_entering.set()
        assert may_go_on.wait(20)
        return original(*args, **limit)

    def other() -> None:
        with use_threads(2):
            pass

    monkeypatch.setattr(LIMIT, slowly)
    with ThreadPoolExecutor(1) as executor:
        entered = executor.submit(other)
        assert is_entering.wait(20)
        threading.Timer(0.05, may_go_on.set).start()  # the fork must wait for it
        pid = os.fork()
        if not pid:
            signal.alarm(20)
            with use_threads(2):
                os._exit(parts(2))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2
        entered.result()


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (2, 2), (3, 3), (16, 4)])
def test_the_default_is_a_thread_for_each_core_up_to_four(
    monkeypatch: pytest.MonkeyPatch, cores: int, expected: int
) -> None:
    monkeypatch.setattr(threads, "cores", lambda: cores)
    assert default_threads() == expected
