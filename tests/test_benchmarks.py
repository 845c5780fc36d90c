"""The benchmarks time equal computations, in turns, and print what they measured.

Oracles: figures computed by hand; the float64 loops of `reference.py` for the timed loops; networks
that are wrong on purpose, which the check before the timing must refuse; and train.py for the same
training in PyTorch. No test depends on how long anything takes.
"""

import copy
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import reference
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC
from threadpoolctl import threadpool_info

import train
from benchmarks import __main__, cases, estimators, machine, naive, photographs, record, timing
from benchmarks.drawing import load_strokes
from data import load_dataset
from handcnn import (
    Conv2D,
    HandcnnError,
    HiddenLayer,
    InputLayer,
    Network,
    OutputLayer,
    load_network,
)
from handcnn.kernels.threads import cores, use_threads
from handcnn.types import Array

ROOT = Path(__file__).parents[1]
FEW = ["--dataset", "digits", "--limit", "130", "--epochs", "2", "--threads", "1"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a temporary folder, so that results are written there."""
    monkeypatch.chdir(tmp_path)


def run(*command: str) -> None:
    """Run Python in a new process, to keep PyTorch's threads out of the test process."""
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[bench]'")
    paths = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *command], env=paths, check=True, stdout=subprocess.DEVNULL)


def written() -> dict[str, Any]:
    """Return the figures written by a benchmark."""
    (file,) = Path("outputs").glob("*.json")
    figures: dict[str, Any] = json.loads(file.read_text())
    return figures


# Timing


