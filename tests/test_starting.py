"""train.py --start-from and --also: a network trained further, with other images mixed in.

Oracles: the arrays and the SHA-256 of the file that a run starts from; accuracies counted here with
NumPy; a run that was never stopped; and the exact sentences of failures.
"""

import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import compare

import train
from data import Dataset, load_dataset
from data.digits import load_digits_like_mnist
from data.mixing import mixed
from handcnn import InputLayer, Network, OutputLayer, documented_network, load_network
from handcnn.models import FINE_TUNING_STEPS, RECIPES, lenet
from handcnn.storage.networks import READER

AS_IT_IS = ["--epochs", "1", "--learning-rate", "1e-30"]  # changes weights by less than 1e-20


@pytest.fixture(autouse=True, scope="module")
def _digits_drawn_once_and_no_plots() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.report.figures", lambda *_: iter(()))
        patch.setattr(
            "data.loading.load_digits_like_mnist", functools.cache(load_digits_like_mnist)
        )
        yield


def start(folder: Path, weights: Path, *options: str, data: str = "digits") -> Path:
    """Start a run of few images from weights, and return its folder."""
    given = ["--dataset", data, "--start-from", str(weights), "--output-dir", str(folder)]
    assert train.main([*given, "--quiet", "--threads", "1", *options]) == 0
    return max(folder.iterdir(), key=lambda run: run.stat().st_mtime_ns)


def refused(capsys: pytest.CaptureFixture[str], *options: object) -> str:
    assert train.main([str(option) for option in options]) == 1
    return capsys.readouterr().err


