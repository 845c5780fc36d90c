"""`python -m handcnn`, and all programs while they load their libraries.

Oracles: the exit code and the expected output; a layer broken on purpose, which the program must
detect; Python's audit events, which show when a library is about to be imported.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from handcnn import OutputLayer
from handcnn.__main__ import main
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
    assert main([]) == 1
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
            "handcnn: the output: No space left on device; free some disk space\n",
        ),
        (
            "--wrong",
            2,
            "python -m handcnn: unrecognized arguments: --wrong; see python -m handcnn --help\n",
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
@pytest.mark.parametrize("program", ["train.py", "predict.py", "draw.py"])
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
    "program", [["train.py"], ["predict.py"], ["draw.py"], ["-m", "handcnn"], ["-m", "data"]]
)
def test_a_python_without_the_libraries_says_so_in_one_sentence(program: list[str]) -> None:
    """-S leaves out all installed packages."""
    command = [sys.executable, "-S", *program]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    sentence = (
        r"(train\.py|predict\.py|draw\.py|handcnn): \w+ is not installed in this Python; .+\n"
    )
    assert re.fullmatch(sentence, result.stderr)
