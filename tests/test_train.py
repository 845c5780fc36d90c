"""train.py from the options to the files, on the small bundled data set.

What happens when something goes wrong is in test_reliability.py and test_options.py.

Oracles: the files read back with NumPy, csv and json alone; a run compared with itself; and for
the failures the exact sentence a user sees.
"""

import csv
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import data.dataset
import train
from data import load_dataset
from handcnn import load_network
from handcnn.app.commands import predict_command, resume_command

ROOT = Path(__file__).parent.parent
FILES = {
    "accuracy.png",
    "checkpoint.npz",
    "confusion_matrix.png",
    "filters.png",
    "history.csv",
    "loss.png",
    "mistakes.png",
    "run.json",
    "weights.npz",
}
# Large steps, so that the network learns something in the few steps a test can afford.
# The best of the four epochs is the third.
FAST = ["--dataset", "digits", "--limit", "320", "--batch-size", "32", "--epochs", "4"]
FAST += ["--learning-rate", "0.01"]


@pytest.fixture(autouse=True, scope="module")
def _digits_drawn_once() -> Iterator[None]:
    once = functools.cache(data.dataset.load_digits_like_mnist)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data.dataset, "load_digits_like_mnist", once)
        yield


def run(tmp_path: Path, *options: str) -> Path:
    """Train into `tmp_path` and return the new run's folder."""
    before = set(tmp_path.glob("*"))
    assert train.main([*FAST, "--output-dir", str(tmp_path), *options]) == 0
    (folder,) = set(tmp_path.glob("*")) - before
    return folder


def history(folder: Path) -> list[dict[str, float]]:
    """Return the history without the columns that depend on the clock."""
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    clock = {"seconds", "images_per_second"}
    return [{k: float(v) for k, v in row.items() if k not in clock} for row in rows]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("outputs"))


def test_a_run_leaves_every_file_of_the_table_and_nothing_else(finished: Path) -> None:
    assert {path.name for path in finished.iterdir() if not path.name.startswith(".")} == FILES
    assert finished.name.endswith("-digits")


def test_the_history_has_a_row_per_epoch_and_the_network_learns(finished: Path) -> None:
    rows = history(finished)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert all(0 <= row["val_accuracy"] <= 1 for row in rows)


def test_the_weights_are_those_of_the_best_epoch_and_the_record_is_about_them(
    finished: Path,
) -> None:
    record = json.loads((finished / "run.json").read_text())
    rows = history(finished)
    best = max(rows, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
    assert record["best_epoch"] == best["epoch"] < 4

    net = load_network(finished / "weights.npz")
    dataset = load_dataset("digits", seed=0, limit=320)
    for part, accuracy in (
        (dataset.validation, best["val_accuracy"]),
        (dataset.test, record["test"]["accuracy"]),
    ):
        x = part.images[:, None].astype(np.float32) / np.float32(255)
        assert np.mean(net.predict(x) == part.labels) == pytest.approx(accuracy, abs=1e-12)
    assert record["data"]["dataset"] == "digits"
    assert record["options"]["seed"] == 0
    assert record["parameters"] == 1_606_666


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    finished: Path, tmp_path: Path
) -> None:
    again, other = run(tmp_path), run(tmp_path, "--seed", "1")
    assert history(again) == history(finished) != history(other)
    for name in FILES - {"history.csv", "run.json", "checkpoint.npz"}:
        assert (again / name).read_bytes() == (finished / name).read_bytes(), name


def test_latest_is_the_run_that_started_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "--epochs", "1")
    last = run(tmp_path, "--epochs", "1", "--name", "second")
    assert train.main(["--resume", "latest", "--output-dir", str(tmp_path)]) == 0
    assert (
        f"{last} is finished after 1 epoch; --epochs N with N > 1 goes on"
        in capsys.readouterr().out
    )


