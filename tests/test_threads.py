"""Sharing between threads: every part once, the same numbers, and nothing left behind.

Where a network is trained, the oracle is the same training without sharing.
"""

import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from handcnn import Conv2D, HiddenLayer, InputLayer, Network, OutputLayer, loss_gradient
from handcnn.kernels import threads
from handcnn.kernels.threads import WAKING, default_threads, share, use_threads

RNG = np.random.default_rng(0)
MUCH = 1000 * WAKING
X, Y = RNG.random((30, 2, 9, 7)), np.eye(4)[RNG.integers(4, size=30)]


@pytest.fixture
def everything_shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Share what is too small to be worth it, too; return the numbers of parts so far."""
    counts = []

    def counting(work: Callable[[slice], object], length: int, _: int) -> list[object]:
        parts = share(work, length, MUCH)
        counts.append(len(parts))
        return parts

    for module in ("kernels.im2col", "folding", "kernels.products"):
        monkeypatch.setattr(f"handcnn.{module}.share", counting)
    return counts


def network(fold: bool, stride: int) -> Network:
    rng = np.random.default_rng(1)
    conv = Conv2D(2, 3, 3, stride, 1, 0.01, rng=rng, dtype=np.float64)
    layers = [
        InputLayer(),
        conv,
        Conv2D(3, 2, 2, 1, 1, 0.01, rng=rng, dtype=np.float64),
        HiddenLayer(int(2 * np.prod(np.array(conv.output_shape((2, 9, 7))[1:]) + 1)), 8, 0.01),
        OutputLayer(8, 4, 0.01),
    ]
    for layer in layers[3:]:
        layer.weights = rng.normal(0, 0.1, layer.weights.shape)
    return Network(layers, input_shape=(2, 9, 7), fold=fold)


def trained(count: int, fold: bool, stride: int) -> list[np.ndarray]:
    """Return all that can be seen of three steps with so many threads."""
    seen = []
    net = network(fold, stride)
    with use_threads(count):
        for _ in range(3):
            y_pred = net.forward(X)
            net.backward(loss_gradient(y_pred, Y))
            dx = net.layers[1].backward(
                net.layers[2].backward(
                    net.layers[3].backward(net.layers[4].backward(loss_gradient(y_pred, Y)))
                )
            )
            seen += [y_pred, dx, *net.gradients().values()]
            net.update_params()
        seen += [net.predict_proba(X), *net.parameters().values()]
    return [array.copy() for array in seen]


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_threads_change_nothing_but_rounding(
    everything_shared: list[int], count: int, fold: bool, stride: int
) -> None:
    expected = trained(1, fold, stride)
    assert set(everything_shared) == {1}
    found = trained(count, fold, stride)
    assert max(everything_shared) == count
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    for a, b in zip(found, trained(count, fold, stride), strict=True):
        np.testing.assert_array_equal(a, b)  # the same number of threads, the same bits


@pytest.mark.parametrize("length", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_every_part_is_done_once_and_returned_in_order(length: int, count: int) -> None:
    with use_threads(count):
        parts = share(lambda part: list(range(length))[part], length, MUCH)
    assert [number for part in parts for number in part] == list(range(length))
    assert len(parts) == min(count, length)
    sizes = {len(part) for part in parts}
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("waking_times", "count", "expected"),
    [
        (1.9, 4, [1000]),
        (2, 4, [750, 250]),  # as long as one wakes up and does a quarter, the other does the rest
        (4, 2, [625, 375]),
        (10, 2, [550, 450]),
        (10, 4, [325, 225, 225, 225]),
        (1000, 4, [251, 249, 250, 250]),
    ],
)
def test_who_has_to_wake_up_gets_less(waking_times: float, count: int, expected: list[int]) -> None:
    with use_threads(count):
        parts = share(lambda part: part, 1000, int(waking_times * WAKING))
    assert [part.stop - part.start for part in parts] == expected


def who(_: slice) -> int:
    time.sleep(0.01)
    return threading.get_ident()


def test_each_part_has_a_thread_of_its_own() -> None:
    with use_threads(3):
        idents = share(who, 3, MUCH)
    assert idents[0] == threading.get_ident()
    assert len(set(idents)) == 3


def test_little_work_is_not_shared() -> None:
    with use_threads(3):
        assert share(who, 3, 2 * WAKING - 1) == [threading.get_ident()]


def test_nothing_is_shared_unless_asked_for() -> None:
    assert share(who, 3, MUCH) == [threading.get_ident()]
    with use_threads(3):
        with use_threads(1):
            assert len(share(who, 3, MUCH)) == 1
        assert len(share(who, 3, MUCH)) == 3
    assert len(share(who, 3, MUCH)) == 1


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_blas_has_one_thread_meanwhile_and_no_thread_stays() -> None:
    before, running = blas_threads(), threading.active_count()
    with use_threads(3):
        assert blas_threads() == {1}
        assert threading.active_count() == running + 2
    assert blas_threads() == before
    assert threading.active_count() == running


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_an_error_in_any_part_is_raised_when_all_parts_have_ended(bad: int) -> None:
    ended = []

    def work(part: slice) -> None:
        if part.start == bad:
            raise MemoryError("part")
        time.sleep(0.02)
        ended.append(part.start)

    with use_threads(3):
        with pytest.raises(MemoryError, match="part"):
            share(work, 3, MUCH)
        assert sorted(ended) == sorted({0, 1, 2} - {bad})
        assert share(lambda part: part.start, 3, MUCH) == [0, 1, 2]


@pytest.mark.parametrize("error", ["raise", "ignore"])
def test_the_error_handling_of_numpy_holds_in_every_thread(error: str) -> None:
    def work(part: slice) -> object:
        return np.geterr()["over"]

    with use_threads(2), np.errstate(over=error):
        assert share(work, 2, MUCH) == [error, error]


def test_several_threads_may_share_at_once() -> None:
    """Each with a pool of its own, opened and closed while others use theirs."""
    results = {}

    def user(number: int) -> None:
        for _ in range(30):
            with use_threads(3):
                parts = share(lambda part: (number, part.start), 3, MUCH)
            results.setdefault(number, []).append(parts)

    users = [threading.Thread(target=user, args=(number,), daemon=True) for number in range(4)]
    for thread in users:
        thread.start()
    for thread in users:
        thread.join(timeout=30)
        assert not thread.is_alive()
    for number in range(4):
        assert results[number] == [[(number, 0), (number, 1), (number, 2)]] * 30


def test_a_pool_belongs_to_the_thread_that_opened_it() -> None:
    seen = []
    with use_threads(2):
        other = threading.Thread(target=lambda: seen.extend(share(who, 2, MUCH)))
        other.start()
        other.join()
    assert seen == [other.ident]


def test_a_part_that_would_share_does_not_wait_for_others() -> None:
    with use_threads(2):
        assert share(lambda part: len(share(who, 2, MUCH)), 2, MUCH) == [1, 1]
        assert len(share(who, 2, MUCH)) == 2


def test_what_was_shared_is_let_go() -> None:
    with use_threads(2):
        array = np.zeros(10)
        share(lambda part, array=array: array[part].sum(), 10, MUCH)
        held = weakref.ref(array)
        del array
        deadline = time.monotonic() + 10
        while held() is not None and time.monotonic() < deadline:
            time.sleep(0.001)
        assert held() is None


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
