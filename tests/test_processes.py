"""Steps split between processes: the same bytes as with threads, and no process left over.

Oracle: the same steps on as many threads, which test_shared.py compares with literal calls. The
number of messages shows that the processes took part, so that no test compares threads with
themselves.
"""

import errno
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from builders import filled_network, random

from handcnn import Conv2D, HiddenLayer, InputLayer, MaxPool2D, Network, OutputLayer, ReLU
from handcnn.kernels import processes, threads
from handcnn.kernels.processes import Processes
from handcnn.kernels.threads import this_pool, use_threads
from handcnn.layers import ParameterLayer
from handcnn.models import NETWORKS
from handcnn.types import Array

pytestmark = pytest.mark.skipif(os.name != "posix", reason="threads do the work here")

SHAPE, CLASSES = (2, 17, 16), 4
PATIENCE = 60  # seconds; then a test fails instead of waiting forever
Make = Callable[[npt.DTypeLike], Network]


def every_layer(dtype: npt.DTypeLike = np.float32) -> Network:
    layers = [
        InputLayer(),
        ReLU(),
        Conv2D(2, 3, 3, padding=1, dtype=dtype),
        MaxPool2D(3, 2),
        Conv2D(3, 4, 3, stride=2, dtype=dtype),
        HiddenLayer(4 * 3 * 3, 5, dtype=dtype),
        OutputLayer(5, CLASSES, dtype=dtype),
    ]
    return filled_network(layers)


def named(name: str) -> Make:
    def make(dtype: npt.DTypeLike) -> Network:
        rng = np.random.default_rng(0)
        return NETWORKS[name](input_shape=SHAPE, classes=CLASSES, rng=rng, dtype=dtype)

    return make


MAKERS: list[Make] = [every_layer, *(named(name) for name in NETWORKS if name != "documented")]


def batch(n: int = 7, seed: int = 1) -> tuple[Array, Array]:
    return random((n, *SHAPE), seed), np.eye(CLASSES)[np.arange(n) * seed % CLASSES]