def test_the_target_accuracy_decides_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*FAST, "--output-dir", str(tmp_path), "--epochs", "1", "--target-accuracy"]
    assert train.main([*options, "100"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("train.py: test accuracy ")
    assert error.endswith(" % is below the target of 100 %\n")
    assert train.main([*options, "0.001"]) == 0


def test_quiet_prints_the_result_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "--quiet")
    captured = capsys.readouterr()
    assert captured.err == ""
    assert [line.split(" ")[0] for line in captured.out.split("\n")] == ["best", "test", ""]


OPTIONS_THAT_CHANGE_THE_PAST = [
    ("--seed", "1", "--seed 0, which cannot become 1"),
    ("--limit", "100", "--limit 320, which cannot become 100"),
    ("--batch-size", "64", "--batch-size 32, which cannot become 64"),
    ("--dataset", "mnist", "--dataset digits, which cannot become mnist"),
]


@pytest.mark.parametrize(("option", "value", "expected"), OPTIONS_THAT_CHANGE_THE_PAST)
def test_resuming_refuses_to_change_the_past(
    finished: Path,
    option: str,
    value: str,
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train.main(["--resume", str(finished), option, value]) == 1
    assert capsys.readouterr().err == (
        f"train.py: {finished} was trained with {expected} on resuming; "
        "leave the option out or start a new run\n"
    )


def test_help_is_quick_to_load_and_names_every_option() -> None:
    code = "import sys, train\ntry: train.main(['--help'])\nfinally: print(*sorted(sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    loaded = output.splitlines()[-1].split()
    assert not {"matplotlib", "sklearn", "scipy", "PIL", "tqdm"} & set(loaded)
    assert {word for word in output.split() if word.startswith("--")} >= {
        *("--epochs", "--batch-size", "--learning-rate", "--seed", "--dataset", "--data-home"),
        *("--output-dir", "--name", "--limit", "--resume", "--threads", "--quiet"),
        "--target-accuracy",
    }


def test_a_target_that_is_exactly_reached_is_reached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(tmp_path, "--epochs", "1")
    record = json.loads((folder / "run.json").read_text())
    record["test"]["accuracy"] = 0.9601  # times 100 it is 96.00999...
    (folder / "run.json").write_text(json.dumps(record))
    assert train.main(["--resume", str(folder), "--target-accuracy", "96.01"]) == 0
    assert train.main(["--resume", str(folder), "--target-accuracy", "96.02"]) == 1


def test_a_run_that_cannot_go_on_keeps_the_results_it_has(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / finished.name
    shutil.copytree(finished, folder)
    before = (folder / "run.json").read_bytes()
    more = ["--resume", str(folder), "--epochs", "5", "--learning-rate", "1000"]
    assert train.main(more) == 1
    assert (folder / "run.json").read_bytes() == before
    assert train.main(["--resume", str(folder), "--learning-rate", "0.01"]) == 0
    assert json.loads((folder / "run.json").read_text())["epochs"] == 5


@pytest.mark.parametrize("place", ["", "docs", "elsewhere"])
def test_the_printed_commands_work_in_a_shell_wherever_it_stands(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folder = tmp_path / "it's $HOME; a folder" / finished.name
    shutil.copytree(finished, folder)
    monkeypatch.chdir(tmp_path if place == "elsewhere" else ROOT / place)
    for command, expected in (
        (resume_command(folder), f"{folder} is finished after 4 epochs"),
        (predict_command(folder / "weights.npz"), "seven.jpg  "),
    ):
        result = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
        assert (result.returncode, result.stderr) == (0, "")
        assert expected in result.stdout


def test_a_printed_path_is_no_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resume_command(Path("-x/run")).endswith(" --resume ./-x/run")


@pytest.mark.parametrize("forged", ["NaN", "Infinity", "true", "2", '"1"'])
def test_a_record_that_is_no_accuracy_reaches_no_target(
    finished: Path, tmp_path: Path, forged: str
) -> None:
    """The results are made again."""
    folder = tmp_path / finished.name
    shutil.copytree(finished, folder)
    record = json.loads((folder / "run.json").read_text())
    measured, record["test"]["accuracy"] = record["test"]["accuracy"], json.loads(forged)
    (folder / "run.json").write_text(json.dumps(record))
    assert train.main(["--resume", str(folder), "--target-accuracy", "99"]) == 1
    assert json.loads((folder / "run.json").read_text())["test"]["accuracy"] == measured


@pytest.mark.parametrize("missing", ["mistakes.png", "weights.npz", "history.csv"])
def test_resuming_a_finished_run_makes_what_is_missing(
    finished: Path, tmp_path: Path, missing: str
) -> None:
    folder = tmp_path / finished.name
    shutil.copytree(finished, folder)
    (folder / missing).unlink()
    assert train.main(["--resume", str(folder)]) == 0
    assert (folder / missing).read_bytes() == (finished / missing).read_bytes()
