"""Faults during a training: nothing is lost, and one sentence says what to do.

Oracle: one undisturbed training. Every other training is killed, stopped or short of disk space or
memory, then resumed, and must end with the same bytes in every file. A file is complete if NumPy,
csv, json or Pillow can read it.

Most trainings run in forks (see training_processes.py), where a fault can be placed at an exact
point; some run `python train.py`. `--kills N` sets how many are killed at random moments.
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
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from training_processes import FILES, OPTIONS, PLOTS, ROOT, Forks, Result

import train
from handcnn import HandcnnError, Network, OutputLayer, documented_network, load_network
from handcnn.commands import command_line as cli
from handcnn.commands.hints import resume_command, train_command
from handcnn.storage import archive, runs
from handcnn.storage.checkpoints import (
    HISTORY_COLUMNS,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from handcnn.storage.mistakes import read_mistakes

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs fork, signals and limits")

# A training with a schedule and distortions, whose state changes at every step.
LENET = [
    *("--network", "lenet", "--dataset", "digits", "--limit", "90", "--batch-size", "32"),
    *("--epochs", "3", "--schedule", "one-cycle", "--augment", "distort"),
]


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as forks:
        yield forks


class Outputs:
    """An output folder with one run, which must end like the undisturbed one."""

    def __init__(
        self, forks: Forks, path: Path, undisturbed: Path, options: list[str] = OPTIONS
    ) -> None:
        self.forks, self.path, self.undisturbed, self.options = forks, path, undisturbed, options

    def start(self, *options: str, setup: str = "", kill_after: float | None = None) -> Result:
        arguments = (*self.options, "--output-dir", str(self.path), *options)
        return self.forks.train(*arguments, setup=setup, kill_after=kill_after)

    def resume(self, *options: str, setup: str = "", kill_after: float | None = None) -> Result:
        arguments = ("--resume", "latest", "--output-dir", str(self.path), *options)
        return self.forks.train(*arguments, setup=setup, kill_after=kill_after)

    @property
    def run(self) -> Path:
        (folder,) = self.path.iterdir()
        return folder

    @property
    def epochs(self) -> int:
        return len(load_checkpoint(self.run / "checkpoint.npz").history)

    def assert_resumes(self, *options: str) -> None:
        """Check that resuming ends with the same bytes in every file."""
        assert self.resume(*options).code == 0
        assert_equal(self.run, self.undisturbed)


@pytest.fixture(scope="module")
def oracle(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """Train without a fault; return the folder and the duration in seconds."""
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
    """Train `LENET` without a fault; return the folder and the duration in seconds."""
    path = tmp_path_factory.mktemp("lenet")
    outputs = Outputs(forks, path, path, LENET)
    result = outputs.start()
    assert (result.code, result.err) == (0, "")
    return outputs.run, result.seconds


@pytest.fixture
def outputs(forks: Forks, tmp_path: Path, undisturbed: Path) -> Outputs:
    return Outputs(forks, tmp_path / "outputs", undisturbed)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of every visible file."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}


def litter(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name not in {*FILES, runs.LOCK}]


def assert_equal(folder: Path, undisturbed: Path) -> None:
    found, expected = contents(folder), contents(undisturbed)
    assert found.keys() == expected.keys() == FILES
    assert [name for name in FILES if found[name] != expected[name]] == []
    assert litter(folder) == []


def assert_all_complete(folder: Path) -> None:
    """Check that each existing file can be read to its end."""
    for path in folder.glob("[!.]*"):
        match path.name:
            case "checkpoint.npz":
                load_checkpoint(path)
            case "weights.npz":
                load_network(path)
            case "history.csv" | "losses.csv" as name:
                columns = HISTORY_COLUMNS if name == "history.csv" else runs.LOSS_COLUMNS
                rows = list(csv.reader(path.read_text().splitlines()))
                assert path.read_text().endswith("\n")
                assert {len(row) for row in rows} == {len(columns)}
            case "run.json":
                assert json.loads(path.read_text())["parameters"] in (1_606_666, 80_202)
            case "mistakes.npz":
                assert len(read_mistakes(path, classes=10).images) <= 24
            case name:
                assert name in PLOTS
                with Image.open(path) as image:
                    image.load()


def assert_says(result: Result, code: int, message: str) -> None:
    assert (result.code, result.err) == (code, f"train.py: {message}\n")


# Killed at random --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fixture", "options", "share"), [("oracle", OPTIONS, 1), ("lenet_oracle", LENET, 1 / 6)]
)
def test_killed_at_random_instants(
    request: pytest.FixtureRequest,
    forks: Forks,
    tmp_path: Path,
    pytestconfig: pytest.Config,
    fixture: str,
    options: list[str],
    share: float,
) -> None:
    undisturbed, seconds = request.getfixturevalue(fixture)
    rng = np.random.default_rng(0)
    done = trainings = 0
    kills = round(share * pytestconfig.getoption("--kills"))
    while done < kills:
        trainings += 1
        outputs = Outputs(forks, tmp_path / str(trainings), undisturbed, options)
        left = min(10, kills - done)
        code = -9
        while code == -9:
            # Short waits are more frequent; otherwise most kills would hit the end.
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


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_an_epoch_that_was_lost_is_trained_again_as_it_would_have_been(
    forks: Forks, lenet_oracle: tuple[Path, float], tmp_path: Path, name: str
) -> None:
    """Rates and distortions continue from the end of the previous epoch, bit for bit.

    An epoch has three steps. The signals come in the middle of the second epoch; the third one
    comes in its validation.
    """
    outputs = Outputs(forks, tmp_path, lenet_oracle[0], LENET)
    for go_on, number, function in (
        (outputs.start, 5, "handcnn.training.loss_function"),
        (outputs.resume, 2, "handcnn.training.loss_function"),
        (outputs.resume, 1, "app.session.evaluate"),
    ):
        stop = f"at_call({number}, {function!r}, lambda: send(signal.{name}))"
        assert go_on(setup=stop).code == {"SIGKILL": -9, "SIGINT": 130}[name]
        was_saved = name == "SIGINT" and "evaluate" in function  # the validation finishes first
        assert outputs.epochs == 1 + was_saved
    outputs.assert_resumes()


# Faults at exact points --------------------------------------------------------------------------


class Fault(NamedTuple):
    """A fault at a call of a function, how the training ends, and how many epochs are saved.

    In `says`, {run} stands for the run's folder and {resume} for the command that resumes it.
    If nothing is saved, no folder must be left.
    """

    call: int
    function: str
    action: str
    code: int
    says: str = ""
    epochs: int | None = None


LOAD = "data.loading.load_digits_like_mnist"
# The first is called at the start of each epoch, the second at its end.
TRAIN, EVALUATE = "handcnn.training.learning_rates", "app.session.evaluate"
CHECKPOINT = "app.session.save_checkpoint"
HISTORY, RECORD = "handcnn.storage.runs.write_history", "handcnn.storage.runs.write_record"
LOSSES = "handcnn.storage.runs.write_losses"
EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}
KILL, TWICE = "send(signal.SIGKILL)", "send(signal.SIGINT, signal.SIGINT)"
STOPPING = "\nstopping after this step; press Ctrl-C again to quit now\n"
TOO_LARGE = "File too large; raise the file size limit (ulimit -f)"
GONE = (
    "train.py: {run} is no longer there: it was moved or deleted; resume it where it is now, or "
    "start a new run\n"
)
UNHARMED = "what was saved before is intact; resume with: {resume}"
NAN = "sys.modules['handcnn.training'].Metrics(float('nan'), 0.1)"
SIZE_NOW = "next(Path({outputs!r}).glob('*/checkpoint.npz')).stat().st_size"


def stopped(name: str, call: int, function: str, epochs: int) -> Fault:
    """Return the fault of a single signal: the step finishes, and the file is written."""
    says = f"{STOPPING}train.py: stopped by {name}; nothing is lost; resume with: {{resume}}\n"
    return Fault(call, function, f"send(signal.{name})", EXIT_CODES[name], says, epochs)


def full(call: int, function: str, size: int | str, name: str, epochs: int) -> Fault:
    """Return the fault of a file that cannot grow beyond a size."""
    says = f"train.py: {{run}}/{name}: {TOO_LARGE}; {UNHARMED}\n"
    return Fault(call, function, f"limit_files({size})", 1, says, epochs)


FAULTS = {
    "killed in a write": Fault(16, "os.fsync", KILL, -9, "", 1),
    "killed between best weights and checkpoint": Fault(4, CHECKPOINT, KILL, -9, "", 2),
    "killed between checkpoint and history": Fault(4, HISTORY, KILL, -9, "", 3),
    "killed between history and losses": Fault(4, LOSSES, KILL, -9, "", 3),
    "killed between the last checkpoint and its history": Fault(5, HISTORY, KILL, -9, "", 4),
    "killed between the last epoch and the results": Fault(
        1, "train.write_results", KILL, -9, "", 4
    ),
    "killed before the last plot": Fault(1, "handcnn.plots.plot_filters", KILL, -9, "", 4),
    "killed before the record of the end": Fault(2, RECORD, KILL, -9, "", 4),
    "stopped in the first step": stopped("SIGINT", 1, TRAIN, 0),
    "stopped in a later step": stopped("SIGINT", 3, TRAIN, 2),
    "stopped in validation": stopped("SIGTERM", 2, EVALUATE, 2),
    "stopped in the write of a checkpoint": stopped("SIGTERM", 3, CHECKPOINT, 2),
    "stopped in the test": stopped("SIGINT", 1, "app.evaluation.evaluate", 4),
    "stopped while drawing": stopped("SIGINT", 1, "handcnn.plots.plot_loss", 4),
    **{
        f"{name} while data are loaded": Fault(
            *(1, LOAD, f"send(signal.{name})", code),
            f"train.py: stopped by {name}; nothing is lost\n",
        )
        for name, code in EXIT_CODES.items()
    },
    "two signals in a write": Fault(6, "os.fsync", TWICE, 130, STOPPING + "\n", 0),
    "two signals in training": Fault(2, TRAIN, TWICE, 130, STOPPING + "\n", 1),
    "two signals while drawing": Fault(
        1, "handcnn.plots.plot_mistakes", TWICE, 130, STOPPING + "\n", 4
    ),
    "a signal that the parent ignores": Fault(  # as SIGINT in a background job of a shell
        1, LOAD, "(signal.signal(signal.SIGINT, signal.SIG_IGN), send(signal.SIGINT))", 0, "", 4
    ),
    "a signal that ended the screen as well": Fault(  # as in python train.py | tee log
        *(2, EVALUATE, "(send(signal.SIGINT), os.dup2(os.open('/dev/full', os.O_WRONLY), 1))"),
        *(
            130,
            f"{STOPPING}train.py: stopped by SIGINT; nothing is lost; resume with: {{resume}}\n",
        ),
        2,
    ),
    "no space from the start": Fault(
        *(1, LOAD, "limit_files(10_000_000)", 1),
        f"train.py: {{run}}/checkpoint.npz: {TOO_LARGE}\n",
    ),
    "no space for weights": full(3, TRAIN, 1_000_000, "weights.npz", 2),
    "no space for a checkpoint": full(3, TRAIN, 10_000_000, "checkpoint.npz", 2),
    # a checkpoint grows by a history row per epoch
    "no space for its end": full(3, TRAIN, SIZE_NOW, "checkpoint.npz", 2),
    "no space for the history": full(4, HISTORY, 100, "history.csv", 3),
    "no space for the losses": full(4, LOSSES, 100, "losses.csv", 3),
    "no space for a plot": full(1, "handcnn.plots.plot_loss", 100, "loss.png", 4),
    "no space for the record": full(2, RECORD, 100, "run.json", 4),
    "the folder vanishes": Fault(
        *(2, EVALUATE, "__import__('shutil').rmtree({outputs!r})", 1),
        GONE,
    ),
    "the folder is moved": Fault(
        *(2, EVALUATE, "os.rename({outputs!r}, {outputs!r} + '-moved')", 1),
        GONE,
    ),
    "out of memory": Fault(
        *(2, TRAIN, "__import__('numpy').empty(10**15)", 1),
        "train.py: out of memory; close other programs and resume with: {resume}, or start a new "
        "run with a --batch-size below 32\n",
        1,
    ),
    # the last update of an epoch comes after the last check of the loss
    "a validation loss that is not finite": Fault(
        *(1, TRAIN, f"replace({EVALUATE!r}, lambda _: lambda *_: ({NAN}, None))", 1),
        "train.py: epoch 1: the validation loss is not finite after the last step, most likely "
        "because the learning rate is too large; try a tenth of it; {run} holds the state after "
        "epoch 0; resume with: {resume} --learning-rate 0.0012\n",
        0,
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_after_a_fault_resuming_ends_as_if_there_was_none(outputs: Outputs, fault: Fault) -> None:
    action = fault.action.replace("{outputs!r}", repr(str(outputs.path)))
    result = outputs.start(setup=f"at_call({fault.call}, {fault.function!r}, lambda: {action})")
    named = re.search(rf"{outputs.path}/[\w-]+", result.out + result.err)
    run = Path(named[0]) if named else outputs.path
    says = fault.says.format(run=run, resume=resume_command(run))
    assert (result.code, result.err) == (fault.code, says)
    if fault.epochs is None:
        assert [*outputs.path.glob("*")] == []
        return
    assert_all_complete(outputs.run)
    assert len(litter(outputs.run)) == (fault.function == "os.fsync" and fault.action == KILL)
    assert outputs.epochs == fault.epochs
    outputs.assert_resumes() if result.code else assert_equal(run, outputs.undisturbed)


def test_ctrl_c_after_the_current_folder_was_deleted(
    outputs: Outputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: exit code 1, because the hint is a command for the current folder."""
    gone = tmp_path / "gone"
    delete = f"(os.mkdir({str(gone)!r}), os.chdir({str(gone)!r}), os.rmdir({str(gone)!r}))"
    result = outputs.start(setup=f"at_call(2, {TRAIN!r}, lambda: ({delete}, send(signal.SIGINT)))")
    monkeypatch.chdir(tmp_path)
    says = f"stopped by SIGINT; nothing is lost; resume with: {resume_command(outputs.run)}"
    assert (result.code, result.err) == (130, f"{STOPPING}train.py: {says}\n")
    monkeypatch.undo()
    outputs.assert_resumes()