@pytest.fixture(autouse=True)
def _soon_and_with_few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start processes at the second step, on any machine, and split even small batches."""
    monkeypatch.setattr(processes, "START_AFTER", 0)
    monkeypatch.setattr(processes, "cores", lambda: 8)
    monkeypatch.setattr(threads, "WAKING_COST", 1)


@pytest.fixture(autouse=True)
def _no_process_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail if a process that was started still exists, even as one that nobody waited for."""
    started: list[int] = []

    class Recorded(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            started.append(self.pid)

    monkeypatch.setattr("handcnn.kernels.processes.subprocess.Popen", Recorded)
    yield
    for pid in started:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@contextmanager
def ready(count: int = 2) -> Iterator[Processes]:
    """Open a block with so many threads; yield its processes once they are ready."""
    with use_threads(count):
        net = every_layer()
        for _ in range(2):
            net.train_step(*batch())
        pool = this_pool()
        assert pool is not None
        found = pool.processes
        assert found is not None
        assert len(found.workers) == count - 1
        until(found.are_ready)
        yield found


def by_threads(steps: Callable[[], list[Array]], count: int = 2) -> list[Array]:
    """Return the result of these steps on threads alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "START_AFTER", 1e9)
        with use_threads(count):
            return steps()


def same(found: list[Array], expected: list[Array]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def ends(net: Network, *sizes: int) -> list[Array]:
    """Take a step with each number of images; return all predictions and the parameters."""
    y_preds = [net.train_step(*batch(n, seed)) for seed, n in enumerate(sizes, 1)]
    return [*y_preds, *net.parameters().values()]


# --- the same bytes ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 4])
def test_processes_give_the_same_bytes_as_threads(count: int) -> None:
    """With batches that grow and shrink, and one network after the other."""
    sizes = 7, 23, 4, 8, 9

    def steps() -> list[Array]:
        with np.errstate(all="ignore"):  # as in training
            return [
                array
                for dtype in (np.float32, np.float64)
                for make in MAKERS
                for array in ends(make(dtype), *sizes)
            ]

    with ready(count) as found:
        before, result = found.message, steps()
        assert found.message - before == len(sizes) * len(MAKERS) * 2
    same(result, by_threads(steps, count))


def test_fewer_images_than_threads() -> None:
    with ready(4) as found:
        before, result = found.message, ends(every_layer(), 2, 1, 3)
        assert found.message - before == 2  # a single image is not shared
    same(result, by_threads(lambda: ends(every_layer(), 2, 1, 3), 4))


def test_everything_may_change_between_two_steps() -> None:
    def steps() -> list[Array]:
        net, seen = every_layer(), []
        conv, hidden = net.layers[2], net.layers[5]
        assert isinstance(conv, Conv2D)
        assert isinstance(hidden, ParameterLayer)
        for change in range(6):
            if change == 1:
                conv.weights = 2 * conv.weights
            if change == 2:
                hidden.bias += 1
            if change == 3:
                net.set_learning_rate(0.1)
            if change == 4:
                net.layers[3] = MaxPool2D(4, 2)
            if change == 5:
                conv.padding = 2
                net.layers[3] = MaxPool2D(6, 2)
            seen.append(net.train_step(*batch()))
        return [*seen, *net.parameters().values()]

    with ready() as found:
        before, result = found.message, steps()
        assert found.message - before == 6
    same(result, by_threads(steps))


def test_images_and_labels_of_other_dtypes() -> None:
    def steps() -> list[Array]:
        net, (x, y) = every_layer(), batch()
        return [
            *(net.train_step((9 * x).astype(dtype), y) for dtype in ("u1", "?", "f2", ">f4")),
            net.train_step(x, y.astype(bool).astype(np.int64)),
            *net.parameters().values(),
        ]

    with ready() as found:
        before, result = found.message, steps()
        assert found.message - before == 5
    same(result, by_threads(steps))


def replaced(net: Network, x: Array) -> Array:
    layer = net.layers[1]
    layer.forward = np.abs  # type: ignore[method-assign, assignment]
    return x


def in_another_order(net: Network, x: Array) -> Array:
    hidden = net.layers[5]
    assert isinstance(hidden, ParameterLayer)
    hidden.weights = np.asfortranarray(hidden.weights)
    return x


@pytest.mark.parametrize(
    "change",
    [
        replaced,
        in_another_order,
        lambda _, x: np.asfortranarray(x),
        lambda _, x: x[:, :, ::-1],
        lambda _, x: np.ma.masked_array(x),
    ],
)
def test_what_a_process_might_compute_otherwise_stays_here(
    change: Callable[[Network, Array], Array],
) -> None:
    def steps() -> list[Array]:
        net, (x, y) = every_layer(), batch()
        return [net.train_step(change(net, x), y), *net.parameters().values()]

    with ready() as found:
        before, result = found.message, steps()
        assert found.message == before
    same(result, by_threads(steps))


def test_processes_that_compute_something_else_are_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They do not know what was replaced on a class here, or changed in a file since the import."""
    original = ReLU.forward
    monkeypatch.setattr(ReLU, "forward", lambda self, x: 2 * original(self, x))

    def steps() -> list[Array]:
        return ends(every_layer(), 7, 7)

    with use_threads(2):
        steps()
        pool = this_pool()
        assert pool is not None
        assert pool.processes is not None
        until(lambda: pool.processes is not None and pool.processes.are_ready())
        result = steps()
        assert not pool.processes.workers
    same(result, by_threads(steps))


def test_an_overflow_is_raised_wherever_it_happens() -> None:
    x, y = batch(7)
    x[-1] = 1e300  # in the part of the other process
    with ready(), np.errstate(all="raise"), pytest.raises(FloatingPointError):
        every_layer().train_step(x, y)


# --- what can go wrong ---------------------------------------------------------------------------


def killed(found: Processes) -> None:
    found.workers[0].kill()


def killed_later(found: Processes) -> None:
    """Kill the process when it has its message but has not answered."""
    pid = found.workers[0].pid
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(0.2, os.kill, [pid, signal.SIGKILL]).start()


def answering_nonsense(found: Processes) -> None:
    os.kill(found.workers[0].pid, signal.SIGSTOP)  # its results are not there
    pipe = found.workers[0].stdout
    assert pipe is not None
    pipe.close()
    found.workers[0].stdout = io.BytesIO(100 * b"nonsense")


class Full(io.BytesIO):
    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def without_room(found: Processes) -> None:
    found.file = Full()


def killed_and_not_closed(found: Processes) -> None:
    """Let closing the file raise, as when the disk has no room for what is in the buffer."""
    killed(found)
    found.opened.callback(Full().write, b"")


@pytest.mark.parametrize(
    "fault", [killed, killed_later, killed_and_not_closed, answering_nonsense, without_room]
)
def test_if_a_process_fails_threads_go_on(fault: Callable[[Processes], None]) -> None:
    with ready(3) as found:
        fault(found)
        result = ends(every_layer(), 7, 9, 9)
        assert not found.workers
    same(result, by_threads(lambda: ends(every_layer(), 7, 9, 9), 3))


@pytest.mark.parametrize(
    "program", ["exec sleep 1000", "exit 1", "exec echo more than eight bytes", None]
)
def test_processes_that_do_not_start(
    program: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "python"
    if program:
        path.write_text(f"#!/bin/sh\n{program}\n")
        path.chmod(0o755)
    with monkeypatch.context() as patch, use_threads(2):
        patch.setattr(sys, "executable", str(path))
        net, seen = every_layer(), []
        for seed in range(5):
            seen.append(net.train_step(*batch(7, seed)))
            time.sleep(0.02)
        pool = this_pool()
        assert pool is not None
        assert pool.processes is not None
        assert not pool.processes.are_ready()
    net = every_layer()
    same(seen, by_threads(lambda: [net.train_step(*batch(7, seed)) for seed in range(5)]))


def test_a_batch_that_does_not_fit_is_refused_as_ever() -> None:
    with ready() as found:
        with pytest.raises(
            ValueError, match=r"Conv2D\(2 -> 3, 3x3, padding 1\) expects x of shape"
        ):
            every_layer().train_step(random((7, 3, 17, 16), 0), batch()[1])
        with pytest.raises(ValueError, match="loss_gradient expects"):
            every_layer().train_step(batch()[0], np.zeros((7, 3)))
        result = ends(every_layer(), 7)
        assert not found.workers
    same(result, by_threads(lambda: ends(every_layer(), 7)))


@pytest.mark.parametrize("change", [False, True], ids=["same plan", "another plan"])
@pytest.mark.parametrize("is_waiting", [True, False], ids=["it waits", "it works"])
def test_ctrl_c_in_a_step_does_not_disturb_the_next(
    is_waiting: bool, change: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process answers the interrupted step when the next one has begun."""
    net = every_layer()
    dtype = np.float64 if change else np.float32
    before = [array.copy() for array in net.parameters().values()]
    original = Conv2D.forward

    def slowly(self: Conv2D, x: Array) -> Array:
        if threading.current_thread() is threading.main_thread() and not is_waiting:
            time.sleep(PATIENCE)  # Ctrl-C ends it
        return original(self, x)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with ready() as found:
            pid = found.workers[0].pid
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
            with monkeypatch.context() as patch:
                patch.setattr(Conv2D, "forward", slowly)
                with pytest.raises(KeyboardInterrupt):
                    net.train_step(*batch(23))
            same(list(net.parameters().values()), before)
            threading.Timer(0.1, os.kill, [pid, signal.SIGCONT]).start()
            message, result = found.message, ends(every_layer(dtype), 23, 20)
            assert found.message - message == 2
    finally:
        signal.signal(signal.SIGINT, handler)
    same(result, by_threads(lambda: ends(every_layer(dtype), 23, 20)))


# --- when processes live -------------------------------------------------------------------------


def test_a_few_steps_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [5, 5.9, 6.1]
    monkeypatch.setattr(processes, "START_AFTER", 1.0)
    monkeypatch.setattr("handcnn.kernels.processes.time.monotonic", lambda: times[0])
    with use_threads(3):
        net, counts = every_layer(), []
        while times:
            net.train_step(*batch())
            pool = this_pool()
            assert pool is not None
            assert pool.processes is not None
            counts.append(len(pool.processes.workers))
            times.pop(0)
    assert counts == [0, 0, 2]


@pytest.mark.parametrize(("cores", "count", "started"), [(1, 2, 0), (2, 2, 1), (2, 3, 0)])
def test_no_more_processes_than_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, count: int, started: int
) -> None:
    monkeypatch.setattr(processes, "cores", lambda: cores)
    with use_threads(count):
        for _ in range(3):
            every_layer().train_step(*batch())
        pool = this_pool()
        assert pool is not None
        assert pool.processes is not None
        assert len(pool.processes.workers) == started


def test_a_broken_pipe_must_not_end_this_process() -> None:
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        with use_threads(2):
            for _ in range(3):
                every_layer().train_step(*batch())
            pool = this_pool()
            assert pool is not None
            assert pool.processes is not None
            assert not pool.processes.workers
    finally:
        signal.signal(signal.SIGPIPE, before)


def test_ctrl_c_in_a_terminal_does_not_reach_them() -> None:
    with ready(3) as found:
        assert all(os.getsid(worker.pid) != os.getsid(0) for worker in found.workers)


def test_a_block_inside_a_block_has_processes_of_its_own() -> None:
    with ready(2) as outer:
        with ready(3) as inner:
            message = outer.message
            every_layer().train_step(*batch())
        assert outer.message == message
        assert not inner.workers
        every_layer().train_step(*batch())
        assert outer.message == message + 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_forked_process_leaves_them_alone() -> None:
    with ready() as found:
        pid = os.fork()
        if not pid:
            signal.alarm(PATIENCE)
            y_pred = every_layer().train_step(*batch())
            found.close()  # as at the end of its block
            os._exit(0 if np.isfinite(y_pred).all() and not found.are_ready() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        message, result = found.message, ends(every_layer(), 7)
        assert found.message == message + 1
    same(result, by_threads(lambda: ends(every_layer(), 7)))


def test_they_end_with_a_process_that_is_killed() -> None:
    code = (
        "import time, test_processes as t, pytest\n"
        "t.processes.START_AFTER, t.processes.cores, t.threads.WAKING_COST = 0, lambda: 8, 1\n"
        "with t.ready(3) as found:\n"
        "    print(*(worker.pid for worker in found.workers), flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path}\n{code}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = parent.stdout.readline().split()
        assert len(pids) == 2
        assert all(state(pid) for pid in pids)
        parent.kill()
    until(lambda: not any(map(state, pids)))


def state(pid: str) -> str:
    """Return what ps says of a process: nothing if it has ended, even if nobody waited for it."""
    command = ["ps", "-o", "stat=", "-p", pid]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.strip()
    return "" if found.startswith("Z") else found
