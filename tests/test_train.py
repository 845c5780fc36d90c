"""train.py from the options to the files, on the small bundled data set.

test_reliability.py and test_options.py test what happens when something goes wrong.

Oracles: the files, read with NumPy, csv and json; a run compared with itself; an accuracy that a
network must reach; and, for failures, the exact sentence that a user sees.
"""

import csv
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from math import cos, inf, nan, pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import compare
from training_processes import FILES, OPTIONS, ROOT

import train
from app.console import Console
from data import load_dataset
from data.digits import load_digits_like_mnist
from handcnn import documented_network, load_network, loss_function
from handcnn.augmentation import handwriting, shift
from handcnn.commands import command_line as cli
from handcnn.commands import predict
from handcnn.commands.hints import predict_command, resume_command
from handcnn.kernels.threads import use_threads
from handcnn.models import RECIPES, Recipe, deep, lenet
from handcnn.storage import runs
from handcnn.storage.checkpoints import load_checkpoint
from handcnn.storage.networks import read_weights
from handcnn.training import Metrics, Step

SEVEN = ROOT / "docs" / "seven.jpg"


@pytest.fixture(autouse=True, scope="module")
def _digits_drawn_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "data.loading.load_digits_like_mnist", functools.cache(load_digits_like_mnist)
        )
        patch.setattr("sys.warnoptions", ["error"])  # otherwise train.py would silence warnings
        yield


def resume(folder: Path, *options: str) -> int:
    return train.main(["--resume", str(folder), *options])


