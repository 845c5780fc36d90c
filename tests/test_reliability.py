"""Whatever happens to a training, nothing is lost, and one sentence says what to do.

Oracle: one undisturbed training. Every other one is killed, stopped or starved of disk or memory,
then resumed, and must end with the same bytes in every file. NumPy, csv, json and Pillow judge
whether a file is complete.

Most trainings run in forks (see forked.py), where a fault can be placed at an exact spot; some are
`python train.py` itself. `--kills N` sets how many are killed at random instants.
"""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import ROOT, Forks, Result
from PIL import Image

import train
from handcnn import HandcnnError, Network, OutputLayer, documented_network, load_network
from handcnn.app import command_line as cli
from handcnn.app.commands import resume_command, train_command
from handcnn.storage import archive, runs
from handcnn.storage.checkpoints import (
    HISTORY_COLUMNS,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs fork, signals and limits")

# The best of the four epochs is the third, so that the best weights are not the last ones.
SHORT: tuple[str, ...] = ("--dataset", "digits", "--limit", "320", "--batch-size", "32")
SHORT += ("--learning-rate", "0.01", "--seed", "2")
OPTIONS = (*SHORT, "--epochs", "4")
# A run with all that changes from step to step: learning rates, distortions, an average.
LENET: tuple[str, ...] = ("--network", "lenet", "--dataset", "digits", "--limit", "90")
LENET += ("--batch-size", "32", "--epochs", "3", "--augment", "distort", "--average", "0.9")
BLANK = """
import handcnn.app.report as report, handcnn.plots as plots
report.pictures = lambda *_: ((name, plots.Figure((1, 1))) for name in report.PICTURES)
"""
PICTURES = {"accuracy.png", "confusion_matrix.png", "filters.png", "loss.png", "mistakes.png"}
FILES = PICTURES | {"checkpoint.npz", "history.csv", "run.json", "weights.npz"}
CLOCK = ("seconds", "images_per_second")


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as forks:
        yield forks


class Outputs:
    """A folder of runs, with one run in it, which has to end as the undisturbed one did."""

    def __init__(self, forks: Forks, path: Path, undisturbed: Path, is_lenet: bool = False) -> None:
        self.forks, self.path, self.undisturbed = forks, path, undisturbed
        # All networks are drawn by the same code, so one of them is enough to draw.
        self.options, self.setup = (LENET, BLANK) if is_lenet else (OPTIONS, "")

    def start(self, *options: str, setup: str = "", kill_after: float | None = None) -> Result:
        arguments = (*self.options, "--output-dir", str(self.path), *options)
        return self.forks.train(*arguments, setup=self.setup + setup, kill_after=kill_after)

    def resume(self, *options: str, setup: str = "", kill_after: float | None = None) -> Result:
        arguments = ("--resume", "latest", "--output-dir", str(self.path), *options)
        return self.forks.train(*arguments, setup=self.setup + setup, kill_after=kill_after)

    @property
    def run(self) -> Path:
        (folder,) = self.path.iterdir()
        return folder

    @property
    def epochs(self) -> int:
        return len(load_checkpoint(self.run / "checkpoint.npz").history)

    def assert_complete(self) -> None:
        """Check that each file that is there can be read to its end, and nothing else is there."""
        assert_all_complete(self.run)
        assert litter(self.run) == []

    def assert_resumes(self, *options: str) -> None:
        """Check that resuming ends with the same bytes in every file."""
        assert self.resume(*options).code == 0
        assert_equal(self.run, self.undisturbed)


@pytest.fixture(scope="module")
def oracle(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """Train without a fault; return the folder and how many seconds it took."""
    path = tmp_path_factory.mktemp("undisturbed")
    outputs = Outputs(forks, path, path)
    result = outputs.start()
    assert (result.code, result.err) == (0, "")
    assert json.loads((outputs.run / "run.json").read_text())["best_epoch"] == 3
    return outputs.run, result.seconds


@pytest.fixture(scope="module")
def undisturbed(oracle: tuple[Path, float]) -> Path:
    return oracle[0]


@pytest.fixture(scope="module")
def lenet_oracle(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """Train `LENET` without a fault; return the folder and how many seconds it took."""
    path = tmp_path_factory.mktemp("lenet")
    outputs = Outputs(forks, path, path, is_lenet=True)
    result = outputs.start()
    assert (result.code, result.err) == (0, "")
    return outputs.run, result.seconds


@pytest.fixture
def lenet_outputs(forks: Forks, tmp_path: Path, lenet_oracle: tuple[Path, float]) -> Outputs:
    return Outputs(forks, tmp_path / "outputs", lenet_oracle[0], is_lenet=True)


@pytest.fixture
def outputs(forks: Forks, tmp_path: Path, undisturbed: Path) -> Outputs:
    return Outputs(forks, tmp_path / "outputs", undisturbed)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file that a user sees."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}


def litter(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name not in {*FILES, runs.LOCK}]


def assert_equal(folder: Path, undisturbed: Path) -> None:
    found, expected = contents(folder), contents(undisturbed)
    assert found.keys() == expected.keys() == FILES
    assert [name for name in FILES if found[name] != expected[name]] == []
    assert litter(folder) == []


def assert_all_complete(folder: Path) -> None:
    """Check that each file that is there can be read to its end."""
    for path in folder.glob("[!.]*"):
        match path.name:
            case "checkpoint.npz":
                load_checkpoint(path)
            case "weights.npz":
                load_network(path)
            case "history.csv":
                rows = list(csv.reader(path.read_text().splitlines()))
                assert path.read_text().endswith("\n")
                assert {len(row) for row in rows} == {len(HISTORY_COLUMNS)}
            case "run.json":
                assert json.loads(path.read_text())["parameters"] in (1_606_666, 80_202)
            case name:
                assert name in PICTURES
                with Image.open(path) as image:
                    image.load()


def assert_one_line(result: Result, code: int, *parts: str) -> None:
    assert result.code == code, result
    assert result.err.count("\n") == 1, result.err
    assert result.err.startswith("train.py: ")
    for part in parts:
        assert part in result.err


# Killed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("network", "share"), [("documented", 1.0), ("lenet", 0.16)])
def test_killed_at_random_instants(
    request: pytest.FixtureRequest,
    forks: Forks,
    tmp_path: Path,
    kills: int,
    network: str,
    share: float,
) -> None:
    is_lenet = network == "lenet"
    undisturbed, seconds = request.getfixturevalue("lenet_oracle" if is_lenet else "oracle")
    rng = np.random.default_rng(0)
    done = trainings = 0
    kills = round(share * kills)
    while done < kills:
        trainings += 1
        outputs = Outputs(forks, tmp_path / str(trainings), undisturbed, is_lenet)
        left = min(17, kills - done)
        code = -9
        while code == -9:
            # Short waits are the more frequent, or most kills would hit the drawing.
            after = seconds * rng.random() ** 2 if left else None
            go_on = outputs.resume if list(outputs.path.glob("*/checkpoint.npz")) else outputs.start
            result = go_on(kill_after=after)
            code, left = result.code, left - 1
            assert code in (0, -9), result
            done += code == -9
            for folder in outputs.path.glob("*"):
                assert_all_complete(folder)
                assert len(litter(folder)) <= 1  # the write it was killed in
        (folder,) = (path.parent for path in outputs.path.glob("*/checkpoint.npz"))
        assert_equal(folder, undisturbed)
        shutil.rmtree(outputs.path)


SPOTS = {
    "between best weights and checkpoint": (4, "handcnn.app.session.save_checkpoint"),
    "between checkpoint and history": (4, "handcnn.storage.runs.write_history"),
    "between the last checkpoint and its history": (5, "handcnn.storage.runs.write_history"),
    "between the last epoch and the results": (1, "train.write_results"),
    "before the last picture": (1, "handcnn.plots.draw_filters"),
    "before the record of the end": (2, "handcnn.storage.runs.write_record"),
}


@pytest.mark.parametrize("spot", SPOTS)
def test_killed_at_the_worst_spots(outputs: Outputs, spot: str) -> None:
    number, function = SPOTS[spot]
    kill = f"at_call({number}, {function!r}, send(signal.SIGKILL))"
    assert outputs.start(setup=kill).code == -9
    assert_all_complete(outputs.run)
    outputs.assert_resumes()


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
@pytest.mark.parametrize("function", ["training.loss_function", "app.session.evaluate"])
def test_an_epoch_that_was_lost_is_trained_again_as_it_would_have_been(
    lenet_outputs: Outputs, name: str, function: str
) -> None:
    """Rates, distortions and average go on from the end of the epoch before, to the last bit.

    Three steps and one validation are an epoch; `function` is called in the middle of the second
    epoch, and at its end, before it is saved.
    """
    number = 5 if function == "training.loss_function" else 2
    stop = f"at_call({number}, 'handcnn.{function}', send(signal.{name}))"
    assert lenet_outputs.start(setup=stop).code == {"SIGKILL": -9, "SIGINT": 130}[name]
    assert lenet_outputs.epochs == (2 if (number, name) == (2, "SIGINT") else 1)
    lenet_outputs.assert_resumes()


def test_a_checkpoint_of_handcnn_0_1_is_resumed(outputs: Outputs) -> None:
    """Its options do not name network, schedule, augmentation and average, nor does it say more."""
    stop = "at_call(3, 'handcnn.app.session.train_epoch', send(signal.SIGKILL))"
    assert outputs.start(setup=stop).code == -9
    path = outputs.run / "checkpoint.npz"
    with np.load(path) as file:
        arrays = dict(file)
    metadata = json.loads(str(arrays["metadata"]))
    assert metadata.pop("has_average") is False
    for name in ("network", "schedule", "augment", "average"):
        del metadata["options"][name]
    np.savez(path, **(arrays | {"metadata": np.array(json.dumps(metadata))}))
    assert outputs.epochs == 2
    outputs.assert_resumes()


def test_killed_before_anything_was_trained(outputs: Outputs) -> None:
    assert outputs.start(setup="at_call(2, 'os.fsync', send(signal.SIGKILL))").code == -9
    assert contents(outputs.run) == {}
    advice = f"holds checkpoint.npz; train one first with: {train_command()}\n"
    assert_one_line(outputs.resume(), 1, advice)


def command(*options: str) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), *options]


def without_clock(folder: Path) -> list[dict[str, str]]:
    rows = csv.DictReader((folder / "history.csv").read_text().splitlines())
    return [{key: row[key] for key in row if key not in CLOCK} for row in rows]


def test_python_train_py_stopped_in_three_ways(undisturbed: Path, tmp_path: Path) -> None:
    """As a user starts it: stopped by Ctrl-C, by the system, and by something like a power cut."""
    options = [*OPTIONS, "--output-dir", str(tmp_path)]
    for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)):
        with subprocess.Popen(
            command(*options), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            for line in process.stdout or ():
                if re.match(r" +\d/4 ", line):  # an epoch is over
                    break
            process.send_signal(number)
            _, err = process.communicate()
        assert process.returncode == code
        assert ("--resume" in err) == (code > 0)
        options = ["--resume", "latest", "--output-dir", str(tmp_path)]
    assert subprocess.run(command(*options), check=False, capture_output=True).returncode == 0
    (folder,) = tmp_path.iterdir()
    assert without_clock(folder) == without_clock(undisturbed)
    for name in FILES - {"history.csv", "run.json", "checkpoint.npz"}:
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert litter(folder) == []


# Stopped -----------------------------------------------------------------------------------------

MOMENTS = {
    "the first step": (1, "handcnn.app.session.train_epoch", 0),
    "a later step": (3, "handcnn.app.session.train_epoch", 2),
    "validation": (2, "handcnn.app.session.evaluate", 2),
    "the write of a checkpoint": (3, "handcnn.app.session.save_checkpoint", 2),
    "the evaluation on the test set": (1, "handcnn.app.report.evaluate", 4),
    "drawing": (1, "handcnn.plots.draw_loss", 4),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_step_and_says_how_to_go_on(
    outputs: Outputs, moment: str, name: str
) -> None:
    number, function, epochs = MOMENTS[moment]
    result = outputs.start(setup=f"at_call({number}, {function!r}, send(signal.{name}))")
    assert result.code == {"SIGINT": 130, "SIGTERM": 143}[name]
    assert result.err.splitlines() == [
        "",
        "stopping after this step; once more to leave at once",
        f"train.py: stopped by {name}, nothing is lost; go on with: {resume_command(outputs.run)}",
    ]
    assert outputs.epochs == epochs
    assert litter(outputs.run) == []
    if name == "SIGINT":
        outputs.assert_resumes()


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_while_data_are_loaded_ends_it_at_once(
    outputs: Outputs, name: str, code: int
) -> None:
    stop = f"at_call(1, 'data.dataset.load_digits_like_mnist', send(signal.{name}))"
    result = outputs.start(setup=stop)
    assert (result.code, result.err) == (code, f"train.py: stopped by {name}, nothing is lost\n")
    assert not outputs.path.exists()


@pytest.mark.parametrize(
    ("number", "function"),
    [(6, "os.fsync"), (2, "handcnn.app.session.train_epoch"), (1, "handcnn.plots.draw_mistakes")],
    ids=["in the middle of a write", "training", "drawing"],
)
def test_a_second_signal_ends_it_at_once(outputs: Outputs, number: int, function: str) -> None:
    twice = f"at_call({number}, {function!r}, send(signal.SIGINT, signal.SIGINT))"
    result = outputs.start(setup=twice)
    assert result.code == 130
    assert "Traceback" not in result.err
    outputs.assert_complete()
    outputs.assert_resumes()


# Resumed -----------------------------------------------------------------------------------------


def test_a_finished_run_says_so_and_is_left_alone(forks: Forks, undisturbed: Path) -> None:
    folder = undisturbed
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    result = forks.train("--resume", str(folder))
    assert result.code == 0
    assert result.out == f"{folder} is finished after 4 epochs; --epochs N with N > 4 goes on\n"
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert_one_line(
        forks.train("--resume", str(folder), "--target-accuracy", "99.9"),
        1,
        "is below the target of 99.9 %",
    )


def test_more_epochs_on_resuming_are_as_good_as_from_the_start(outputs: Outputs) -> None:
    assert outputs.start("--epochs", "2").code == 0
    # Raised, stopped at once, and resumed without saying the number again.
    stop = "at_call(1, 'handcnn.app.session.train_epoch', send(signal.SIGINT))"
    assert outputs.resume("--epochs", "4", setup=stop).code == 130
    outputs.assert_resumes("--dataset", "auto")


def test_epochs_cannot_be_undone(forks: Forks, undisturbed: Path) -> None:
    assert_one_line(
        forks.train("--resume", str(undisturbed), "--epochs", "3"),
        1,
        f"{undisturbed} has trained 4 epochs, which --epochs 3 cannot undo",
    )


def test_a_new_learning_rate_is_recorded(outputs: Outputs) -> None:
    assert outputs.start("--epochs", "1").code == 0
    assert outputs.resume("--epochs", "2", "--learning-rate", "0.005").code == 0
    rates = [row["learning_rate"] for row in without_clock(outputs.run)]
    assert rates == ["0.01", "0.005"]
    assert load_checkpoint(outputs.run / "checkpoint.npz").options["learning_rate"] == 0.005
    record = json.loads((outputs.run / "run.json").read_text())
    assert record["options"]["learning_rate"] == 0.005


def test_a_run_being_trained_is_not_trained_twice(tmp_path: Path, forks: Forks) -> None:
    """The lock of a dead process, here ended by SIGKILL, is void."""
    options = command(*OPTIONS, "--epochs", "1000", "--output-dir", str(tmp_path))
    with subprocess.Popen(options, text=True, stdout=subprocess.PIPE) as process:
        for line in process.stdout or ():
            if re.match(r" +1/", line):
                break
        (folder,) = tmp_path.iterdir()
        result = forks.train("--resume", str(folder))
        process.kill()
    assert_one_line(result, 1, f"{folder} is being trained by another process; wait until it ends")
    done = len(load_checkpoint(folder / "checkpoint.npz").history)
    assert forks.train("--resume", str(folder), "--epochs", str(done)).code == 0


def test_trainings_started_in_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    now, folders = datetime(2024, 1, 2, 3, 4, 5), []

    def create() -> None:
        folders.append(runs.create_run_folder(tmp_path / "outputs", "digits", None, now))

    threads = [threading.Thread(target=create) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == len(set(folders)) == 20
    assert tmp_path / "outputs" / "20240102-030405-digits" in folders


# The disk ----------------------------------------------------------------------------------------

FULL = {
    "weights": (3, "handcnn.app.session.train_epoch", 1_000_000, "weights.npz", 2),
    "checkpoint": (3, "handcnn.app.session.train_epoch", 10_000_000, "checkpoint.npz", 2),
    # The next one is longer, by a row of the history.
    "the end of the checkpoint": (
        3,
        "handcnn.app.session.train_epoch",
        "former",
        "checkpoint.npz",
        2,
    ),
    "history": (4, "handcnn.storage.runs.write_history", 100, "history.csv", 3),
    "picture": (1, "handcnn.plots.draw_loss", 30_000, "loss.png", 4),
    "record": (2, "handcnn.storage.runs.write_record", 100, "run.json", 4),
}


@pytest.mark.parametrize("what", FULL)
def test_no_space_left(outputs: Outputs, what: str) -> None:
    """A limit on the size of files stands in for the full disk."""
    number, function, size, name, epochs = FULL[what]
    if size == "former":
        size = f"next(Path({str(outputs.path)!r}).glob('*/checkpoint.npz')).stat().st_size"
    result = outputs.start(setup=f"at_call({number}, {function!r}, lambda: limit_files({size})())")
    assert_one_line(
        result,
        1,
        f"{outputs.run / name}: File too large; raise the limit on the size of a file (ulimit -f); "
        f"what was saved before is unharmed; go on with: {resume_command(outputs.run)}\n",
    )
    outputs.assert_complete()
    assert outputs.epochs == epochs
    if epochs == 4:  # quickly done
        outputs.assert_resumes()


def test_no_space_for_a_first_checkpoint_leaves_no_folder(outputs: Outputs) -> None:
    result = outputs.start(setup="limit_files(10_000_000)()")
    assert_one_line(
        result, 1, ".npz: File too large; raise the limit on the size of a file (ulimit -f)\n"
    )
    assert list(outputs.path.iterdir()) == []


def test_python_train_py_on_a_full_disk_makes_no_noise(tmp_path: Path) -> None:
    """What Python itself says while it ends is seen only here."""
    limited = ["sh", "-c", 'ulimit -f 5000; exec "$@"', "sh"]  # in blocks of 512 or 1024 bytes
    result = subprocess.run(
        [*limited, *command(*OPTIONS, "--output-dir", str(tmp_path))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert_one_line(Result(result.returncode, "", result.stderr, 0), 1, "File too large")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Mount a small disk at `tmp_path / "outputs"`; return what mounts it with other options."""
    place = tmp_path / "outputs"
    place.mkdir()

    def mount(options: str) -> None:
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True
        ).returncode:
            pytest.skip("a small disk can be mounted by root only")

    try:
        mount("size=28m")
        yield mount
    finally:
        subprocess.run(["umount", place], capture_output=True)


def test_a_disk_that_fills_up_and_is_given_more_room(
    small_disk: Callable[[str], None], outputs: Outputs
) -> None:
    """A checkpoint of 12.9 MB beside its successor and 6.4 MB of weights: 28 MB are too little."""
    assert_one_line(outputs.start(), 1, "checkpoint.npz: No space left on device; make room")
    outputs.assert_complete()
    small_disk("remount,size=100m")
    outputs.assert_resumes()


def test_a_disk_that_can_only_be_read(small_disk: Callable[[str], None], outputs: Outputs) -> None:
    small_disk("remount,size=100m")
    assert outputs.start("--epochs", "1").code == 0
    before = contents(outputs.run)
    small_disk("remount,ro")
    advice = "Read-only file system; choose a folder that you may write to"
    assert_one_line(outputs.resume("--epochs", "4"), 1, advice)
    assert_one_line(outputs.start(), 1, advice + "\n")
    assert contents(outputs.run) == before
    small_disk("remount,rw")
    outputs.assert_resumes("--epochs", "4")


def test_a_folder_that_may_not_be_written_to(outputs: Outputs) -> None:
    outputs.path.mkdir()
    outputs.path.chmod(0o500)
    if os.access(outputs.path, os.W_OK):
        pytest.skip("root may write anywhere")
    advice = "Permission denied; choose a folder that you may write to\n"
    assert_one_line(outputs.start(), 1, advice)
    outputs.path.chmod(0o700)
    assert list(outputs.path.iterdir()) == []


def test_a_folder_that_vanishes(outputs: Outputs) -> None:
    remove = f"__import__('shutil').rmtree({str(outputs.path)!r})"
    result = outputs.start(setup=f"at_call(2, 'handcnn.app.session.evaluate', lambda: {remove})")
    assert_one_line(
        result, 1, "-digits has vanished, and with it what was saved there; start a new run"
    )
    assert not outputs.path.exists()


# Memory, screen, numbers -------------------------------------------------------------------------


def test_out_of_memory(outputs: Outputs) -> None:
    petabytes = (
        "at_call(2, 'handcnn.app.session.train_epoch', lambda: __import__('numpy').empty(10**15))"
    )
    assert_one_line(
        outputs.start(setup=petabytes),
        1,
        f"out of memory; close other programs and go on with: {train_command()} --resume ",
        "or start a new run with a --batch-size below 32",
    )
    outputs.assert_resumes()


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("/dev/full", "the output: No space left on device; make room on the disk; what was saved"),
        ("a pipe", "nobody reads the output any longer; what was saved before is unharmed; go on"),
    ],
)
def test_a_screen_that_is_gone(tmp_path: Path, output: str, sentence: str) -> None:
    if output == "a pipe":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        if not Path(output).exists():
            pytest.skip(f"there is no {output}")
        writer = os.open(output, os.O_WRONLY)
    result = subprocess.run(
        command(*OPTIONS, "--output-dir", str(tmp_path)),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert_one_line(Result(result.returncode, "", result.stderr, 0), 1, sentence, "--resume")
    (folder,) = tmp_path.iterdir()
    assert load_checkpoint(folder / "checkpoint.npz").history == []


def test_a_screen_that_cannot_show_a_name(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(undisturbed, tmp_path / "größe")
    screen = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(screen, "ascii"))
    assert train.main(["--resume", str(tmp_path / "größe")]) == 0
    assert rb"/gr\xf6\xdfe is finished after 4 epochs" in screen.getvalue()


def test_a_screen_that_ctrl_c_ended_as_well(outputs: Outputs) -> None:
    """As in `python train.py | tee log`."""
    both = "(send(signal.SIGINT)(), os.dup2(os.open('/dev/full', os.O_WRONLY), 1))"
    result = outputs.start(setup=f"at_call(2, 'handcnn.app.session.evaluate', lambda: {both})")
    assert result.code == 130
    assert f"go on with: {resume_command(outputs.run)}" in result.err
    assert outputs.epochs == 2


def test_a_training_that_diverges(outputs: Outputs) -> None:
    assert outputs.start("--epochs", "2").code == 0
    former = {name: contents(outputs.run)[name] for name in ("weights.npz", "history.csv")}
    result = outputs.resume("--epochs", "4", "--learning-rate", "1000")
    assert_one_line(result, 1)
    assert re.fullmatch(
        r"train\.py: epoch 3: [\w.]+ is no longer finite at step \d+, most likely because the "
        r"learning rate is too large \(the gradient is a sum over the batch, so larger batches "
        rf"need smaller rates\); try a tenth of it; {outputs.run} keeps the state after epoch 2, "
        rf"go on with: {re.escape(resume_command(outputs.run))} --learning-rate 100\n",
        result.err,
    )
    assert former["history.csv"] == contents(outputs.run)["history.csv"]
    assert_all_complete(outputs.run)
    outputs.assert_resumes("--learning-rate", "0.01")


def test_a_validation_loss_that_is_not_finite(outputs: Outputs) -> None:
    """The last update of an epoch can ruin the network after the last loss was checked."""
    ruin = (
        "import handcnn.app.session as session\n"
        "session.evaluate = lambda *_: (session.Metrics(float('nan'), 0.1), None)"
    )
    assert_one_line(
        outputs.start(setup=ruin),
        1,
        "epoch 1: the validation loss is not finite after the last step, most likely because the "
        "learning rate is too large; try a tenth of it; ",
        "--learning-rate 0.001",
    )
    assert outputs.epochs == 0


def test_a_matplotlib_that_cannot_be_loaded_costs_no_result(
    outputs: Outputs, undisturbed: Path
) -> None:
    """Seen to end in a traceback after the whole training, and again at each resume."""
    result = subprocess.run(
        command(*OPTIONS, "--output-dir", str(outputs.path)),
        env=os.environ | {"MPLBACKEND": "bogus"},
        capture_output=True,
        text=True,
        check=False,
    )
    start = "train.py: the pictures cannot be drawn: Key backend: 'bogus' is not a valid value "
    end = "; the test result is safe; when matplotlib works here, go on with: "
    assert_one_line(Result(result.returncode, "", result.stderr, 0), 1, start)
    assert result.stderr.endswith(f"{end}{resume_command(outputs.run)}\n")
    assert "\ntest loss " in result.stdout
    record = outputs.run / "run.json"
    assert json.loads(record.read_text())["test"]
    assert not list(outputs.run.glob("*.png"))
    assert outputs.resume().code == 0
    for name in PICTURES:
        assert (outputs.run / name).read_bytes() == (undisturbed / name).read_bytes(), name


def test_pictures_of_a_former_result_do_not_outlive_it(outputs: Outputs) -> None:
    """Otherwise a run that is killed before it draws would seem to be finished."""
    assert outputs.start("--epochs", "2").code == 0
    kill = "at_call(1, 'handcnn.plots.draw_accuracy', send(signal.SIGKILL))"
    assert outputs.resume("--epochs", "4", setup=kill).code == -9
    assert not list(outputs.run.glob("*.png"))
    outputs.assert_resumes()


def test_a_progress_bar_that_cannot_be_loaded() -> None:
    """Seen to end in a traceback of tqdm, which reads its settings as it is loaded."""
    program = """
import sys
from handcnn.app.command_line import run
from handcnn.app.console import Console

def main():
    console = Console(quiet=False)
    console.shows_bars = True
    with console.progress([], "epoch 1/1"):
        return 0

sys.exit(run("train.py", main))
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"TQDM_MININTERVAL": "abc", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (
        1,
        "train.py: the progress bar cannot be loaded: could not convert string to float: 'abc'; "
        "look for TQDM_ in the environment, or use --quiet\n",
    )


def test_a_library_that_cannot_be_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise ImportError("libopenblas.so: failed to map segment from shared object\n")

    assert cli.run("train.py", main) == 1
    assert capsys.readouterr().err == (
        "train.py: a library cannot be loaded: libopenblas.so: failed to map segment from shared "
        "object\\n; close other programs, or install it again\n"
    )


def test_best_weights_too_large_to_compute_with(outputs: Outputs) -> None:
    """Forged, since no training keeps them: they are finite, and what they compute is not."""
    assert outputs.start("--epochs", "1").code == 0
    state = load_checkpoint(outputs.run / "checkpoint.npz")
    state.best = {name: np.full_like(array, 3e38) for name, array in state.best.items()}
    save_checkpoint(outputs.run / "checkpoint.npz", state)
    (outputs.run / "loss.png").unlink()
    assert_one_line(
        outputs.resume(),
        1,
        f"{outputs.run / 'weights.npz'} gives no test result: its numbers are too large to compute "
        "with; start a new run\n",
    )


# Checkpoints that are not to be trusted ----------------------------------------------------------


def other_network(state: Checkpoint) -> None:
    state.net = Network([OutputLayer(784, 10)], (1, 28, 28))
    state.best = state.net.parameters()


def option(name: str, value: object) -> Callable[[Checkpoint], object]:
    return lambda state: state.options.update({name: value})


def second_row(name: str, value: float) -> Callable[[Checkpoint], object]:
    return lambda state: state.history[1].update({name: value})


BAD_OPTIONS: list[tuple[str, object]] = [
    *[("epochs", 0), ("epochs", "4"), ("epochs", 10**18), ("epochs", True)],
    *[("batch_size", -1), ("batch_size", 1.5), ("batch_size", None)],
    *[("learning_rate", -1.0), ("learning_rate", 1e9), ("learning_rate", [0.1])],
    *[("seed", -1), ("seed", {}), ("dataset", 7), ("limit", 0), ("threads", 10**6)],
    *[("network", "vgg"), ("schedule", "linear"), ("augment", None), ("average", 1.0)],
]
BAD_NUMBERS = [
    *[("loss", 1e300), ("val_loss", -1), ("accuracy", 1.01), ("val_accuracy", -0.1)],
    ("seconds", -1),
]
OTHER_OPTIONS = "its options are not those of train.py"
OTHER_NETWORK = "it does not hold the network that train.py trains"
FORGERIES: dict[str, tuple[Callable[[Checkpoint], object], str]] = {
    "another network": (other_network, OTHER_NETWORK),
    "another network's name": (option("network", "lenet"), OTHER_NETWORK),
    "an average that is not there": (option("average", 0.9), OTHER_NETWORK),
    "an average that was not asked for": (
        lambda state: state.average.update(state.net.parameters()),
        OTHER_NETWORK,
    ),
    "an option too many": (option("shell", "rm"), OTHER_OPTIONS),
    "an option too few": (lambda state: state.options.pop("seed"), OTHER_OPTIONS),
    "no hash of the data": (lambda state: state.options.pop("sha256"), OTHER_OPTIONS),
    "fewer epochs than done": (option("epochs", 3), "its history is impossible"),
    **{
        f"{name} {value!r}": (
            option(name, value),
            f"its --{name.replace('_', '-')} is not a valid value",
        )
        for name, value in BAD_OPTIONS
    },
    **{
        f"{name} {number} in the history": (second_row(name, number), "its history is impossible")
        for name, number in BAD_NUMBERS
    },
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_checkpoint_is_refused(
    undisturbed: Path,
    tmp_path: Path,
    forgery: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    forge, fault = FORGERIES[forgery]
    path = tmp_path / "checkpoint.npz"
    state = load_checkpoint(undisturbed / "checkpoint.npz")
    forge(state)
    save_checkpoint(path, state)
    before = path.read_bytes()
    assert train.main(["--resume", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"train.py: {path} cannot be used: {fault}\n"
    assert contents(tmp_path) == {"checkpoint.npz": before}


@pytest.mark.parametrize("facts", [{"classes": 3}, {"input_shape": (1, 27, 28)}])
def test_a_forged_network_that_does_not_fit_the_data(
    undisturbed: Path, tmp_path: Path, facts: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "checkpoint.npz"
    state = load_checkpoint(undisturbed / "checkpoint.npz")
    state.net = documented_network(state.options["learning_rate"], **facts)
    state.best = state.net.parameters()
    save_checkpoint(path, state)
    assert train.main(["--resume", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"train.py: {path} cannot be used: its network does not fit the data, images of shape "
        "(28, 28) in 10 classes\n"
    )


def test_a_checkpoint_of_another_version(
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "checkpoint.npz"
    state = load_checkpoint(undisturbed / "checkpoint.npz")
    with monkeypatch.context() as patch:
        patch.setattr(archive, "VERSION", 2)
        save_checkpoint(path, state)
    assert train.main(["--resume", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"train.py: {path} cannot be used: it has format version 2, this handcnn reads 1\n"
    )


def test_other_data_than_those_of_the_run_are_refused(undisturbed: Path, forks: Forks) -> None:
    """One pixel of one image is another one now."""
    change = (
        "images, labels = data.dataset.load_digits_like_mnist()\n"
        "images[5, 14, 14] ^= 1\n"
        "data.dataset.load_digits_like_mnist = lambda: (images, labels)"
    )
    folder = undisturbed
    result = forks.train("--resume", str(folder), "--epochs", "5", setup=f"import data\n{change}")
    assert_one_line(
        result,
        1,
        f"{folder} was trained on other digits data than what is there now (their SHA-256 differ); "
        "bring back the former data or start a new run",
    )


def test_a_lock_that_is_held_is_told_from_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        runs.locked(tmp_path),
        pytest.raises(HandcnnError, match="another process"),
        runs.locked(tmp_path),
    ):
        pass

    def no_locks(file: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(runs, "lock_file", no_locks)
    with runs.locked(tmp_path), runs.locked(tmp_path):
        pass


def test_the_newest_of_many_runs_started_in_one_second(tmp_path: Path) -> None:
    now = datetime(2024, 1, 2, 3, 4, 5)
    folders = [runs.create_run_folder(tmp_path, "digits", None, now) for _ in range(12)]
    for folder in folders:
        (folder / runs.CHECKPOINT).touch()
    assert runs.newest_run(tmp_path, runs.CHECKPOINT) == folders[-1]


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="needs time zones to switch between")
def test_the_newest_run_is_the_last_one_on_any_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail: in Tokyo, local time is ahead, and so was the name of the earlier run."""
    for zone in ("Asia/Tokyo", "America/New_York"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        with runs.new_run(tmp_path, "digits", None) as folder:
            (folder / runs.CHECKPOINT).touch()
    monkeypatch.undo()
    time.tzset()
    assert runs.newest_run(tmp_path, runs.CHECKPOINT) == folder
    assert len(list(tmp_path.iterdir())) == 2


def test_a_run_that_may_not_be_read_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest one belongs to somebody else. Root may read it, so the refusal is staged."""
    for name in ("20240101-000000-digits", "20240102-000000-digits"):
        (tmp_path / name).mkdir()
        (tmp_path / name / runs.CHECKPOINT).touch()
    original = Path.stat

    def stat(path: Path, **options: bool) -> os.stat_result:
        if path.parent.name == "20240102-000000-digits":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    newest = runs.newest_run(tmp_path, runs.CHECKPOINT)
    assert newest.name == "20240101-000000-digits"


def test_a_folder_called_latest_is_not_the_newest_run(
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("latest", "outputs/20240101-000000-digits"):
        shutil.copytree(undisturbed, name)
    for typed, folder in (
        ("./latest", "latest"),
        ("latest/", "latest"),
        ("latest", "outputs/20240101-000000-digits"),
    ):
        assert train.main(["--resume", typed]) == 0
        assert capsys.readouterr().out.startswith(f"{folder} is finished after 4 epochs; ")


def test_training_in_another_thread(tmp_path: Path) -> None:
    """Python handles signals in the main thread only."""
    options = [*OPTIONS, "--epochs", "1", "--output-dir", str(tmp_path)]
    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(train.main, options).result() == 0


def test_a_signal_that_the_parent_ignores_stays_ignored(outputs: Outputs) -> None:
    """As SIGINT is in a background job of a shell."""
    setup = (
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "at_call(2, 'handcnn.app.session.train_epoch', send(signal.SIGINT))"
    )
    result = outputs.start(setup=setup)
    assert (result.code, result.err) == (0, "")
