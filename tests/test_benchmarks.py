"""The benchmark times what is the same, in turns, and its statistics are right.

Oracles: figures worked out by hand; the float64 loops of `reference.py` for the loops that are
timed; networks spoilt on purpose, which the check before the timing must refuse. No test depends
on how long anything takes.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import reference
from threadpoolctl import threadpool_info

from benchmarks import cases, machine, naive, timing
from benchmarks.__main__ import main
from benchmarks.timing import Entry, Run
from handcnn import HandcnnError, Network
from handcnn.kernels.threads import use_threads
from handcnn.types import Array

ROOT = Path(__file__).parents[1]
QUICK = ["--quick", "--threads", "1", "--json"]


def nothing() -> None:
    pass


# Timing


def test_statistics_are_those_of_all_calls() -> None:
    turns = [[1.0, 2.0, 6.0], [5.0, 3.0, 11.0], [4.0, 4.0, 4.0]]
    assert timing.statistics(turns) == (1.0, 4.0)


def test_entries_take_turns_with_their_own_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = [0]

    @contextmanager
    def fake(count: int) -> Iterator[None]:
        threads.append(count)
        yield
        threads.pop()

    monkeypatch.setattr(timing, "thread_count", fake)
    monkeypatch.setattr(timing, "TURN", 0.0)  # one call to warm up, and one that counts
    calls: list[tuple[str, int]] = []
    a = Entry("a", 1, lambda: calls.append(("a", threads[-1])))
    b = Entry("b", 2, lambda: calls.append(("b", threads[-1])))
    times = timing.take_turns([a, b], seconds=0, rounds=2)
    assert calls == [("a", 1), ("a", 1), ("b", 2), ("b", 2)] * 3  # the first round is a warm-up
    assert [[len(turn) for turn in turns] for turns in times] == [[1, 1], [1, 1]]


def test_threads_are_set_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    torch = SimpleNamespace(set_num_threads=asked.append)
    monkeypatch.setitem(sys.modules, "torch", torch)

    def recorded(count: int) -> AbstractContextManager[None]:
        asked.append(count)
        return use_threads(count)

    def blas_threads() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    monkeypatch.setattr(timing, "use_threads", recorded)
    before = blas_threads()
    with timing.thread_count(2):
        assert asked == [2, 2]
        assert set(blas_threads()) == {1}
    assert blas_threads() == before


def test_times_are_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "take_turn", lambda run: [0.5, 0.25])
    entry = timing.enter("loops", 1, nothing, scale=32.0)
    assert timing.take_turns([entry], seconds=0, rounds=1) == [[[16.0, 8.0]]]


def test_the_fastest_form_is_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"slow": [3.0, 2.9], "fast": [9.0, 1.0], "middle": [2.0, 2.0]}
    monkeypatch.setattr(timing, "take_turn", lambda run: run())
    side: dict[str, Run] = {name: partial(list, calls) for name, calls in seconds.items()}
    entry = timing.enter("PyTorch", 1, side, scale=1.0)
    assert entry == Entry("PyTorch", 1, side["fast"], "fast")


@pytest.mark.parametrize(
    ("others", "load", "busy"), [((10.0, 110.0), 0.0, 2.0), ((None, None), 0.7, 0.7)]
)
def test_busy_neighbours_are_told(
    others: tuple[float | None, ...], load: float, busy: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "others_seconds", partial(next, iter([*others, others[1]])))
    monkeypatch.setattr(machine, "load_average", lambda: load)
    neighbours = machine.Neighbours()
    neighbours.start -= 50
    assert neighbours.busy_cores() == pytest.approx(busy, rel=0.1)
    assert f"other processes kept {busy} of" in neighbours.warning()


# The same?


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ({}, "z has shape (0,), in handcnn (3,)"),
        ({"z": [1.0, -4.0]}, "z has shape (2,), in handcnn (3,)"),
        ({"z": [1.0, -4.0, 0.001]}, "z differs by 2.5e-04 of its largest value, more than 2e-05"),
        ({"z": [1.0, -4.0, np.nan]}, "z differs by nan of its largest value, more than 2e-05"),
        ({"z": [1.0, -4.0, 0.00001], "more": [0.0]}, None),
    ],
)
def test_what_is_not_the_same_is_refused(
    theirs: dict[str, list[float]], message: str | None
) -> None:
    ours = {"z": np.array([1.0, -4.0, 0.0])}
    check = partial(cases.check_same, "PyTorch", {n: np.array(a) for n, a in theirs.items()}, ours)
    if message is None:
        check()
        return
    with pytest.raises(HandcnnError) as raised:
        check()
    assert str(raised.value) == f"not timed, because PyTorch computes something else: {message}"


def test_a_step_is_observed_in_all_its_parts() -> None:
    names = cases.documented(1.0).parameters()
    assert set(cases.observe(cases.documented, *cases.random_batch(4))) == {
        "the output",
        *(f"the gradient of {name}" for name in names),
        *(f"{name} after the step" for name in names),
    }


@pytest.mark.parametrize("way", ["forward", "backward", "update_params", "train_step"])
def test_a_wrong_network_is_refused(way: str) -> None:
    """Of two networks made, the first takes three calls, the second `train_step`."""
    spoilt = iter([way != "train_step", way == "train_step"])

    def make(learning_rate: float) -> Network:
        net = cases.documented(learning_rate)
        right = getattr(net, way)

        def wrong(*args: Array) -> object:
            result = right(*args)
            if result is not None:
                return 1.001 * result
            arrays = net.gradients() if way == "backward" else net.parameters()
            arrays["layer3.bias"] *= 1.001
            return None

        if next(spoilt):
            setattr(net, way, wrong)
        return net

    with pytest.raises(HandcnnError, match="not timed, because handcnn in three calls computes"):
        cases.observe(make, *cases.random_batch(4))


def test_the_documented_loops_take_the_documented_step() -> None:
    rng = np.random.default_rng(0)
    shapes = {
        "layer1": ((3, 2, 3, 3), (3, 1)),
        "layer2": ((3 * 3 * 2, 4), (1, 4)),
        "layer3": ((4, 3), (1, 3)),
    }
    start = {
        f"{layer}.{name}": rng.standard_normal(shape)
        for layer, pair in shapes.items()
        for name, shape in zip(("weights", "bias"), pair, strict=True)
    }
    x, y = rng.standard_normal((2, 2, 5, 4)), np.eye(3)[[2, 0]]
    parameters = {name: array.copy() for name, array in start.items()}

    y_pred, gradients = naive.train_step(parameters, x, y, s=2, p=1, learning_rate=0.5)

    np.testing.assert_allclose(y_pred, reference.network_forward(start, x, 2, 1), atol=1e-12)
    for name, expected in reference.network_gradients(start, x, y, 2, 1).items():
        np.testing.assert_allclose(gradients[name], expected, atol=1e-12, err_msg=name)
        updated = reference.updated(start[name], expected, 0.5)
        np.testing.assert_allclose(parameters[name], updated, atol=1e-12, err_msg=name)


# The whole


def test_it_runs_without_pytorch_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # cannot be imported
    file = tmp_path / "bench.json"
    assert main([*QUICK, str(file), "--only", "step", "predict", "output", "loops"]) == 0
    assert machine.INSTALL in capsys.readouterr().out
    written = json.loads(file.read_text())
    assert written["machine"]["torch"] is None
    assert [(row["case"], row["entry"]) for row in written["results"]] == [
        ("step-16", "handcnn"),
        ("step-16", "three calls"),
        ("predict", "handcnn"),
        ("predict", "three calls"),
        ("output-forward", "handcnn"),
        ("output-backward", "handcnn"),
        ("loops", "handcnn"),
        ("loops", "loops"),
    ]


def test_it_runs_against_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[bench]'")
    file = tmp_path / "bench.json"
    # In a process of its own: these tests must not load PyTorch's threads into the others.
    command = [sys.executable, "-m", "benchmarks", *QUICK, str(file)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    rows = json.loads(file.read_text())["results"]
    timed = {row["case"] for row in rows if row["entry"] == "PyTorch"}
    assert timed == {case.name for case in cases.all_cases(quick=True)} - {"loops"}
    medians = {(row["case"], row["entry"]): row["median"] for row in rows}
    for row in rows:
        calls = [call for turn in row["seconds"] for call in turn]
        assert row["minimum"] == pytest.approx(min(calls), abs=1e-8)
        assert row["median"] == pytest.approx(float(np.median(calls)), abs=1e-8)
        assert row["ratio"] == row["median"] / medians[row["case"], "handcnn"]


def test_an_unknown_case_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--only", "steps"])
    message = capsys.readouterr().err
    assert message.startswith("python -m benchmarks: --only steps: no case begins so; there are ")
    assert message.count("\n") == 1
