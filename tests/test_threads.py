"""Sharing between threads: every part once, the same numbers, and nothing left behind.

Where a network is trained, the oracle is the same training without sharing.
"""

import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
from builders import Geometry, batch, close, filled_network, network, refused, set_blas_threads
from threadpoolctl import threadpool_info

from handcnn import (
    Conv2D,
    HandcnnError,
    HiddenLayer,
    InputLayer,
    Network,
    OutputLayer,
    loss_gradient,
)
from handcnn.kernels import threads
from handcnn.kernels.threads import WAKING, default_threads, share, use_threads
from handcnn.types import Array

MUCH = 1000 * WAKING


def who(_: slice) -> int:
    time.sleep(0.01)
    return threading.get_ident()


def start(part: slice) -> Any:
    return part.start


# --- the same numbers ----------------------------------------------------------------------------


@pytest.fixture
def everything_shared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Share what is too small to be worth it, too; return the numbers of parts so far."""
    counts: list[int] = []

    def counting(work: Callable[[slice], Any], length: int, _: int) -> list[Any]:
        parts = share(work, length, MUCH)
        counts.append(len(parts))
        return parts

    for module in ("convolution", "fused", "products"):
        monkeypatch.setattr(f"handcnn.kernels.{module}.share", counting)
    return counts


def two_convolutions(stride: int) -> Network:
    conv = Conv2D(2, 3, 3, stride, 1, 0.01, dtype=np.float64)
    _, h, w = conv.output_shape((2, 9, 7))
    layers = [
        InputLayer(),
        conv,
        Conv2D(3, 2, 2, 1, 1, 0.01, dtype=np.float64),
        HiddenLayer(2 * (h + 1) * (w + 1), 8, 0.01, dtype=np.float64),
        OutputLayer(8, 4, 0.01, dtype=np.float64),
    ]
    return filled_network(layers)


def trained(count: int, stride: int) -> list[Array]:
    """Return all that can be seen of two literal and two fused steps with so many threads."""
    geometry = Geometry(n=30, c=2, h=9, w=7, s=stride, p=1, m=8, classes=4)
    x, y = batch(geometry)
    seen = []
    with use_threads(count):
        net = two_convolutions(stride)
        for _ in range(2):
            y_pred = net.forward(x)
            dout = loss_gradient(y_pred, y)
            for layer in reversed(net.layers):
                dout = layer.backward(dout)
            seen += [y_pred, dout, *net.gradients().values()]
            net.update_params()
        fused = network(geometry)
        seen += [fused.train_step(x, y), fused.train_step(x, y), fused.predict_proba(x)]
        seen += [*net.parameters().values(), *fused.parameters().values()]
    return seen


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_threads_change_nothing_but_rounding(
    everything_shared: list[int], count: int, stride: int
) -> None:
    expected = trained(1, stride)
    assert set(everything_shared) == {1}
    found = trained(count, stride)
    assert max(everything_shared) == count
    for a, b, again in zip(found, expected, trained(count, stride), strict=True):
        close(a, b)
        np.testing.assert_array_equal(a, again)  # the same number of threads, the same bits


# --- the parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("waking_times", [0, 1.9, 2, 4, 10, 1000])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 1000])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_parts_cover_the_range_in_order(length: int, count: int, waking_times: float) -> None:
    with use_threads(count):
        parts = share(lambda part: list(range(length))[part], length, int(waking_times * WAKING))
    assert [number for part in parts for number in part] == list(range(length))
    assert 1 <= len(parts) <= max(1, min(count, length, waking_times))
    sizes = [len(part) for part in parts]
    assert sizes[0] >= max(sizes) - 1  # who need not wake up does at least as much as anybody
    assert max(sizes[1:], default=0) - min(sizes[1:], default=0) <= 1


def test_much_work_is_shared_evenly_and_little_is_not_shared() -> None:
    with use_threads(4):
        much, some = (
            share(lambda part: part.stop - part.start, 1000, times * WAKING) for times in (1000, 4)
        )
        assert share(who, 3, 2 * WAKING - 1) == [threading.get_ident()]
    assert max(much) - min(much) < 10
    assert some[0] > 2 * some[1]  # it works while the others wake up


def test_each_part_has_a_thread_of_its_own() -> None:
    with use_threads(3):
        idents = share(who, 3, MUCH)
    assert idents[0] == threading.get_ident()
    assert len(set(idents)) == 3


@pytest.mark.parametrize("error", ["raise", "ignore"])
def test_the_error_handling_of_numpy_holds_in_every_thread(error: Any) -> None:
    with use_threads(2), np.errstate(over=error):
        assert share(lambda part: np.geterr()["over"], 2, MUCH) == [error, error]


def test_a_part_that_would_share_does_not_wait_for_others() -> None:
    with use_threads(2):
        assert share(lambda part: len(share(who, 2, MUCH)), 2, MUCH) == [1, 1]
        assert len(share(who, 2, MUCH)) == 2


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


@pytest.mark.parametrize("count", [0, -1, True, False, 1.5, "2", None])
def test_other_numbers_of_threads_are_refused(count: Any) -> None:
    def enter() -> None:
        with use_threads(count):
            pass

    running = threading.active_count()
    assert refused(enter) == f"use_threads expects a whole number of at least 1, got {count!r}"
    assert threading.active_count() == running


def test_a_number_of_threads_as_numpy_counts_them() -> None:
    with use_threads(np.int64(2)):  # type: ignore[arg-type]
        assert len(share(who, 2, MUCH)) == 2


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_threads_that_cannot_be_started_leave_none_waiting(
    monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """The third is the one that holds BLAS to one thread."""
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
    assert len(share(who, 2, MUCH)) == 1
    with use_threads(3):
        assert len(share(who, 3, MUCH)) == 3


@pytest.mark.parametrize("moment", ["set", "restored"])
def test_what_the_thread_that_holds_blas_raises_is_raised(
    monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Seen to wait for ever, for a thread that had died."""

    @contextmanager
    def failing(*_: object) -> Iterator[None]:
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
        patch.setattr("threadpoolctl.threadpool_limits", failing)
        thread = threading.Thread(target=user, daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
    assert seen == ["inside"] * (moment == "restored") + ["two OpenMP libraries"]
    assert threading.active_count() == running
    with use_threads(2):  # the next one finds no lock held
        pass


def test_nothing_is_shared_outside_a_block_and_the_inner_block_counts() -> None:
    assert share(who, 3, MUCH) == [threading.get_ident()]
    with use_threads(3):
        with use_threads(1):
            assert len(share(who, 3, MUCH)) == 1
        assert len(share(who, 3, MUCH)) == 3
    assert len(share(who, 3, MUCH)) == 1


def test_a_pool_belongs_to_the_thread_that_opened_it() -> None:
    seen: list[int] = []
    with use_threads(2):
        other = threading.Thread(target=lambda: seen.extend(share(who, 2, MUCH)))
        other.start()
        other.join()
    assert seen == [other.ident]


def test_blocks_may_be_left_in_another_order_than_they_were_entered() -> None:
    running = threading.active_count()
    outer, inner = use_threads(2), use_threads(3)
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert len(share(who, 3, MUCH)) == 3
    inner.__exit__(None, None, None)
    assert len(share(who, 3, MUCH)) == 1
    assert threading.active_count() == running


def test_several_threads_may_share_at_once() -> None:
    """Each with a pool of its own, opened and closed while others use theirs."""
    results: dict[int, list[Any]] = {number: [] for number in range(4)}

    def user(number: int) -> None:
        for _ in range(30):
            with use_threads(3):
                results[number].append(share(lambda part: (number, part.start), 3, MUCH))

    users = [threading.Thread(target=user, args=(number,), daemon=True) for number in range(4)]
    for thread in users:
        thread.start()
    for thread in users:
        thread.join(timeout=30)
        assert not thread.is_alive()
    for number in range(4):
        assert results[number] == [[(number, 0), (number, 1), (number, 2)]] * 30


# --- BLAS ----------------------------------------------------------------------------------------


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture
def _two_blas_threads() -> Iterator[None]:
    """Give BLAS two threads before; conftest.py leaves it one, which nothing could tell apart."""
    set_blas_threads(2)
    assert blas_threads() == {2}
    yield
    set_blas_threads(1)


@pytest.mark.usefixtures("_two_blas_threads")
def test_blas_has_one_thread_meanwhile_and_no_thread_stays() -> None:
    running = threading.active_count()
    with use_threads(3):
        assert blas_threads() == {1}
        with use_threads(2):
            pass
        assert blas_threads() == {1}
    assert blas_threads() == {2}
    with pytest.raises(MemoryError), use_threads(3):
        raise MemoryError
    assert blas_threads() == {2}
    assert threading.active_count() == running


@pytest.mark.usefixtures("_two_blas_threads")
@pytest.mark.parametrize(
    "moves",
    [  # each thread enters its block with its first move and leaves it with its second
        pytest.param("here there there here"),
        pytest.param("there here here there"),
        pytest.param("here there here there"),
        pytest.param("there here there here"),
        pytest.param("here here there there"),
        pytest.param("there there here here"),
    ],
)
def test_blas_has_one_thread_from_the_first_to_enter_to_the_last_to_leave(moves: str) -> None:
    """Whichever thread that is, and while both threads live."""
    with ThreadPoolExecutor(1) as executor:
        run: dict[str, Callable[[Callable[[], object]], object]] = {
            "here": lambda move: move(),
            "there": lambda move: executor.submit(move).result(),
        }
        blocks = {where: use_threads(2) for where in run}
        entered: set[str] = set()
        for where in moves.split():
            if where in entered:
                run[where](partial(blocks[where].__exit__, None, None, None))
                entered.remove(where)
            else:
                run[where](blocks[where].__enter__)
                entered.add(where)
            assert blas_threads() == ({1} if entered else {2})


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
        assert share(start, 3, MUCH) == [0, 1, 2]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to threads here")
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("is_waiting", [True, False], ids=["it waits", "it works"])
def test_ctrl_c_is_raised_when_all_parts_have_ended(is_waiting: bool, times: int) -> None:
    """Seen to fail where the interrupt was let through at once: a part wrote after it."""
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
            assert share(start, 2, MUCH) == [0, 1]
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_just_as_a_part_ends_does_not_wait_forever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python raises KeyboardInterrupt between two instructions, also right behind `get`."""
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
    thread.join(1)
    assert not thread.is_alive()
    assert len(raised) == 2


# --- processes -----------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_forked_process_does_its_work_alone() -> None:
    with use_threads(2):
        with use_threads(2):
            share(who, 2, MUCH)
            pid = os.fork()
        if not pid:
            os._exit(len(share(who, 2, MUCH)))
        deadline = time.monotonic() + 20
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        assert os.waitstatus_to_exitcode(ended[1]) == 1  # part
        assert len(share(who, 2, MUCH)) == 2


def test_the_default_is_two_threads_where_there_are_two_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for cores, expected in ((1, 1), (2, 2), (16, 2)):
        monkeypatch.setattr(threads, "cores", lambda cores=cores: cores)
        assert default_threads() == expected