def read_record(run: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((run / "run.json").read_text())
    return record


def parameters(weights: Path) -> dict[str, Any]:
    return load_network(weights).parameters()


def write_images(path: Path, count: int, classes: int, shift: int = 0) -> Path:
    """Write small images of digits as a user's own data set with its three parts."""
    digits = load_dataset("digits").train
    few = np.flatnonzero(digits.labels < classes)[:count]
    arrays: dict[str, Any] = {}
    for part in ("train", "val", "test"):
        arrays[f"x_{part}"] = digits.images[few]
        arrays[f"y_{part}"] = digits.labels[few] + shift
    np.savez(path, **arrays)
    return path


def test_a_run_begins_with_the_weights_and_says_how_good_they_were(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder stands for its weights, and the network is that of the weights."""
    run = start(tmp_path, finished, *AS_IT_IS, "--limit", "64", "--seed", "1")
    compare(parameters(run / "weights.npz"), parameters(finished / "weights.npz"), 1e-20)

    dataset, record = load_dataset("digits", seed=1), read_record(run)
    net, right = load_network(finished / "weights.npz"), {}
    for name in ("validation", "test"):
        images, labels = dataset.part(name)
        x = images[:, None].astype(np.float32) / np.float32(255)
        right[name] = np.mean(net.predict(x) == labels)
        assert record["start"][name]["accuracy"] == pytest.approx(right[name], abs=1e-12)
    data = (finished / "weights.npz").read_bytes()
    assert record["start"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert record["options"]["start_from"] == str(finished / "weights.npz")
    assert capsys.readouterr().out.startswith(
        f"untouched weights: {100 * right['validation']:.2f} % on validation, "
        f"{100 * right['test']:.2f} % on the test images\nbest epoch 1: "
    )


def test_where_the_classes_differ_the_output_layer_starts_fresh(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = write_images(tmp_path / "three.npz", 40, 3)
    given = ["--dataset", str(own), "--start-from", str(finished), *AS_IT_IS, "--seed", "3"]
    assert train.main([*given, "--output-dir", str(tmp_path / "runs")]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    fresh = documented_network(classes=3, rng=np.random.default_rng(3)).parameters()
    old = parameters(finished / "weights.npz")
    output = {name: array for name, array in fresh.items() if name.startswith("layer3.")}
    compare(parameters(run / "weights.npz"), old | output, 1e-20)
    out = capsys.readouterr().out
    assert "of other classes, so the output layer starts fresh\n" in out
    assert "untouched" not in out
    assert read_record(run)["start"]["fresh_output_layer"] is True


def test_fine_tuning_takes_fewer_and_smaller_steps(tmp_path: Path) -> None:
    """READER is a lenet; 64 images are a step."""
    own = write_images(tmp_path / "own.npz", 64, 10)
    run = start(tmp_path / "runs", READER, data=str(own))
    options = read_record(run)["options"]
    assert options["network"] == "lenet"
    assert options["epochs"] == FINE_TUNING_STEPS
    assert options["learning_rate"] < RECIPES["lenet"].learning_rate
    given = start(
        tmp_path / "runs", READER, "--learning-rate", "0.003", *AS_IT_IS[:2], data=str(own)
    )
    options = read_record(given)["options"]
    assert (options["epochs"], options["learning_rate"]) == (1, 0.003)


def test_a_resumed_run_ends_as_if_it_had_not_stopped_even_without_its_first_weights(
    finished: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.npz"
    weights.write_bytes((finished / "weights.npz").read_bytes())
    own = write_images(tmp_path / "own.npz", 40, 10)
    options = ["--also", "digits", "--seed", "5"]
    whole = start(tmp_path / "whole", weights, *options, "--epochs", "3", data=str(own))
    part = start(tmp_path / "part", weights, *options, "--epochs", "1", data=str(own))
    weights.unlink()
    assert train.main(["--resume", str(part), "--epochs", "3", "--quiet"]) == 0
    assert (part / "weights.npz").read_bytes() == (whole / "weights.npz").read_bytes()
    found, expected = read_record(part), read_record(whole)
    assert (found["start"], found["test"]) == (expected["start"], expected["test"])


def test_a_run_that_becomes_worse_on_validation_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(tmp_path, READER, "--epochs", "1", "--learning-rate", "0.1", "--limit", "64")
    said = "\nwarning  no epoch was as good on validation as the untouched weights\nbest epoch 1: "
    assert said in capsys.readouterr().out


def small(count: int, names: str = "ab") -> Dataset:
    """Return a data set whose images hold their own numbers, half of them for training."""
    numbers = np.arange(count)
    return Dataset(
        name="small",
        title="Small",
        address="small",
        source="here",
        class_names=list(names),
        images=np.broadcast_to(numbers[:, None, None], (count, 28, 28)).astype(np.uint8),
        labels=(numbers % 2).astype(np.uint8),
        indices={
            "train": numbers[: count // 2],
            "validation": numbers[count // 2 : -1],
            "test": numbers[-1:],
        },
        prepared="digits",
    )


@pytest.mark.parametrize("size", [40, 6])  # the other set has more images, or fewer
def test_training_images_of_another_set_are_mixed_in(size: int) -> None:
    """Some of them, each once, with their labels, and none of its validation and test images."""
    own, other = small(8), small(size)
    found = mixed(own, other, np.random.default_rng(0))
    for name in ("validation", "test"):
        np.testing.assert_array_equal(found.part(name).images, own.part(name).images)
    images, labels = found.train
    np.testing.assert_array_equal(images[:4], own.train.images)
    added = images[4:, 0, 0]
    assert len(set(added)) == len(added) == min(4, size // 2)
    assert added.max() < size // 2
    np.testing.assert_array_equal(labels[4:], added % 2)
    assert found.record["sizes"]["train"] == len(images)
    assert found.record["also"]["images"] == len(added)
    assert found.record["also"]["sha256"] == other.sha256


def test_weights_that_cannot_be_trained_further_are_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--output-dir", tmp_path / "runs", "--dataset", "digits", "--start-from"]
    file = tmp_path / "w.npz"
    assert refused(capsys, *given, file) == (
        f"train.py: cannot read {file}: No such file or directory\n"
    )
    file.write_bytes(b"no archive")
    assert refused(capsys, *given, file) == (
        f"train.py: {file} is not a complete .npz file: File is not a zip file\n"
    )
    Network([InputLayer(), OutputLayer(784, 10)], (1, 28, 28)).save(file)
    assert refused(capsys, *given, file) == (
        f"train.py: {file} cannot be trained further: its layers are not those of documented, "
        "lenet, deep; choose other weights\n"
    )
    lenet(input_shape=(1, 20, 20)).save(file)
    assert refused(capsys, *given, file) == (
        f"train.py: {file} cannot be used: its network takes images of shape (1, 20, 20); "
        "prepared pictures have (1, 28, 28)\n"
    )
    assert refused(capsys, *given, finished, "--network", "lenet") == (
        f"train.py: {finished}/weights.npz holds the network documented, not lenet; omit "
        "--network, or choose other weights\n"
    )
    assert not (tmp_path / "runs").exists()


def test_images_of_other_classes_are_not_mixed_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = write_images(tmp_path / "own.npz", 20, 2, shift=4)
    options = ["--dataset", own, "--also", "digits", "--output-dir", tmp_path / "runs"]
    assert refused(capsys, *options) == (
        "train.py: --also: scikit-learn digits (NOT MNIST) has the classes 0, 1, 2, 3, 4, 5, 6, 7, "
        "8, 9, but own.npz (own data) has 4, 5; give data of the same classes\n"
    )
    assert not (tmp_path / "runs").exists()
