"""The benchmark: it times what is the same, in turns, and its statistics are right.

Oracles: figures worked out by hand; the loops of `reference.py`, in float64, for the loops that are
timed; arrays spoilt on purpose, which the check before the timing must refuse. No test looks at how
long anything took.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import reference

from benchmarks import cases, measure, naive
from benchmarks.__main__ import main
from handcnn import Conv2D, HandcnnError, HiddenLayer, InputLayer, Network, OutputLayer
from handcnn.kernels.threads import WAKING, share

ROOT = Path(__file__).parents[1]


def test_statistics_of_a_case_worked_by_hand() -> None:
    ours = [[1.0, 2.0, 6.0], [5.0, 3.0, 11.0], [4.0, 4.0, 4.0]]  # medians: 2, 5, 4, of all 4
    theirs = [[10.0, 9.0, 20.0], [15.0, 30.0, 12.0], [40.0]]  # medians: 10, 15, 40, of all 15
    assert measure.statistics(ours) == (1.0, 4.0)
    assert measure.statistics(theirs) == (9.0, 15.0)
    assert measure.ratio(theirs, ours) == 3.75
    assert measure.paired_ratio(theirs, ours) == 5.0  # of 5, 3 and 10


class FakeThreads(measure.Threads):
    """Only remembers how many threads it was asked for."""

    @contextmanager
    def limited(self, threads: int) -> Iterator[None]:
        self.count = threads
        yield


def test_contestants_take_turns_with_their_own_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "TURN", 0.0)  # one call a turn, and one to warm up
    monkeypatch.setattr(measure, "MOST_ROUNDS", 3)
    threads, calls = FakeThreads(), []
    a = measure.Contestant("a", 1, lambda: calls.append(("a", threads.count)))
    b = measure.Contestant("b", 2, lambda: calls.append(("b", threads.count)))
    times = measure.take_turns([a, b], threads, seconds=60, rounds=2)
    assert calls == [("a", 1), ("a", 1), ("b", 2), ("b", 2)] * 3  # the first round is not counted
    assert [[len(turn) for turn in turns] for turns in times] == [[1, 1], [1, 1]]


def test_threads_are_limited_and_given_back() -> None:
    threads = measure.Threads()
    before = [pool["num_threads"] for pool in threads.blas.info()]
    with threads.limited(2):
        assert all(pool["num_threads"] == 1 for pool in threads.blas.info())
        assert len(share(lambda part: part, 2, 9 * WAKING)) == 2
    assert len(share(lambda part: part, 2, 9 * WAKING)) == 1
    assert [pool["num_threads"] for pool in threads.blas.info()] == before


def test_times_are_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "take_turn", lambda run: [0.5, 0.25])
    contestant = measure.Contestant("loops", 1, lambda: None, scale=32.0)
    times = measure.take_turns([contestant], measure.Threads(), 0, rounds=1)
    assert times == [[[16.0, 8.0]]]


def test_the_fastest_form_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"slow": [3.0, 2.9], "fast": [9.0, 1.0], "middle": [2.0, 2.0]}
    monkeypatch.setattr(measure, "take_turn", lambda run: run())
    forms = {name: lambda name=name: seconds[name] for name in seconds}
    assert measure.fastest(forms) == "fast"


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ({}, "z has shape (0,), in handcnn (3,)"),
        ({"z": np.array([1.0, -4.0])}, "z has shape (2,), in handcnn (3,)"),
        (
            {"z": np.array([1.0, -4.0, 0.001])},
            "z differs by 2.5e-04 of its largest value, more than 2e-05",
        ),
        (
            {"z": np.array([1.0, -4.0, np.nan])},
            "z differs by nan of its largest value, more than 2e-05",
        ),
    ],
)
def test_what_is_not_the_same_is_not_timed(theirs: dict[str, np.ndarray], message: str) -> None:
    ours = {"z": np.array([1.0, -4.0, 0.0])}
    with pytest.raises(HandcnnError) as raised:
        cases.check_same("PyTorch", theirs, ours)
    expected = f"not timed, because PyTorch computes something else: {message}"
    assert str(raised.value) == expected


def test_what_is_the_same_but_for_rounding_passes() -> None:
    ours = {"z": np.array([1.0, -4.0, 0.0])}
    cases.check_same("PyTorch", {"z": np.array([1.0, -4.0, 0.00001]), "more": np.zeros(1)}, ours)


def test_a_step_is_observed_in_all_its_parts() -> None:
    net = cases.documented(cases.CHECKED_RATE)
    seen = cases.observe(net, *cases.random_batch(4))
    assert set(seen) == (
        {"the output"}
        | {f"the gradient of {name}" for name in net.parameters()}
        | {f"{name} after the step" for name in net.parameters()}
    )


@pytest.mark.parametrize("spoilt", ["forward", "backward", "update_params"])
def test_a_wrong_network_is_refused(spoilt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = cases.random_batch(4)
    ours = cases.observe(cases.documented(cases.CHECKED_RATE), x, y)
    cases.check_same(
        "unfolded", cases.observe(cases.unfolded(cases.documented(cases.CHECKED_RATE)), x, y), ours
    )
    right = getattr(OutputLayer, spoilt)

    def wrong(self: OutputLayer, *args: np.ndarray) -> object:
        result = right(self, *args)
        if spoilt == "update_params":
            self.bias *= 1.001
        return None if result is None else result * np.float32(1.001)

    monkeypatch.setattr(OutputLayer, spoilt, wrong)
    theirs = cases.observe(cases.documented(cases.CHECKED_RATE), x, y)
    with pytest.raises(HandcnnError, match="not timed, because"):
        cases.check_same("a wrong network", theirs, ours)


def test_the_documented_loops_take_the_documented_step() -> None:
    rng = np.random.default_rng(0)
    layers = [
        InputLayer(),
        Conv2D(2, 3, 3, stride=2, padding=1, learning_rate=0.5, rng=rng, dtype=np.float64),
        HiddenLayer(3 * 3 * 2, 4, 0.5, rng=rng, dtype=np.float64),
        OutputLayer(4, 3, 0.5, rng=rng, dtype=np.float64),
    ]
    net = Network(layers, input_shape=(2, 5, 4))
    for parameter in net.parameters().values():
        parameter[...] = rng.standard_normal(parameter.shape)
    x, y = rng.standard_normal((2, 2, 5, 4)), np.eye(3)[[2, 0]]
    start = {name: parameter.copy() for name, parameter in net.parameters().items()}

    y_pred, gradients = naive.step(net, x, y)

    np.testing.assert_allclose(y_pred, reference.network_forward(start, x, 2, 1), atol=1e-12)
    for name, expected in reference.network_gradients(start, x, y, 2, 1).items():
        np.testing.assert_allclose(gradients[name], expected, atol=1e-12, err_msg=name)
        updated = reference.updated(start[name], expected, 0.5)
        np.testing.assert_allclose(net.parameters()[name], updated, atol=1e-12, err_msg=name)


def test_it_runs_without_pytorch_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # cannot be imported
    file = tmp_path / "bench.json"
    only = ["step", "predict", "output", "loops"]
    assert main(["--quick", "--threads", "1", "--json", str(file), "--only", *only]) == 0
    assert "PyTorch is not installed" in capsys.readouterr().out
    written = json.loads(file.read_text())
    assert written["machine"]["torch"] is None
    assert [(row["case"], row["contestant"]) for row in written["results"]] == [
        ("step-16", "handcnn"),
        ("step-16", "unfolded"),
        ("predict", "handcnn"),
        ("predict", "unfolded"),
        ("output-forward", "handcnn"),
        ("output-backward", "handcnn"),
        ("loops", "handcnn"),
        ("loops", "loops"),
    ]


def test_it_runs_against_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[bench]'")
    file = tmp_path / "bench.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--threads", "1", "--json", str(file)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    rows = json.loads(file.read_text())["results"]
    timed = {row["case"] for row in rows if row["contestant"] == "PyTorch"}
    assert timed == {case.name for case in cases.all_cases(quick=True)} - {"loops"}
    for row in rows:
        calls = [call for turn in row["seconds"] for call in turn]
        assert row["minimum"] == pytest.approx(min(calls), abs=1e-8)
        assert row["median"] == pytest.approx(float(np.median(calls)), abs=1e-8)


def test_an_unknown_case_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--only", "steps"])
    message = capsys.readouterr().err
    assert message.startswith("python -m benchmarks: --only steps: no case begins so; there are ")
    assert message.count("\n") == 1
