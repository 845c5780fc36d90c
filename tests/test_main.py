"""`python -m handcnn`, run as a learner runs it.

Oracles: the exit code, and what must be on the screen; a layer broken on purpose, which the program
has to notice.
"""

import re
import subprocess
import sys

import pytest

from handcnn import OutputLayer
from handcnn.__main__ import main
from handcnn.types import Array

SHAPES = {
    "InputLayer()": "(2, 1, 28, 28)",
    "Conv2D(1 -> 32, 3x3)": "(2, 32, 28, 28)",
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
        assert 8 < float(label) <= float(guess) < 12  # it knows nothing yet

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