def test_ctrl_c_after_the_run_was_moved_names_no_folder_to_resume(outputs: Outputs) -> None:
    move = f"os.rename({str(outputs.path)!r}, {str(outputs.path) + '-moved'!r})"
    result = outputs.start(setup=f"at_call(2, {TRAIN!r}, lambda: ({move}, send(signal.SIGINT)))")
    says = "train.py: stopped by SIGINT; nothing is lost\n"
    assert (result.code, result.err) == (130, STOPPING + says)


def test_short_epochs_are_saved_a_few_at_a_time(forks: Forks, tmp_path: Path) -> None:
    """One step each, 200 of them: every second one is saved. A kill costs at most two."""
    options = ["--dataset", "digits", "--limit", "32", "--epochs", "200", "--network", "lenet"]
    options += ["--schedule", "constant", "--threads", "1"]
    undisturbed, killed = (Outputs(forks, tmp_path / name, tmp_path, options) for name in "ab")
    result = undisturbed.start()
    assert (result.code, result.err) == (0, "")
    lines = re.findall(r"^ +(\d+)/200 ", result.out, re.M)
    assert [int(line) for line in lines] == list(range(2, 201, 2))
    assert len(without_clock(undisturbed.run)) == 200
    kill = f"at_call(100, {EVALUATE!r}, lambda: send(signal.SIGKILL))"
    assert killed.start(setup=kill).code == -9
    assert killed.epochs == 98
    assert killed.resume().code == 0
    assert_equal(killed.run, undisturbed.run)