def read_record(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return record


def record_accuracy(folder: Path, accuracy: object) -> None:
    """Write a test accuracy into run.json."""
    record = read_record(folder)
    record["test"]["accuracy"] = accuracy
    (folder / "run.json").write_text(json.dumps(record))


def history(folder: Path) -> list[dict[str, float]]:
    """Return the history without the columns of measured times."""
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    clock = {"seconds", "images_per_second"}
    return [{k: float(v) for k, v in row.items() if k not in clock} for row in rows]


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """Return a finished run that may be changed, in a folder whose name needs shell quoting."""
    return Path(shutil.copytree(finished, tmp_path / "it's $HOME; a folder" / finished.name))


def test_a_run_leaves_every_file_and_the_weights_of_the_best_epoch(finished: Path) -> None:
    assert {path.name for path in finished.iterdir() if not path.name.startswith(".")} == FILES
    assert finished.name.endswith("-digits")
    rows, record = history(finished), read_record(finished)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["loss"] < rows[0]["loss"]
    best = max(rows, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
    assert record["best_epoch"] == best["epoch"] < 4

    net = load_network(finished / "weights.npz")
    dataset = load_dataset("digits", seed=1, limit=160)
    for part, accuracy in (
        (dataset.validation, best["val_accuracy"]),
        (dataset.test, record["test"]["accuracy"]),
    ):
        x = part.images[:, None].astype(np.float32) / np.float32(255)
        assert np.mean(net.predict(x) == part.labels) == pytest.approx(accuracy, abs=1e-12)
    assert record["data"]["dataset"] == "digits"
    assert record["options"]["seed"] == 1
    assert record["parameters"] == 1_606_666


def test_the_documented_network_learns_the_bundled_digits() -> None:
    """Five seeds reached 85 to 88 % on the test images."""
    digits, rng = load_dataset("digits"), np.random.default_rng(0)
    net = documented_network(0.005, rng=rng)
    for _ in range(3):
        for x, y in digits.batches("train", 16, rng):
            net.train_step(x, y)
    found = [net.predict(x) for x, _ in digits.batches("test", 64)]
    assert (np.concatenate(found) == digits.test.labels).mean() > 0.7


def test_the_same_seed_gives_the_same_bytes_and_a_quiet_run_prints_the_result_only(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([*OPTIONS, "--quiet", "--output-dir", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    words = [line.split(" ")[0] for line in captured.out.split("\n")]
    assert words == ["warning", "best", "test", ""]
    (again,) = tmp_path.iterdir()
    assert history(again) == history(finished)
    for name in FILES - {"history.csv", "run.json", "checkpoint.npz"}:
        assert (again / name).read_bytes() == (finished / name).read_bytes(), name


def test_another_seed_gives_another_run_here_one_that_misses_its_target(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--output-dir", str(tmp_path), "--seed", "2", "--target-accuracy", "100"]
    assert train.main([*OPTIONS, *options, "--epochs", "1"]) == 1
    assert capsys.readouterr().err.endswith(" % is below the target of 100 %\n")
    (other,) = tmp_path.iterdir()
    assert history(other)[0] != history(finished)[0]


def test_latest_is_the_run_that_started_last(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of those with a checkpoint. The twelfth run of a second is later than the ninth."""
    for name in ("1-digits-x", "2-digits", "2-digits-9", "3-digits", "0-digits-99"):
        (tmp_path / f"20240101-00000{name}").mkdir()
        if name[0] != "3":
            (tmp_path / f"20240101-00000{name}" / "checkpoint.npz").touch()
    latest = shutil.copytree(finished, tmp_path / "20240101-000002-digits-12")
    assert train.main(["--resume", "latest", "--output-dir", str(tmp_path)]) == 0
    advice = "is finished after 4 epochs; use --epochs N with N > 4 to train further"
    assert capsys.readouterr().out == f"{latest} {advice}\n"


def test_a_run_under_a_schedule_keeps_its_epochs_and_does_not_offer_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With everything that changes from step to step: learning rates and distortions."""
    options = ["--dataset", "digits", "--limit", "64", "--epochs", "2", "--network", "lenet"]
    options += ["--quiet", "--output-dir", str(tmp_path)]
    assert train.main(options) == 0
    (folder,) = tmp_path.iterdir()
    capsys.readouterr()
    assert train.main(["--resume", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder} is finished after 2 epochs\n"
    assert train.main(["--resume", str(folder), "--epochs", "3"]) == 1
    assert capsys.readouterr().err == (
        f"train.py: {folder} was trained with --schedule one-cycle for --epochs 2; another number "
        "of epochs would have changed the learning rates from the start; "
        "omit the option or start a new run\n"
    )


@pytest.mark.parametrize(
    ("accuracy", "target", "code"),
    [(0.5, "50", 0), (0.5, "50.01", 1), (0.9601, "96.01", 0), (0.9601, "96.02", 1)],
)
def test_the_target_accuracy_decides_the_exit_code(
    copy: Path, accuracy: float, target: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A target reached exactly counts as reached, although 100 * 0.9601 is 96.00999..."""
    record_accuracy(copy, accuracy)
    assert resume(copy, "--target-accuracy", target) == code
    error = f"train.py: test accuracy {100 * accuracy:.2f} % is below the target of {target} %\n"
    assert capsys.readouterr().err == (error if code else "")


def test_resuming_a_finished_run_makes_what_is_missing_or_forged(
    finished: Path, copy: Path
) -> None:
    missing = ("mistakes.png", "weights.npz", "history.csv")
    for name in missing:
        (copy / name).unlink()
    assert resume(copy) == 0
    for name in missing:
        assert (copy / name).read_bytes() == (finished / name).read_bytes()

    measured = read_record(copy)["test"]["accuracy"]
    assert runs.tested_accuracy(copy, 4) == measured
    assert runs.tested_accuracy(copy, 3) is None
    for forged in (nan, inf, True, 1.01, "1", 2):
        record_accuracy(copy, forged)
        assert runs.tested_accuracy(copy, 4) is None
    assert resume(copy, "--target-accuracy", "99") == 1
    assert read_record(copy)["test"]["accuracy"] == measured


def test_a_run_that_cannot_go_on_keeps_the_results_it_has(copy: Path) -> None:
    before = (copy / "run.json").read_bytes()
    assert resume(copy, "--epochs", "5", "--learning-rate", "1000") == 1
    assert (copy / "run.json").read_bytes() == before
    assert resume(copy, "--learning-rate", "0.012") == 0
    assert read_record(copy)["epochs"] == 5


@pytest.mark.parametrize(
    ("option", "past", "new"),
    [
        ("--seed", "1", "2"),
        ("--limit", "160", "100"),
        ("--batch-size", "32", "64"),
        ("--dataset", "digits", "mnist"),
        ("--network", "documented", "lenet"),
        ("--schedule", "constant", "cosine"),
        ("--augment", "none", "shift"),
    ],
)
def test_resuming_refuses_to_change_the_past(
    finished: Path, option: str, past: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resume(finished, option, new) == 1
    assert capsys.readouterr().err == (
        f"train.py: {finished} was trained with {option} {past}, which cannot change to {new} on "
        "resuming; omit the option or start a new run\n"
    )


def test_images_of_no_digits_are_trained_without_strokes(tmp_path: Path) -> None:
    """The run records it, so that resuming goes on in the same way."""
    images = np.random.default_rng(0).integers(0, 256, (60, 28, 28), np.uint8)
    labels = np.arange(60) % 3
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez(tmp_path / "letters.npz", **arrays)  # type: ignore[arg-type]
    options = ["--dataset", str(tmp_path / "letters.npz"), "--network", "lenet", "--epochs", "1"]
    options += ["--augment", "handwriting"]  # of which only the distortion fits
    assert train.main([*options, "--output-dir", str(tmp_path / "outputs"), "--quiet"]) == 0
    (folder,) = (tmp_path / "outputs").iterdir()
    assert read_record(folder)["options"]["augment"] == "distort"
    assert load_checkpoint(folder / "checkpoint.npz").options["augment"] == "distort"


@pytest.mark.parametrize("patience", [1, 2])
def test_patience_stops_a_training_and_resuming_makes_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], patience: int
) -> None:
    """Oracle: the history of a training without patience, in which the stop is counted by hand."""

    def trained(*options: str) -> Path:
        outputs = tmp_path / str(len(list(tmp_path.iterdir())))
        usual = [*OPTIONS, "--learning-rate", "0.006", "--output-dir", str(outputs)]
        assert train.main([*usual, *options]) == 0
        (folder,) = outputs.iterdir()
        return folder

    whole = history(trained("--epochs", "9"))
    last = best = 0
    while last < 9 and last - best < patience:
        last += 1
        keys = [(row["val_accuracy"], -row["val_loss"]) for row in whole[:last]]
        best = keys.index(max(keys)) + 1
    assert last < 9, "no early stop to test: choose another seed"
    capsys.readouterr()
    once = trained("--epochs", "9", "--patience", str(patience))
    assert "\nstopped early: " in capsys.readouterr().out
    assert history(once) == whole[:last]
    assert read_record(once)["options"]["patience"] == patience
    again = trained("--epochs", "1", "--patience", str(patience))
    assert resume(again, "--epochs", "9") == 0
    assert (again / "weights.npz").read_bytes() == (once / "weights.npz").read_bytes()
    two, one = (load_checkpoint(folder / "checkpoint.npz") for folder in (again, once))
    assert two.options == one.options
    assert two.rng.bit_generator.state == one.rng.bit_generator.state
    for name, array in one.net.parameters().items():
        np.testing.assert_array_equal(two.net.parameters()[name], array)
    capsys.readouterr()
    assert resume(once) == 0  # nothing is trained
    says = f"is finished after {last} epochs; use --patience N with N > {patience} to train further"
    assert capsys.readouterr().out == f"{once} {says}\n"
    assert resume(once, "--patience", "9") == 0  # it goes on as if it had never stopped
    assert history(once) == whole


class _Stop(BaseException):
    """Ends a program where a test has seen enough."""


@pytest.mark.parametrize(
    ("options", "epochs", "shown", "warning"),
    [
        ("", 100, "(1,250 images: 2,000 steps)", ""),
        ("--network lenet", 100, "(1,250 images: 2,000 steps)", ""),
        ("--network deep --schedule constant", 100, "(1,250 images: 2,000 steps)", ""),
        ("--limit 60", 2000, "(60 images: 2,000 steps)", ""),
        ("--limit 1000 --batch-size 3", 20, "(1,000 images: 6,680 steps)", ""),
        ("--limit 130 --epochs 80", 80, "(130 images: 240 steps)", ""),
        (
            "--limit 60 --epochs 20",
            20,
            "(60 images: 20 steps)",
            "20 steps will teach the network little; --epochs 2000 is advised",
        ),
    ],
)
def test_few_images_get_enough_steps_and_a_number_by_hand_is_obeyed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: str,
    epochs: int,
    shown: str,
    warning: str,
) -> None:
    """Regression: MNIST's 20 epochs were 20 steps for 60 images. Resuming keeps the number."""
    seen: list[Recipe] = []

    def stop(net: object, batches: object, recipe: Recipe, *_: object) -> None:
        seen.append(recipe)
        raise _Stop

    monkeypatch.setattr("app.session.train", stop)
    with pytest.raises(_Stop):
        train.main([*options.split(), "--dataset", "digits", "--output-dir", str(tmp_path)])
    out = capsys.readouterr().out
    assert f" --epochs {epochs} {shown} " in out.replace("\n        ", "")
    warnings = [line for line in out.splitlines() if line.startswith("warning")]
    assert warnings == ([f"warning  {warning}"] if warning else [])
    (folder,) = tmp_path.iterdir()
    assert read_record(folder)["options"]["epochs"] == epochs
    with pytest.raises(_Stop):
        resume(folder)
    assert [recipe.epochs for recipe in seen] == [epochs, epochs]


@pytest.mark.parametrize("network", RECIPES)
def test_no_set_of_mnists_size_is_trained_longer_than_its_recipe(network: str) -> None:
    recipe = RECIPES[network]
    for images in (55_000, 60_000, 10**6):
        assert recipe.for_images(images) == recipe
    for images in (1, 63, 64, 65, 1250, 54_999):
        longer = recipe.for_images(images)
        assert longer.epochs * longer.steps(images) >= 2000
        assert replace(longer, epochs=recipe.epochs) == recipe
        assert longer.epochs == recipe.epochs or (longer.epochs - 1) * recipe.steps(images) < 2000


@pytest.mark.parametrize("link", [True, False], ids=["a link to nothing", "a file"])
def test_an_output_folder_that_is_none_is_named_as_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], link: bool
) -> None:
    """Regression: "File exists; check that its folder exists and is writable"."""
    monkeypatch.chdir(tmp_path)
    outputs = Path("outputs")
    outputs.symlink_to("nowhere") if link else outputs.touch()
    assert train.main(OPTIONS) == 1
    assert capsys.readouterr().err == (
        "train.py: outputs is a file, or a link to a folder that does not exist; choose another "
        "--output-dir\n"
    )
    if link:
        assert train.main([*OPTIONS, "--output-dir", "outputs/below"]) == 1
        assert "is a file, or a link to a folder that does not exist" in capsys.readouterr().err


TINY = ["--limit", "96", "--epochs", "2", "--learning-rate", "0.002"]
POOLED = {
    "lenet": [*TINY, "--schedule", "one-cycle", "--augment", "shift"],
    "deep": [*TINY, "--schedule", "cosine", "--augment", "handwriting"],
}
every_pooled_run = pytest.mark.parametrize("pooled", POOLED, indirect=True)


@pytest.fixture(scope="module")
def pooled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run of lenet or deep: two epochs of three steps."""
    outputs = tmp_path_factory.mktemp(request.param)
    options = [*OPTIONS, "--network", request.param, *POOLED[request.param]]
    assert train.main([*options, "--output-dir", str(outputs)]) == 0
    (folder,) = outputs.iterdir()
    return folder


@every_pooled_run
def test_a_run_of_a_network_with_pooling_is_what_its_options_say(pooled: Path) -> None:
    """Repeated by hand: rates and images of every step, and what is saved."""
    record = read_record(pooled)
    is_lenet, threads = record["options"]["network"] == "lenet", record["options"]["threads"]
    dataset, rng = load_dataset("digits", seed=1, limit=96), np.random.default_rng(1)
    net = (lenet if is_lenet else deep)(0.002, rng=rng)
    after, rates, step = [], [], 0
    for _ in range(2):
        for x, y in dataset.batches("train", 32, rng):
            progress = (step + 0.5) / 6
            step += 1
            one_cycle = min(5 * progress, 1.25 * (1 - progress))
            rates.append(0.002 * (one_cycle if is_lenet else (1 + cos(pi * progress)) / 2))
            net.set_learning_rate(rates[-1])
            with use_threads(threads):
                net.train_step((shift if is_lenet else handwriting)(x, y, rng), y)
        after.append({name: array.copy() for name, array in net.parameters().items()})

    state, rows = load_checkpoint(pooled / "checkpoint.npz"), history(pooled)
    best = record["best_epoch"]
    compare(state.net.parameters(), net.parameters(), rounding=0)
    assert [row["learning_rate"] for row in rows] == pytest.approx([rates[2], rates[5]], rel=1e-12)
    kept = load_network(pooled / "weights.npz")
    compare(kept.parameters(), after[best - 1], rounding=0)
    for layer in (*kept.layers, *state.net.layers):  # rates are reset after an epoch
        assert getattr(layer, "learning_rate", 0.002) == 0.002

    x, y = next(iter(dataset.batches("validation", 250)))
    accuracy, loss = np.mean(kept.predict(x) == y.argmax(axis=1)), loss_function(kept.forward(x), y)
    assert rows[best - 1]["val_accuracy"] == pytest.approx(accuracy, abs=1e-12)
    assert rows[best - 1]["val_loss"] == pytest.approx(loss, rel=1e-5)


@every_pooled_run
def test_a_run_of_a_network_with_pooling_is_complete(
    pooled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All files exist, resuming says "finished", and predict.py reads a digit with its weights."""
    assert {path.name for path in pooled.iterdir() if not path.name.startswith(".")} == FILES
    record, net = read_record(pooled), load_network(pooled / "weights.npz")
    assert record["parameters"] == {"lenet": 80_202, "deep": 146_938}[record["options"]["network"]]
    assert record["architecture"] == net.architecture()["layers"]
    assert resume(pooled, "--epochs", "2") == 0  # nothing changes
    assert predict.main([str(SEVEN), "--weights", str(pooled / "weights.npz")]) == 0
    finished, _, answer = capsys.readouterr().out.splitlines()
    assert finished == f"{pooled} is finished after 2 epochs"
    assert re.fullmatch(rf"{re.escape(str(SEVEN))}  \d  +[>\d.]+ %   then .*", answer)


@every_pooled_run
def test_a_schedule_cannot_be_stretched_afterwards(
    pooled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule = read_record(pooled)["options"]["schedule"]
    before = (pooled / "checkpoint.npz").read_bytes()
    for epochs in ("1", "3"):
        assert resume(pooled, "--epochs", epochs) == 1
        assert capsys.readouterr().err == (
            f"train.py: {pooled} was trained with --schedule {schedule} for --epochs 2; another "
            "number of epochs would have changed the learning rates from the start; omit the "
            "option or start a new run\n"
        )
    assert (pooled / "checkpoint.npz").read_bytes() == before


def test_each_epoch_has_a_progress_bar_which_is_erased(capsys: pytest.CaptureFixture[str]) -> None:
    """Also when the training is interrupted."""
    console = Console(quiet=False)
    console.shows_bars = True
    with suppress(KeyboardInterrupt), console.progress(3) as show:
        nothing = np.empty(0)
        for epoch, number in ((2, 1), (2, 2), (3, 1)):
            show(Step(epoch, number, 2, 0.5, Metrics(0.25, 0.125), 1, 0.1, *[nothing] * 3))
        raise KeyboardInterrupt
    *drawn, erased, rest = capsys.readouterr().err.split("\r")
    assert [title for title in ("epoch 1/3", "epoch 2/3", "epoch 3/3") if title in str(drawn)] == [
        "epoch 2/3",
        "epoch 3/3",
    ]
    assert (erased.strip(), rest) == ("", "")


def test_help_is_quick_to_load() -> None:
    """test_options.py compares its content with a table."""
    code = "import sys, train\ntry: train.main(['--help'])\nfinally: print(*sorted(sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    output = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    loaded = output.splitlines()[-1].split()
    assert "train" in loaded
    assert not {"matplotlib", "sklearn", "scipy", "PIL", "tqdm"} & set(loaded)


@pytest.mark.parametrize(
    ("place", "program"),
    [("", "train.py"), ("docs", "predict.py"), ("elsewhere", "predict.py")],
)
def test_the_printed_commands_work_in_a_shell_in_any_folder(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, program: str
) -> None:
    monkeypatch.chdir(tmp_path if place == "elsewhere" else ROOT / place)
    command, expected = resume_command(copy), f"{copy} is finished after 4 epochs"
    if program == "predict.py":
        command, expected = predict_command(copy / "weights.npz"), "seven.jpg  "
    result = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert expected in result.stdout


def test_a_printed_path_is_no_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resume_command(Path("-x/run")).endswith(" --resume ./-x/run")


def test_a_failure_is_one_line_whatever_a_path_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--resume", "a\n\x1b[2J"]) == 1
    assert capsys.readouterr().err == (
        "train.py: a\\n\\x1b[2J is not the folder of a run: it holds no checkpoint.npz; "
        "give a folder inside outputs, or latest\n"
    )


def crosses(path: Path, shift: int = 0) -> None:
    """Write a Keras .npz: a bright row, column or square in noise, 40 training images of each."""
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 3
    images = rng.integers(0, 40, (150, 28, 28), dtype=np.uint8)
    images[labels == 0, 12 + shift : 15 + shift] = 255
    images[labels == 1, :, 12 + shift : 15 + shift] = 255
    images[labels == 2, 10:18, 10:18] = 255
    parts = {"x_train": images[:120], "y_train": labels[:120]}
    np.savez(path, **parts, x_test=images[120:], y_test=labels[120:])  # type: ignore[arg-type]


def test_ones_own_images_from_training_to_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three classes. It resumes from another folder by the path, but not with other images."""
    path = tmp_path / "crosses.npz"
    crosses(path)
    monkeypatch.chdir(tmp_path)
    options = ["--dataset", "crosses.npz", "--network", "lenet", "--epochs", "2", "--seed", "1"]
    options += ["--schedule", "constant", "--learning-rate", "0.001", "--batch-size", "20"]
    assert train.main([*options, "--output-dir", "runs"]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("-own-crosses")
    record = read_record(folder)
    assert record["options"]["dataset"] == str(path)
    assert record["data"]["class_names"] == ["0", "1", "2"]
    assert record["test"]["accuracy"] == 1
    assert "read pictures: " in capsys.readouterr().out

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = ["--dataset", "../crosses.npz", "--epochs", "3"]
    assert resume(folder, *again) == 0
    net, metadata = read_weights(folder / "weights.npz")
    assert (metadata["dataset"], metadata["classes"]) == ("own-crosses", ["0", "1", "2"])
    with np.load(path) as arrays:
        x = arrays["x_test"][:, None].astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(net.predict(x), arrays["y_test"])

    moved = path.rename(tmp_path / "moved.npz")
    capsys.readouterr()
    assert resume(folder, "--epochs", "4") == 1
    assert capsys.readouterr().err == (
        f"train.py: {folder} was trained on {path}, which does not exist; if the images have "
        "moved, add --dataset with their new path\n"
    )
    assert resume(folder, "--epochs", "4", "--dataset", str(moved)) == 0
    assert resume(folder, "--epochs", "5") == 0  # the new path was saved
    moved.rename(path)

    crosses(path, shift=1)
    capsys.readouterr()
    assert resume(folder, "--epochs", "6", "--dataset", str(path)) == 1
    assert capsys.readouterr().err == (
        f"train.py: {folder} was trained on other {path} data than those there now (their "
        "SHA-256 differ); restore the old data or start a new run\n"
    )


def test_inverted_images_stay_inverted_on_resuming(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "crosses.npz"
    crosses(path)
    with np.load(path) as arrays:
        dark = {name: 255 - x if name[0] == "x" else x for name, x in arrays.items()}
    np.savez(path, **dark)
    options = ["--dataset", str(path), "--invert", "--transpose", "--epochs", "1"]
    assert train.main([*options, "--output-dir", str(tmp_path / "runs")]) == 0
    out, err = capsys.readouterr()
    assert "--invert --transpose" in " ".join(out.split())
    assert err == ""
    (folder,) = (tmp_path / "runs").iterdir()
    assert resume(folder, "--epochs", "2") == 0
    record = read_record(folder)
    assert (record["options"]["invert"], record["data"]["invert"]) == (True, True)
    assert record["options"]["skip_unreadable"] is False
    capsys.readouterr()
    assert resume(folder, "--skip-unreadable") == 1
    assert capsys.readouterr().err == (
        f"train.py: {folder} was trained without --skip-unreadable, which cannot change on "
        "resuming; omit the option or start a new run\n"
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (".lock", "{folder}/.lock is not a file; remove it"),
        (
            "run.json",
            "{folder}/run.json cannot be written: it is not a regular file; choose another name",
        ),
        (
            "checkpoint.npz",
            "{folder} is not the folder of a run: it holds no checkpoint.npz; give a folder inside "
            "outputs, or latest",
        ),
    ],
)
def test_a_pipe_in_a_run_is_refused_not_waited_for(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, sentence: str
) -> None:
    folder = shutil.copytree(finished, tmp_path / finished.name)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert resume(folder) == 1
    assert sentence.format(folder=folder) in capsys.readouterr().err


def test_a_limit_above_ones_own_images_is_refused_when_their_number_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crosses(tmp_path / "own.npz")
    options = ["--dataset", str(tmp_path / "own.npz"), "--limit", "101"]
    assert train.main([*options, "--output-dir", str(tmp_path / "runs")]) == 1
    assert capsys.readouterr().err == (
        "train.py: cannot keep 101 training images: own-own has 100; choose a limit from 1 to 100\n"
    )
    assert not (tmp_path / "runs").exists()


def test_the_name_of_a_folder_reaches_the_screen_escaped(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In all output of a resumed training, whether it draws its results or finds them."""
    folder = copy.rename(copy.with_name("a\n\x1b[2J"))
    shown = str(folder).replace("\n", "\\n").replace("\x1b", "\\x1b")
    (folder / "loss.png").unlink()
    assert resume(folder) == resume(folder) == 0
    out, err = capsys.readouterr()
    assert f"folder   {shown}\n" in out
    assert f"\n  {shown}/loss.png\n" in out
    assert f"\n{shown} is finished after 4 epochs" in out
    assert (out + err).replace("\n", "").isprintable()


@pytest.mark.parametrize("wanted", [False, True])
def test_warnings_are_shown_to_developers_only(
    monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    """Warnings are errors here; -W fills sys.warnoptions."""

    def main() -> int:
        warnings.warn("for developers", stacklevel=1)
        return 0

    monkeypatch.setattr(sys, "warnoptions", ["error"] if wanted else [])
    with pytest.raises(UserWarning) if wanted else nullcontext():
        assert cli.run("program", main) == 0
