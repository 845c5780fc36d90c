"""evaluate.py: accuracy, interval, classes, answers and plots of saved networks.

Oracles: run.json, which train.py wrote; SciPy's binomtest for the interval; a confusion matrix
counted by hand; tables written here by hand, read with csv; and the exact sentences of failures.
"""

import csv
import errno
import functools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

import evaluate
import train
from app.answers import write_answers
from app.evaluation import (
    EVALUATION_BATCH,
    class_lines,
    confidence_interval,
    evaluated,
    result_lines,
)
from data import load_dataset
from data.digits import load_digits_like_mnist
from handcnn import OutputLayer, load_network
from handcnn.kernels.threads import use_threads
from handcnn.network import Network
from handcnn.training import Metrics
from handcnn.types import Array, UInt8

Run = Callable[..., tuple[int, str, str]]
COUNTS = np.array([[3, 1, 2, 0], [0, 5, 0, 0], [2, 2, 0, 0], [0, 0, 0, 0]])


@pytest.fixture(autouse=True, scope="module")
def _digits_drawn_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "data.loading.load_digits_like_mnist", functools.cache(load_digits_like_mnist)
        )
        yield


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs evaluate.py here and returns its exit code and its output."""

    def main(*arguments: object) -> tuple[int, str, str]:
        try:
            code = evaluate.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return main


def some_images(count: int) -> UInt8:
    return load_dataset("digits").test.images[:count]


def write_table(path: Path, images: UInt8, labels: Array | None = None) -> Path:
    """Write images as Kaggle does: a header, then a row of a label and 784 pixels."""
    header = [f"pixel{i}" for i in range(784)]
    rows = [[str(pixel) for pixel in image.ravel()] for image in images]
    if labels is not None:
        header = ["label", *header]
        rows = [[str(label), *row] for label, row in zip(labels, rows, strict=True)]
    path.write_text("".join(",".join(row) + "\n" for row in (header, *rows)))
    return path


def write_weights(path: Path, bias: list[float], **metadata: Any) -> Path:
    """Save a network that gives every image these logits."""
    from handcnn import HiddenLayer, InputLayer

    net = Network([InputLayer(), HiddenLayer(784, 1), OutputLayer(1, len(bias))], (1, 28, 28))
    for layer in net.layers[1:]:
        layer.weights[:] = 0  # type: ignore[attr-defined]
    net.layers[2].bias[:] = bias  # type: ignore[attr-defined]
    net.save(path, **metadata)
    return path


def test_the_result_is_that_of_train_to_the_last_digit(finished: Path, run: Run) -> None:
    record = json.loads((finished / "run.json").read_text())
    net, digits, test = (
        load_network(finished / "weights.npz"),
        load_dataset("digits"),
        record["test"],
    )
    with use_threads(record["options"]["threads"]):
        batches = digits.batches("test", EVALUATION_BATCH)
        assert evaluated(net, batches, "", "")[0]._asdict() == test
    code, out, err = run("--weights", finished)
    right = round(test["accuracy"] * 297)
    assert (code, err) == (0, "")
    assert out.split("\n")[1] == (
        f"test loss {test['loss']:.4f}, test accuracy {100 * test['accuracy']:.2f} % "
        f"({right} of 297 images), scikit-learn digits (NOT MNIST)"
    )


def test_the_lines_of_the_classes_are_those_counted_by_hand() -> None:
    assert class_lines(COUNTS, ["a", "bb", "c", "d"]) == [
        "class  images    recall  precision  most often taken for",
        "a           6   50.00 %    60.00 %  c (2)",
        "bb          5  100.00 %    62.50 %",
        "c           4    0.00 %     0.00 %  a (2)",
        "d           0         -          -",
    ]


@pytest.mark.parametrize("images", [1, 2, 7, 84, 10_000, 1_000_000])
def test_the_interval_is_that_of_scipy(images: int) -> None:
    for right in {0, 1, images // 3, images - 1, images}:
        expected = binomtest(right, images).proportion_ci(0.95, method="wilson")
        low, high = confidence_interval(right, images)
        assert (low, high) == pytest.approx((expected.low, expected.high), rel=1e-12, abs=1e-15)
        assert 0 <= low < high <= 1


def test_the_interval_is_printed_in_per_cent() -> None:
    lines = result_lines(Metrics(0.5, 8 / 15), COUNTS, "title", "all")
    assert lines == [
        "loss 0.5000, accuracy 53.33 % (8 of 15 images), title",
        "95 % confidence interval of the accuracy: 30.12 to 75.19 %",  # from scipy.stats.binomtest
    ]


def test_answers_and_plots(
    finished: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Array] = []
    import handcnn.plots

    original = handcnn.plots.plot_confusion_matrix

    def seen(counts: Array, *args: Any, **kwargs: Any) -> Any:
        drawn.append(counts)
        return original(counts, *args, **kwargs)

    monkeypatch.setattr("handcnn.plots.plot_confusion_matrix", seen)
    answers, plots = tmp_path / "answers.csv", tmp_path / "new" / "plots"
    code, out, _ = run("--weights", finished, "--answers", answers, "--plots", plots)
    assert code == 0
    assert out.endswith(f"plot     {plots}/mistakes.png\nanswers  {answers}\n")
    assert {path.name for path in plots.iterdir()} == {"confusion_matrix.png", "mistakes.png"}
    part, net = load_dataset("digits").test, load_network(finished / "weights.npz")
    probabilities = net.predict_proba(part.images[:, None] / np.float32(255))
    rows = list(csv.reader(answers.read_text().splitlines()))
    assert rows[0] == ["number", "answer", "probability"]
    assert [int(row[0]) for row in rows[1:]] == list(range(297))
    assert [int(row[1]) for row in rows[1:]] == probabilities.argmax(axis=1).tolist()
    written = [float(row[2]) for row in rows[1:]]
    np.testing.assert_allclose(written, probabilities.max(axis=1), rtol=1e-5)
    counts = [[0] * 10 for _ in range(10)]
    for label, row in zip(part.labels, rows[1:], strict=True):
        counts[label][int(row[1])] += 1
    assert drawn[0].tolist() == counts
    before = answers.read_bytes()  # its own file is replaced
    assert run("--weights", finished, "--answers", answers)[0] == 0
    assert answers.read_bytes() == before


def test_a_table_of_kaggle_without_labels_becomes_a_submission(
    finished: Path, run: Run, tmp_path: Path
) -> None:
    images = some_images(25)
    table, answers = write_table(tmp_path / "test.csv", images), tmp_path / "submission.csv"
    code, out, err = run("--weights", finished, "--dataset", table, "--answers", answers)
    assert (code, err) == (0, "")
    assert "data     test.csv (own data): 25 images without labels\n" in out
    assert "accuracy" not in out.split("\n", 1)[1]  # only in the line about the weights, if at all
    net = load_network(finished / "weights.npz")
    found = net.predict(images[:, None] / np.float32(255))
    expected = [f"{i},{label}" for i, label in enumerate(found, start=1)]
    assert answers.read_text() == "\n".join(["ImageId,Label", *expected, ""])
    inverted = write_table(tmp_path / "dark.csv", 255 - images)
    again = tmp_path / "again.csv"
    options = ("--dataset", inverted, "--answers", again, "--invert")
    assert run("--weights", finished, *options)[::2] == (0, "")
    assert again.read_bytes() == answers.read_bytes()
    assert run("--weights", finished, "--dataset", table) == (
        1,
        f"weights  {finished}/weights.npz{out.split('npz', 1)[1].split(chr(10))[0]}\n",
        f"evaluate.py: {table} has no labels to compare with; add --answers FILE to save what the "
        "network answers\n",
    )


def test_a_few_images_of_some_classes_are_enough(run: Run, tmp_path: Path) -> None:
    """The network answers 7 to everything: of 7 3 7 7 4 it gets three right."""
    weights = write_weights(tmp_path / "w.npz", [0, 0, 0, 0, 0, 0, 0, 1, 0, 0])
    table = write_table(tmp_path / "few.csv", some_images(5), np.array([7, 3, 7, 7, 4]))
    code, out, err = run("--weights", weights, "--dataset", table, "--part", "all")
    assert (code, err) == (0, "")
    loss = -(3 * np.log(np.e / (np.e + 9)) + 2 * np.log(1 / (np.e + 9))) / 5
    assert f"\nloss {loss:.4f}, accuracy 60.00 % (3 of 5 images), few.csv (own data)\n" in out
    lines = [line.split() for line in out.split("\n")]
    assert ["3", "1", "0.00", "%", "-", "7", "(1)"] in lines
    assert ["7", "3", "100.00", "%", "60.00", "%"] in lines
    assert "warning" not in out


def test_numbers_stand_for_classes_that_have_names(run: Run, tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "w.npz", [0, 1, 0], classes=["coat", "shoe", "bag"])
    labels = np.array([1] * 3 + [2])
    table = write_table(tmp_path / "t.csv", some_images(4), labels)
    _, out, _ = run("--weights", weights, "--dataset", table, "--part", "all")
    assert "\nwarning  the labels are numbers, taken in the order of coat, shoe, bag\n" in out
    assert "accuracy 75.00 % (3 of 4 images)" in out
    assert ["bag", "1", "0.00", "%", "-", "shoe", "(1)"] in [
        line.split() for line in out.split("\n")
    ]
    table = write_table(tmp_path / "t.csv", some_images(4), np.array([1, 2, 3, 3]))
    assert run("--weights", weights, "--dataset", table, "--part", "all")[2] == (
        f"evaluate.py: t.csv (own data) has the class 3, which the network in {weights} does not "
        "know; its classes are coat, shoe, bag; choose data of these classes, or other weights\n"
    )


def test_images_that_the_network_was_trained_on_are_announced(finished: Path, run: Run) -> None:
    _, out, _ = run("--weights", finished, "--part", "all")
    assert "(NOT MNIST)\n" in out
    assert " of 1,797 images)" in out
    assert out.endswith(
        "warning  the network was trained on some of these images, and knows them\n"
    )


def test_what_cannot_be_evaluated_is_refused_in_a_sentence(run: Run, tmp_path: Path) -> None:
    shoes = write_weights(tmp_path / "shoes.npz", [0, 1], classes=["shoe", "boot"])
    odd = write_weights(tmp_path / "odd.npz", [0, 1], classes=["3", "5"])
    cases: dict[str, list[object]] = {
        f"scikit-learn digits (NOT MNIST) has the class 0, which the network in {odd} does not "
        "know; its classes are 3, 5; choose data of these classes, or other weights": [
            *("--weights", odd, "--dataset", "digits")
        ],
        f"scikit-learn digits (NOT MNIST) has the class 0, which the network in {shoes} does not "
        "know; its classes are shoe, boot; choose data of these classes, or other weights": [
            *("--weights", shoes, "--dataset", "digits")
        ],
        f"{odd} does not say where its images are; add --dataset with a name or a path": [
            *("--weights", odd)
        ],
    }
    for sentence, arguments in cases.items():
        code, _, err = run(*arguments)
        assert (code, err) == (1, f"evaluate.py: {sentence}\n")


def test_a_run_on_ones_own_images_knows_where_they_are_and_how_they_were_turned(
    run: Run, tmp_path: Path
) -> None:
    """As train.py says the result; the images are dark on bright and transposed."""
    digits, out = load_dataset("digits").train, tmp_path / "outputs"
    table = tmp_path / "train.csv"
    write_table(table, 255 - digits.images[:200].transpose(0, 2, 1), digits.labels[:200])
    few = ("--dataset", str(table), "--epochs", "2", "--quiet", "--output-dir", str(out))
    assert train.main([*few, "--invert", "--transpose"]) == 0
    (folder,) = out.iterdir()
    test = json.loads((folder / "run.json").read_text())["test"]
    code, said, _ = run("--weights", folder)
    assert code == 0
    assert f"test loss {test['loss']:.4f}, test accuracy {100 * test['accuracy']:.2f} %" in said
    table.rename(tmp_path / "moved.csv")
    code, _, err = run("--weights", folder)
    assert (code, err) == (
        1,
        f"evaluate.py: {folder} was trained on {table}, which does not exist; if the images have "
        "moved, add --dataset with their new path\n",
    )
    for content, fault in (("{", "it is damaged"), ("{}", "its options are not those of train.py")):
        (folder / "run.json").write_text(content)
        code, _, err = run("--weights", folder)
        assert (code, err) == (1, f"evaluate.py: {folder}/run.json cannot be used: {fault}\n")


def test_bad_options(finished: Path, run: Run, tmp_path: Path) -> None:
    table = write_table(tmp_path / "train.csv", some_images(2))
    before = table.read_bytes()
    for option, value, fault in (
        ("--answers", table, "is a file that is not a table of answers"),
        ("--answers", tmp_path, "is not a file"),
        ("--plots", finished, "is the folder of a run, which has plots of its own"),
        ("--plots", table, "is not a folder"),
        ("--part", "train", "is not one of test, all"),
    ):
        code, out, err = run("--weights", finished, option, value)
        line = f"evaluate.py: {option}: '{value}' {fault}; see evaluate.py --help\n"
        assert (code, out, err) == (2, "", line)
    assert table.read_bytes() == before


def test_a_full_disk_leaves_the_answers_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: Path, run: Run
) -> None:
    answers = tmp_path / "answers.csv"
    write_answers(answers, np.eye(2), ["a", "b"], have_labels=True)
    before = answers.read_bytes()
    assert before == b"number,answer,probability\n0,a,1.0\n1,b,1.0\n"

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    code, _, err = run("--weights", finished, "--answers", answers)
    expected = f"evaluate.py: {answers}: No space left on device; free some disk space\n"
    assert (code, err) == (1, expected)
    assert (answers.read_bytes(), [p.name for p in tmp_path.iterdir()]) == (before, ["answers.csv"])