def killed_after_two_epochs(outputs: Outputs) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Kill a training in its third epoch; return its checkpoint, the arrays and the metadata."""
    kill = f"at_call(3, {TRAIN!r}, lambda: send(signal.SIGKILL))"
    assert outputs.start(setup=kill).code == -9
    assert outputs.epochs == 2
    path = outputs.run / "checkpoint.npz"
    with np.load(path) as file:
        arrays = dict(file)
    return path, arrays, json.loads(str(arrays.pop("metadata")))


def test_a_checkpoint_of_handcnn_0_1_is_resumed(outputs: Outputs) -> None:
    """Its options lack network, schedule and augmentation."""
    path, arrays, metadata = killed_after_two_epochs(outputs)
    for name in ("network", "schedule", "augment"):
        del metadata["options"][name]
    np.savez(path, **arrays, metadata=np.array(json.dumps(metadata)))
    outputs.assert_resumes()


def test_a_checkpoint_of_the_time_of_weight_averages(outputs: Outputs) -> None:
    """It is resumed if there was no average, and refused in a sentence if there was one."""
    path, arrays, metadata = killed_after_two_epochs(outputs)
    averages = {
        f"average.{name}": array for name, array in arrays.items() if name.startswith("layer")
    }
    for decay in (0.999, 0.0):
        metadata |= {"has_average": decay > 0}
        metadata["options"]["average"] = decay
        extra = averages if decay else {}
        np.savez(path, **arrays, **extra, metadata=np.array(json.dumps(metadata)))
        if decay:
            fault = "it was trained with --average, which handcnn no longer has; start a new run"
            assert_says(outputs.resume(), 1, f"{path} cannot be used: {fault}")
    outputs.assert_resumes()


def test_killed_before_anything_was_trained(outputs: Outputs) -> None:
    kill = "at_call(2, 'os.fsync', lambda: send(signal.SIGKILL))"
    assert outputs.start(setup=kill).code == -9
    assert contents(outputs.run) == {}
    advice = f"holds checkpoint.npz; train one first with: {train_command()}"
    assert_says(outputs.resume(), 1, f"no run in {outputs.path} {advice}")


# Python itself -----------------------------------------------------------------------------------


def command(*options: object) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), *map(str, options)]


def without_clock(folder: Path) -> list[dict[str, str]]:
    rows = csv.DictReader((folder / "history.csv").read_text().splitlines())
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows
    ]


def after_an_epoch(process: subprocess.Popen[str]) -> None:
    """Wait until a training has finished an epoch."""
    for line in process.stdout or ():
        if re.match(r" +\d/", line):
            return


def test_python_train_py_stopped_and_resumed(finished: Path, tmp_path: Path) -> None:
    """As a user starts it, with real plots."""
    with subprocess.Popen(
        command(*OPTIONS, "--output-dir", tmp_path),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        after_an_epoch(process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    (folder,) = tmp_path.iterdir()
    assert process.returncode == 130
    assert f"resume with: {resume_command(folder)}\n" in err
    again = command("--resume", "latest", "--output-dir", tmp_path)
    assert subprocess.run(again, check=False, capture_output=True).returncode == 0
    assert without_clock(folder) == without_clock(finished)
    for name in FILES - {"history.csv", "run.json", "checkpoint.npz"}:
        assert (folder / name).read_bytes() == (finished / name).read_bytes(), name
    assert litter(folder) == []


def test_a_run_being_trained_is_not_trained_twice(tmp_path: Path, forks: Forks) -> None:
    """A process ended by SIGKILL no longer holds its lock."""
    longer = ["--epochs", "1000", "--learning-rate", "0.001"]  # it would diverge at a larger rate
    options = command(*OPTIONS, *longer, "--output-dir", tmp_path)
    with subprocess.Popen(options, text=True, stdout=subprocess.PIPE) as process:
        after_an_epoch(process)
        (folder,) = tmp_path.iterdir()
        result = forks.train("--resume", str(folder))
        process.kill()
    advice = "is being trained by another process; wait until it ends, or stop it"
    assert_says(result, 1, f"{folder} {advice}")
    done = len(load_checkpoint(folder / "checkpoint.npz").history)
    assert forks.train("--resume", str(folder), "--epochs", str(done)).code == 0


@pytest.mark.parametrize("screen", ["/dev/full", "a pipe", "a full disk"])
def test_python_itself_makes_no_noise(tmp_path: Path, screen: str) -> None:
    """Only a real process shows what Python prints while it exits."""
    arguments = command(*OPTIONS, "--output-dir", tmp_path)
    reader, writer = os.pipe()
    match screen:
        case "/dev/full":
            if not Path(screen).exists():
                pytest.skip(f"there is no {screen}")
            os.dup2(os.open(screen, os.O_WRONLY), writer)
            fault = f"the output: No space left on device; free some disk space; {UNHARMED}"
        case "a pipe":
            os.close(reader)
            fault = f"the program that reads the output has quit; {UNHARMED}"
        case _:
            arguments = ["sh", "-c", 'ulimit -f 5000; exec "$@"', "sh", *arguments]  # blocks
            fault = f"{{run}}/checkpoint.npz: {TOO_LARGE}"
    done = subprocess.run(arguments, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    result = Result(done.returncode, "", done.stderr)
    named = re.search(rf"{tmp_path}/[\w-]+", result.err)
    run = Path(named[0]) if named else tmp_path
    assert_says(result, 1, fault.format(run=run, resume=resume_command(run)))
    if run.exists():
        assert load_checkpoint(run / "checkpoint.npz").history == []
    else:
        assert list(tmp_path.iterdir()) == []


def test_a_matplotlib_that_cannot_be_loaded_costs_no_result(finished: Path, tmp_path: Path) -> None:
    """Regression: a traceback after the whole training, and again at each resume."""
    result = subprocess.run(
        command(*OPTIONS, "--output-dir", tmp_path),
        env=os.environ | {"MPLBACKEND": "bogus"},
        capture_output=True,
        text=True,
        check=False,
    )
    (folder,) = tmp_path.iterdir()
    start = "train.py: the plots cannot be made: Key backend: 'bogus' is not a valid value "
    end = "; the test result is saved; once matplotlib works, resume with: "
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith(start)
    assert result.stderr.endswith(f"{end}{resume_command(folder)}\n")
    assert "\ntest loss " in result.stdout
    assert json.loads((folder / "run.json").read_text())["test"]
    assert not list(folder.glob("*.png"))
    assert train.main(["--resume", str(folder)]) == 0
    for name in PLOTS:
        assert (folder / name).read_bytes() == (finished / name).read_bytes(), name


def test_a_progress_bar_that_cannot_be_loaded() -> None:
    """Regression: a traceback from tqdm, which reads its settings when it is imported."""
    program = """