def test_entries_take_turns_with_their_own_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each count is set once: handcnn keeps its processes from turn to turn."""
    threads = [0]
    blocks = []

    @contextmanager
    def fake(count: int) -> Iterator[None]:
        threads.append(count)
        blocks.append(count)
        yield
        threads.pop()

    monkeypatch.setattr(timing, "thread_count", fake)
    monkeypatch.setattr(timing, "WARM_UP", 1e-9)  # one warm-up call,
    monkeypatch.setattr(timing, "TURN", 0.0)  # then one timed call
    calls: list[tuple[str, int]] = []
    runs = {
        ("a", 2): lambda: calls.append(("a", threads[-1])),
        ("a", 1): lambda: calls.append(("a", threads[-1])),
        ("b", 2): lambda: calls.append(("b", threads[-1])),
    }
    times = timing.take_turns(runs, seconds=0, rounds=2)
    a1, a2, b2 = ("a", 1), ("a", 2), ("b", 2)
    assert calls == [a1, a1] * 3 + [a2, a2, b2, b2] * 3  # the first round is a warm-up
    assert blocks == [1, 2]
    assert {entry: len(seconds) for entry, seconds in times.items()} == dict.fromkeys(runs, 2)


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


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (15.0, "the machine was idle"),
        (
            110.0,
            f"WARNING: other processes kept 2.0 of {cores()} cores busy; "
            "measure again on an idle machine",
        ),
        (float("nan"), "whether other processes were busy is only known on Linux"),
    ],
)
def test_busy_neighbours_are_told(
    after: float, verdict: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock, others = iter([0.0, 50.0]), iter([10.0, after])
    monkeypatch.setattr(machine, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(machine, "others_seconds", lambda: next(others))
    with machine.figures("bench"):
        pass
    assert capsys.readouterr().out.splitlines()[-1] == verdict


def test_figures_are_those_of_all_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {("handcnn", 1): [2.0, 6.0, 4.0, 5.0, 3.0], ("PyTorch", 1): [9.0, 1.0, 8.0]}
    monkeypatch.setattr(__main__, "take_turns", lambda *_: times)
    monkeypatch.setattr(__main__, "checked_runs", lambda _: {})
    found = __main__.measure(small_case(), [1], quick=True)
    figures = [(row["minimum"], row["median"], row["ratio"], row["seconds"]) for row in found]
    assert figures == [(2, 4, 1, times["handcnn", 1]), (1, 8, 2, times["PyTorch", 1])]


# Do they compute the same?


def small_case(method: str = "train_step") -> cases.Case:
    """Return a case that runs fast."""
    rng = np.random.default_rng(0)
    layers = [InputLayer(), Conv2D(1, 2, 3), HiddenLayer(2 * 4 * 3, 5), OutputLayer(5, 3)]
    arguments = [rng.standard_normal((4, 1, 6, 5)), np.eye(3)[[0, 2, 1, 2]]]
    forms = ("handcnn", "three calls")
    return cases.Case("small", layers, method, arguments[: 1 + (method == "train_step")], forms)


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ([3.0, -4.0, 0.001], "z differs from handcnn's by 2.0e-04 of its norm, more than 1e-04"),
        ([3.0, -4.0, np.nan], "z differs from handcnn's by nan of its norm, more than 1e-04"),
        ([3.0, -4.0, 0.0004], None),
    ],
)
def test_what_is_not_the_same_is_refused(theirs: list[float], message: str | None) -> None:
    ours, found = {"z": np.array([3.0, -4.0, 0.0])}, {"z": np.array(theirs)}
    if message is None:
        cases.check_same("PyTorch", found, ours, 1e-4)
        return
    with pytest.raises(HandcnnError) as raised:
        cases.check_same("PyTorch", found, ours, 1e-4)
    assert str(raised.value) == f"not timed, because PyTorch computes something else: {message}"


def test_a_step_is_observed_in_all_its_parts() -> None:
    case = small_case()
    net = cases.enter(case, 0.5, "float64")["handcnn"]
    parameters, (x, y) = copy.deepcopy(net.parameters()), case.arguments
    expected = {"the output": reference.network_forward(parameters, x, s=1, p=0)}
    for name, gradient in reference.network_gradients(parameters, x, y, s=1, p=0).items():
        expected[f"the change of {name}"] = -0.5 * gradient
    found = cases.effects(net, case.method, case.arguments)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    ("method", "spoilt"),
    [
        ("predict_proba", "predict_proba"),
        *(("train_step", name) for name in ("forward", "backward", "update_params", "train_step")),
    ],
)
def test_a_wrong_network_is_refused(
    method: str, spoilt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(cases.ThreeCalls, spoilt)

    def wrong(net: Network, *args: Array) -> object:
        result = right(net, *args)
        if result is not None:
            return 1.001 * result
        arrays = net.gradients() if spoilt == "backward" else net.parameters()
        arrays["layer3.bias"] *= 1.001
        return None

    assert list(cases.checked_runs(small_case(method))) == ["handcnn", "three calls"]
    monkeypatch.setattr(cases.ThreeCalls, spoilt, wrong)
    with pytest.raises(HandcnnError, match=r"^not timed, because three calls computes something"):
        cases.checked_runs(small_case(method))


def test_the_documented_loops_compute_the_documented_convolution() -> None:
    rng = np.random.default_rng(0)
    conv = naive.LoopConv2D(2, 3, 3, stride=2, padding=1, dtype=np.float64)
    conv.bias = rng.standard_normal(conv.bias.shape)
    x, dout = rng.standard_normal((2, 2, 5, 4)), rng.standard_normal((2, 3, 3, 2))
    expected = reference.conv_forward(x, conv.weights, conv.bias, 2, 1)
    np.testing.assert_allclose(conv.forward(x), expected, atol=1e-12)
    conv.backward(dout)
    _, dweights, dbias = reference.conv_backward(x, conv.weights, 2, 1, dout)
    np.testing.assert_allclose(conv.dweights, dweights, atol=1e-12)
    np.testing.assert_allclose(conv.dbias, dbias, atol=1e-12)


# Whole programs


def test_it_runs_without_pytorch_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # cannot be imported
    only = ["step documented", "step loops", "predict"]
    assert __main__.main(["--quick", "--threads", "1", "--only", *only]) == 0
    assert "not installed, so not timed; to get it: pip install" in capsys.readouterr().out
    assert [(row["case"], row["entry"]) for row in written()["results"]] == [
        ("step documented 16", "handcnn"),
        ("step documented 16", "three calls"),
        ("step loops 1", "handcnn"),
        ("step loops 1", "loops"),
        ("predict 500", "handcnn"),
        ("predict 500", "three calls"),
    ]


@pytest.mark.slow
def test_it_runs_against_pytorch() -> None:
    run("-m", "benchmarks", "--quick", "--threads", "1")
    timed = [row["case"] for row in written()["results"] if row["entry"] == "PyTorch"]
    assert timed == [case.name for case in cases.all_cases(quick=True) if "loops" not in case.name]


def test_an_unknown_case_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        __main__.main(["--only", "steps"])
    message = capsys.readouterr().err
    start = "python -m benchmarks: --only steps: no case starts with this name; there are "
    assert message.startswith(start)
    assert message.count("\n") == 1


@pytest.mark.slow
def test_pytorch_trains_as_train_py_does() -> None:
    """With `deep`, which uses a schedule, augmentation and averaging."""
    run("-m", "benchmarks.torch_train", "--network", "deep", *FEW, "--output-dir", "theirs")
    assert train.main(["--network", "deep", *FEW, "--output-dir", "ours", "--quiet"]) == 0
    ours, theirs = (
        list(csv.DictReader(next(Path(side).glob("*/history.csv")).open()))
        for side in ("ours", "theirs")
    )
    for column in ("loss", "val_loss", "accuracy", "val_accuracy"):
        expected = pytest.approx([float(row[column]) for row in ours], rel=1e-3)
        assert [float(row[column]) for row in theirs] == expected


def test_a_training_is_recorded() -> None:
    only = ["--quick", "--skip-pytorch", "--network", "documented", "--dataset", "digits"]
    assert record.main(only) == 0
    (row,) = written()["results"]
    assert (row["network"], row["program"], row["seed"]) == ("documented", "train.py", 0)
    assert 0 < row["accuracy"] <= 100
    assert 0 < sum(row["epochs"]) < row["seconds"]
    assert not row["megabytes"] < 50  # NaN on Windows


def test_trainings_take_turns_and_are_summed_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first training only fills the caches and is not counted."""
    figures = [(0.1, 99.0, 9.0), (0.97, 5, 80), (0.98, 6, 99), (0.99, 7, 90), (0.98, 8, 98)]
    commands: list[list[str]] = []

    def fake(command: list[str], folder: Path) -> tuple[float, float]:
        accuracy, seconds, megabytes = figures[len(commands)]
        commands.append(command)
        run = folder / "outputs" / "run"
        run.mkdir(parents=True)
        (run / "run.json").write_text(json.dumps({"test": {"accuracy": accuracy}}))
        (run / "history.csv").write_text(f"epoch,seconds\n1,{seconds / 5}\n2,{seconds / 4}\n")
        return seconds, megabytes

    monkeypatch.setattr(record, "time_process", fake)
    monkeypatch.setattr(machine, "has_pytorch", lambda: True)
    monkeypatch.setattr(machine, "describe", dict)
    assert record.main(["--network", "lenet", "--seeds", "2", "--epochs", "4"]) == 0
    job = ["--dataset", "mnist", "--epochs", "4"]
    assert commands[1:] == [
        [*record.PROGRAMS[program], "--network", "lenet", "--seed", seed, *job]
        for seed in "01"
        for program in ("train.py", "PyTorch")
    ]
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[lines.index("network program seed test accuracy seconds an epoch MB") :][1:7] == [
        "lenet train.py 0 97.00 % 5.0 1.12 80",
        "lenet PyTorch 0 98.00 % 6.0 1.35 99",
        "lenet train.py 1 99.00 % 7.0 1.57 90",
        "lenet PyTorch 1 98.00 % 8.0 1.80 98",
        "lenet train.py all 98.00 ± 1.41 % 6.0 1.32 90",
        "lenet PyTorch all 98.00 ± 0.00 % 7.0 1.55 99",
    ]


