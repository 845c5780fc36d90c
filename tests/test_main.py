"""`python -m handcnn`, and all programs while they load their libraries.

Oracles: the exit code and the expected output; a layer broken on purpose, which the program must
detect; Python's audit events, which show when a library is about to be imported.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from handcnn import OutputLayer, documented_network
from handcnn.commands import command_line as cli
from handcnn.commands import demo
from handcnn.types import Array

ROOT = Path(__file__).parent.parent

SHAPES = {
    "InputLayer()": "(2, 1, 28, 28)",
    "Conv2D(1 -> 32, 3x3, padding 1)": "(2, 32, 28, 28)",
    "HiddenLayer(25088 -> 64)": "(2, 64)",
    "OutputLayer(64 -> 10)": "(2, 10)",
}
NUMBERS = {
    "layer1.weights": "288",
    "layer1.bias": "32",
    "layer2.weights": "1,605,632",
    "layer2.bias": "64",
    "layer3.weights": "640",
    "layer3.bias": "10",
}


def test_what_a_learner_sees() -> None:
    done = subprocess.run([sys.executable, "-m", "handcnn"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert dict(re.findall(r"^   (\w+\(.*\)) +-> (\(.*\))$", done.stdout, re.M)) == SHAPES

    images = re.findall(
        r"image (\d): predicted \d with ([\d.]+) %, its label \d has ([\d.]+) %", done.stdout
    )
    assert [number for number, _, _ in images] == ["1", "2"]
    for _, guess, label in images:
        assert 8 < float(label) <= float(guess) < 12  # untrained

    lines = re.findall(r"(layer\d\.\w+) +([\d,]+) .* (\d\.\de-\d+) +(\w+)\n", done.stdout)
    assert {name: numbers for name, numbers, _, _ in lines} == NUMBERS
    assert all(float(error) < 1e-6 and verdict == "ok" for _, _, error, verdict in lines)

    ((before, after),) = re.findall(r"loss before ([\d.]+), loss after ([\d.]+)", done.stdout)
    assert float(after) < float(before)
    assert abs(float(before) - 2.302585) < 0.05


def test_a_broken_layer_is_shown_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = OutputLayer.backward

    def wrong(self: OutputLayer, dout: Array) -> Array:
        dx = right(self, dout)
        self.dweights = 1.001 * self.dweights
        return dx

    monkeypatch.setattr(OutputLayer, "backward", wrong)
    assert demo.main([]) == 1
    out = capsys.readouterr().out
    assert re.findall(r"(layer\d\.\w+) .* WRONG\n", out) == ["layer3.weights"]
    assert out.count(" ok\n") == 5


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (">&-", 0, ""),
        (
            "> /dev/full",
            1,
            "python -m handcnn demo: the output: No space left on device; free some disk space\n",
        ),
        (
            "--wrong",
            2,
            "python -m handcnn: the following arguments are required: COMMAND; see python -m "
            "handcnn --help\n",
        ),
        (
            "demo --wrong",
            2,
            "python -m handcnn demo: unrecognized arguments: --wrong; see python -m handcnn demo "
            "--help\n",
        ),
    ],
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_without_a_screen_and_with_other_options(arguments: str, code: int, complaint: str) -> None:
    """Regression: tracebacks, and two lines from argparse."""
    command = ["sh", "-c", f'exec "$0" -m handcnn {arguments}', sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", complaint)


LISTENER = """
import os, signal, sys

def listen(event, arguments):
    if event == "import" and arguments[0] == os.environ["MODULE"]:
        os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(listen)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs the signals of POSIX")
@pytest.mark.parametrize(
    "module", ["handcnn", "handcnn.commands.command_line", "handcnn.layers.conv2d"]
)
@pytest.mark.parametrize("program", ["train.py", "predict.py", "evaluate.py", "runs.py", "draw.py"])
def test_ctrl_c_while_a_program_loads_its_libraries(
    tmp_path: Path, program: str, module: str
) -> None:
    """Regression: 13 to 35 lines of traceback."""
    (tmp_path / "sitecustomize.py").write_text(LISTENER)
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, root / program, "--help"],
        env=os.environ | {"MODULE": module, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    "program",
    [
        *(["train.py"], ["predict.py"], ["evaluate.py"], ["runs.py"], ["draw.py"]),
        *(["-m", "handcnn"], ["-m", "data"], ["-m", "benchmarks"], ["-m", "benchmarks.numbers"]),
        *(["-m", "app.reader"], ["-m", "examples.distorted_digits"]),
    ],
)
def test_a_python_without_the_libraries_says_so_in_one_sentence(program: list[str]) -> None:
    """-S leaves out all installed packages."""
    command = [sys.executable, "-S", *program]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    programs = r"((train|predict|evaluate|runs|draw)\.py|handcnn)"
    sentence = programs + r": \w+ is not installed in this Python; .+\n"
    assert re.fullmatch(sentence, result.stderr)