import sys
from handcnn.commands.command_line import run
from app.console import Console

def main():
    console = Console(quiet=False)
    console.shows_bars = True
    with console.progress(1):
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
        "check the TQDM_ variables in the environment, or use --quiet\n",
    )


def test_a_library_that_cannot_be_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise ImportError("libopenblas.so: failed to map segment from shared object\n")

    assert cli.run("train.py", main) == 1
    assert capsys.readouterr().err == (
        "train.py: a library cannot be loaded: libopenblas.so: failed to map segment from shared "
        "object\\n; close other programs, or install it again\n"
    )


def test_a_finished_run_in_another_thread_on_a_screen_that_cannot_show_its_name(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python handles signals only in the main thread."""
    shutil.copytree(undisturbed, tmp_path / "größe")
    screen = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(screen, "ascii"))
    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(train.main, ["--resume", str(tmp_path / "größe")]).result() == 0
    assert rb"/gr\xf6\xdfe is finished after 4 epochs" in screen.getvalue()


# Resumed -----------------------------------------------------------------------------------------


def test_a_finished_run_says_so_and_is_left_alone(forks: Forks, undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.iterdir()}
    for option, value, fault in (
        ("--epochs", "4", ""),
        ("--epochs", "3", f"{undisturbed} has already trained 4 epochs, more than --epochs 3; "),
        ("--target-accuracy", "99.9", " % is below the target of 99.9 %\n"),
    ):
        result = forks.train("--resume", str(undisturbed), option, value)
        assert (result.code, result.err.count("\n")) == ((1, 1) if fault else (0, 0))
        assert fault in result.err
        if option != "--epochs" or not fault:
            advice = "is finished after 4 epochs; use --epochs N with N > 4 to train further"
            assert result.out == f"{undisturbed} {advice}\n"
    assert {path: path.stat().st_mtime_ns for path in undisturbed.iterdir()} == before


def test_more_epochs_on_resuming_are_as_good_as_from_the_start(outputs: Outputs) -> None:
    assert outputs.start("--epochs", "2").code == 0
    # Raised, stopped at once, and resumed without giving the number again.
    stop = f"at_call(1, {TRAIN!r}, lambda: send(signal.SIGINT))"
    assert outputs.resume("--epochs", "4", setup=stop).code == 130
    outputs.assert_resumes("--dataset", "auto")


def test_plots_of_a_former_result_do_not_outlive_it(outputs: Outputs) -> None:
    """Otherwise a run killed before drawing would look finished."""
    assert outputs.start("--epochs", "2").code == 0
    kill = "at_call(1, 'handcnn.plots.plot_accuracy', lambda: send(signal.SIGKILL))"
    assert outputs.resume("--epochs", "4", setup=kill).code == -9
    assert not list(outputs.run.glob("*.png"))
    outputs.assert_resumes()


def test_another_learning_rate(outputs: Outputs) -> None:
    """Too large a rate fails, the old rate finishes the run, and a new rate is recorded."""
    assert outputs.start("--epochs", "2").code == 0
    history = contents(outputs.run)["history.csv"]
    result = outputs.resume("--epochs", "4", "--learning-rate", "1000")
    assert result.code == 1
    assert re.fullmatch(
        r"train\.py: epoch 3: [\w.]+ is no longer finite at step \d+, most likely because the "
        r"learning rate is too large \(the gradient is a sum over the batch, so larger batches "
        rf"need smaller rates\); try a tenth of it; {outputs.run} holds the state after epoch 2; "
        rf"resume with: {re.escape(resume_command(outputs.run))} --learning-rate 100\n",
        result.err,
    )
    assert contents(outputs.run)["history.csv"] == history
    assert_all_complete(outputs.run)
    outputs.assert_resumes("--learning-rate", "0.012")

    assert outputs.resume("--epochs", "5", "--learning-rate", "0.005").code == 0
    rates = [row["learning_rate"] for row in without_clock(outputs.run)]
    assert rates == ["0.012"] * 4 + ["0.005"]
    assert load_checkpoint(outputs.run / "checkpoint.npz").options["learning_rate"] == 0.005
    record = json.loads((outputs.run / "run.json").read_text())
    assert record["options"]["learning_rate"] == 0.005


# Disks -------------------------------------------------------------------------------------------


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


def test_a_disk_that_fills_up_is_given_more_room_and_can_only_be_read(
    small_disk: Callable[[str], None], outputs: Outputs
) -> None:
    """Two checkpoints of 12.9 MB and 6.4 MB of weights do not fit on 28 MB."""
    result = outputs.start()
    unharmed = UNHARMED.format(resume=resume_command(outputs.run))
    fault = "No space left on device; free some disk space"
    assert_says(result, 1, f"{outputs.run}/checkpoint.npz: {fault}; {unharmed}")
    assert_all_complete(outputs.run)
    assert litter(outputs.run) == []
    before = contents(outputs.run)
    small_disk("remount,ro")
    fault = "Read-only file system; choose a folder that you can write to"
    assert_says(outputs.resume(), 1, f"{outputs.run}/.lock: {fault}")
    refused = rf"train\.py: {outputs.path}/[\w-]+: {re.escape(fault)}\n"
    assert re.fullmatch(refused, outputs.start().err)
    assert contents(outputs.run) == before
    small_disk("remount,rw,size=100m")
    outputs.assert_resumes()


def test_a_folder_that_may_not_be_written_to(outputs: Outputs) -> None:
    outputs.path.mkdir()
    outputs.path.chmod(0o500)
    if os.access(outputs.path, os.W_OK):
        pytest.skip("root may write anywhere")
    result = outputs.start()
    assert result.code == 1
    advice = "Permission denied; choose a folder that you can write to\n"
    assert result.err.endswith(advice)
    outputs.path.chmod(0o700)
    assert list(outputs.path.iterdir()) == []


# Forged checkpoints ------------------------------------------------------------------------------


def other_network(state: Checkpoint) -> None:
    state.net = Network([OutputLayer(784, 10)], (1, 28, 28))
    state.best = state.net.parameters()


def other_data(**facts: Any) -> Callable[[Checkpoint], object]:
    def forge(state: Checkpoint) -> None:
        state.net = documented_network(state.options["learning_rate"], **facts)
        state.best = state.net.parameters()

    return forge


def option(name: str, value: object) -> Callable[[Checkpoint], object]:
    return lambda state: state.options.update({name: value})


def second_row(name: str, value: float) -> Callable[[Checkpoint], object]:
    return lambda state: state.history[1].update({name: value})


BAD_OPTIONS: dict[str, list[object]] = {
    "epochs": [0, "4", 10**18, True],
    "batch_size": [-1, 1.5, None],
    "learning_rate": [-1.0, 1e9, [0.1]],
    **{"seed": [-1, {}], "dataset": [7], "limit": [0], "threads": [10**6]},
    **{"network": ["vgg", None], "schedule": ["linear"], "augment": [0]},
}
UNUSABLE = "{folder}/checkpoint.npz cannot be used: "
FORGERIES: dict[str, list[Callable[[Checkpoint], object]]] = {
    UNUSABLE + "it does not hold the network that train.py trains": [
        other_network,
        option("network", "lenet"),
    ],
    UNUSABLE + "its network does not fit the data, images of shape (28, 28) in 10 classes": [
        other_data(classes=3),
        other_data(input_shape=(1, 27, 28)),
    ],
    UNUSABLE + "its options are not those of train.py": [
        option("shell", "rm"),
        option("average", 0.9),
        lambda state: state.options.pop("seed"),
        lambda state: state.options.pop("sha256"),
    ],
    UNUSABLE + "its history is impossible": [
        option("epochs", 3),
        second_row("loss", 1e300),
        second_row("val_loss", -1),
        second_row("accuracy", 1.01),
        second_row("val_accuracy", -0.1),
        second_row("seconds", -1),
    ],
    UNUSABLE + "the losses of its steps are impossible": [
        lambda state: state.steps.fill(36),
        lambda state: state.steps.fill(-1),
    ],
    UNUSABLE + "its steps are not those of its epochs": [
        lambda state: setattr(state, "steps", state.steps[1:]),
        lambda state: setattr(state, "steps", np.tile(state.steps, (2, 1))),
    ],
    **{
        UNUSABLE + f"its --{name.replace('_', '-')} is not a valid value": [
            option(name, value) for value in values
        ]
        for name, values in BAD_OPTIONS.items()
    },
    UNUSABLE + "it has format version 2, this handcnn reads 1": [lambda state: None],
    "{folder} was trained on other digits data than those there now (their SHA-256 differ); "
    "restore the old data or start a new run": [
        lambda state: state.options["sha256"].update(images="0" * 64)
    ],
}


@pytest.mark.parametrize("fault", FORGERIES)
def test_a_forged_checkpoint_is_refused(
    undisturbed: Path,
    tmp_path: Path,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for forge in FORGERIES[fault]:
        state = load_checkpoint(undisturbed / "checkpoint.npz")
        forge(state)
        with monkeypatch.context() as patch:
            if "version" in fault:
                patch.setattr(archive, "VERSION", 2)
            save_checkpoint(tmp_path / "checkpoint.npz", state)
        before = contents(tmp_path)
        assert train.main(["--resume", str(tmp_path)]) == 1
        assert capsys.readouterr().err == f"train.py: {fault.format(folder=tmp_path)}\n"
        assert contents(tmp_path) == before


def test_a_run_of_an_older_version_has_the_losses_of_the_epochs_trained_since(
    outputs: Outputs, undisturbed: Path
) -> None:
    outputs.start(
        setup="at_call(3, 'handcnn.training.learning_rates', lambda: send(signal.SIGINT))"
    )
    path = outputs.run / "checkpoint.npz"
    state = load_checkpoint(path)
    state.steps = state.steps[:0]
    save_checkpoint(path, state)
    assert outputs.resume().code == 0
    header, *rows = (undisturbed / "losses.csv").read_text().splitlines()
    assert (outputs.run / "losses.csv").read_text().splitlines() == [header, *rows[10:]]


def test_best_weights_too_large_to_compute_with(outputs: Outputs, undisturbed: Path) -> None:
    """Forged, since no training saves such weights: finite, but their results are not."""
    folder = Path(shutil.copytree(undisturbed, outputs.path / undisturbed.name))
    state = load_checkpoint(folder / "checkpoint.npz")
    state.best = {name: np.full_like(array, 3e38) for name, array in state.best.items()}
    save_checkpoint(folder / "checkpoint.npz", state)
    (folder / "loss.png").unlink()
    fault = "gives no test result: its numbers are too large to compute with; start a new run"
    assert_says(outputs.resume(), 1, f"{folder / 'weights.npz'} {fault}")


# Folders -----------------------------------------------------------------------------------------


def test_a_lock_that_is_held_is_told_from_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        runs.locked(tmp_path),
        pytest.raises(HandcnnError, match="another process"),
        runs.locked(tmp_path),
    ):
        pass

    with runs.locked(tmp_path):
        (tmp_path / runs.LOCK).unlink()  # regression: this let a second process in
        with pytest.raises(HandcnnError, match="another process"), runs.locked(tmp_path):
            pass

    def no_locks(file: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(runs, "lock_file", no_locks)
    with runs.locked(tmp_path), runs.locked(tmp_path):
        pass


def test_trainings_started_in_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    now, output_dir = datetime(2024, 1, 2, 3, 4, 5), tmp_path / "outputs"
    with ThreadPoolExecutor(20) as executor:
        create = partial(runs.create_run_folder, output_dir, "digits", None, now)
        made = [executor.submit(create) for _ in range(20)]
    stem = "20240102-030405-digits"
    assert {future.result().name for future in made} == {
        *(stem if i == 1 else f"{stem}-{i}" for i in range(1, 21))
    }


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="needs time zones to switch between")
def test_the_newest_run_is_the_last_one_on_any_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: local time in Tokyo is ahead, so the earlier run had the later name."""
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
    """The newest run belongs to another user. Root could read it, so the refusal is simulated."""
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