def test_a_training_that_fails_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert record.main(["--quick", "--skip-pytorch", "--batch-size", "0"]) == 1
    assert capsys.readouterr().err == (
        "benchmarks.record: the training failed and said: train.py: --batch-size: '0' is not a "
        "whole number from 1 to 1,000,000; see train.py --help\n"
    )


# Beside scikit-learn


def test_estimators_are_compared_on_the_same_images(capsys: pytest.CaptureFixture[str]) -> None:
    """A line each; those of scikit-learn are reckoned again, from the data set itself."""
    assert estimators.main(["--quick"]) == 0
    figures = written()["results"]
    assert [one["classifier"] for one in figures] == list(estimators.classifiers(True))
    dataset = load_dataset("digits", limit=200)
    parts = [
        (images.reshape(len(images), -1) / np.float32(255), labels)
        for images, labels in (dataset.train, dataset.test)
    ]
    accuracy = 100 * SVC(C=10).fit(*parts[0]).score(*parts[1])
    assert figures[3]["accuracy"] == pytest.approx(accuracy)
    table = capsys.readouterr().out.split("\n\n")[1].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert tuple(rows[0]) == estimators.HEADING
    assert rows[1] == ["---"] * 6
    for row, one in zip(rows[2:], figures, strict=True):
        assert row[:3] == ["digits", one["classifier"], "200"]
        assert [float(cell.split()[0]) for cell in row[3:]] == pytest.approx(
            [one["accuracy"], one["training"], one["answers"]], abs=0.051
        )


def test_an_svc_gets_no_more_images_than_it_can_learn_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(estimators, "MAX_SVC_IMAGES", 50)
    dataset = load_dataset("digits", limit=200)
    images = [
        estimators.measure(classifier, dataset)["images"]
        for classifier in (SVC(), MLPClassifier(max_iter=1))
    ]
    assert images == [50, 200]


@pytest.mark.slow
def test_composed_photographs_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    fours = {"4": load_strokes()["4"]}
    monkeypatch.setattr("benchmarks.photographs.load_strokes", lambda: fours)
    assert photographs.read(load_network(), photographs.on_a_desk, "ball pen") == "10"
    assert int(photographs.read(load_network(), np.fliplr, "ball pen").split()[0]) < 10