@pytest.mark.skipif(os.name != "posix", reason="needs the signals of POSIX")
@pytest.mark.parametrize(
    ("name", "code", "says"),
    [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "stopped by SIGTERM")],
)
def test_the_exit_code_tells_the_signal(
    name: str, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """For every program: all of them use `run`."""

    def wait() -> int:
        signal.raise_signal(getattr(signal, name))
        time.sleep(60)
        return 0

    assert cli.run("program", wait) == code
    assert capsys.readouterr().err == f"program: {says}\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.skipif(os.name != "posix", reason="needs the signals of POSIX")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_second_signal_while_the_first_is_reported_ends_without_a_traceback(
    name: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> int:
        signal.raise_signal(getattr(signal, name))
        return 0

    monkeypatch.setattr(cli, "print_failure", stop)
    assert cli.run("program", stop) == code


def test_a_signal_that_the_program_handles_itself_is_left_to_it() -> None:
    received: list[int] = []

    def send() -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    former = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        assert cli.run("program", send) == 0
    finally:
        signal.signal(signal.SIGTERM, former)
    assert received == [signal.SIGTERM]


MISSING = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "LIBRARY":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""


@pytest.mark.parametrize(
    ("library", "program", "command"),
    [
        ("matplotlib", "train.py", "train.py"),
        ("sklearn", "train.py", "train.py"),
        ("tqdm", "train.py", "train.py"),
        ("threadpoolctl", "train.py", "train.py"),
        ("PIL", "predict.py", "predict.py docs/seven.jpg"),
        ("scipy", "predict.py", "predict.py docs/seven.jpg"),
        ("PIL", "draw.py", "draw.py"),
        ("sklearn", "data", "-m data digits"),
        ("PIL", "data", "-m data digits"),
        ("PIL", "python -m handcnn predict", "-m handcnn predict docs/seven.jpg"),
    ],
)
def test_a_python_with_numpy_but_without_another_library_says_so(
    tmp_path: Path, library: str, program: str, command: str
) -> None:
    """Before anything is trained. A finder of modules plays the Python without it."""
    (tmp_path / "sitecustomize.py").write_text(MISSING.replace("LIBRARY", library))
    result = subprocess.run(
        [sys.executable, *command.split()],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    sentence = f"{library} is not installed in this Python; use make, or see README.md"
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"{program}: {sentence}\n"


# The command of an installed package -------------------------------------------------------------


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return an empty folder, beside one that holds the package alone, as pip installs it."""
    shutil.copytree(ROOT / "handcnn", tmp_path / "site" / "handcnn")
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def run_installed(here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command `handcnn` in a folder, as its script does."""
    code = "import sys; from handcnn.__main__ import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(here.parent / "site")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_installed_command_does_what_the_programs_do(installed: Path) -> None:
    documented_network(rng=np.random.default_rng(0)).save(installed / "weights.npz")
    seven = str(ROOT / "docs" / "seven.jpg")
    ours = run_installed(installed, "predict", seven, "--weights", "weights.npz")
    theirs = subprocess.run(
        [sys.executable, ROOT / "predict.py", seven, "--weights", "weights.npz"],
        cwd=installed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout) == (0, ours.stdout)
    assert seven in ours.stdout
    demo = run_installed(installed, "demo")
    assert (demo.returncode, demo.stderr) == (0, "")
    assert "loss after" in demo.stdout


def test_what_the_installed_command_says_names_no_file_of_the_repository(installed: Path) -> None:
    code = "import handcnn.commands.hints as h; print(h.missing_library(ImportError(name='PIL')))"
    missing = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(installed.parent / "site")},
        cwd=installed,
        capture_output=True,
        text=True,
        check=True,
    )
    advice = "install it with: python -m pip install pillow"
    assert missing.stdout == f"PIL is not installed in this Python; {advice}\n"
    for arguments in (["--help"], *([name, "--help"] for name in ("predict", "draw", "demo"))):
        text = run_installed(installed, *arguments).stdout
        assert text.startswith(f"usage: {' '.join(['handcnn', *arguments[:-1]])} [-h]")
        assert "python " not in text.replace("python -m handcnn", "")
    wrong = run_installed(installed, "train")
    said = "handcnn: COMMAND: 'train' is not one of predict, draw, demo; see handcnn --help\n"
    assert (wrong.returncode, wrong.stderr) == (2, said)
