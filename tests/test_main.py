"""`python -m handcnn`, run as a learner runs it.

Oracles: the exit code, and what must be on the screen; a layer broken on purpose in the same
process, which the program has to notice.
"""

import re
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def output() -> str:
    done = subprocess.run([sys.executable, "-m", "handcnn"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        ("InputLayer()", "(2, 1, 28, 28)"),
        ("Conv2D(1 -> 32, 3x3)", "(2, 32, 28, 28)"),
        ("HiddenLayer(25088 -> 64)", "(2, 64)"),
        ("OutputLayer(64 -> 10)", "(2, 10)"),
    ],
)
def test_the_shape_after_each_layer(output: str, layer: str, shape: str) -> None:
    assert re.search(rf"{re.escape(layer)} +-> {re.escape(shape)}\n", output)


def test_predictions_for_both_images(output: str) -> None:
    found = re.findall(
        r"image (\d): predicted \d with ([\d.]+) %, its label \d has ([\d.]+) %", output
    )
    assert [number for number, _, _ in found] == ["1", "2"]
    for _, guess, label in found:
        assert 8 < float(label) <= float(guess) < 12  # it knows nothing yet


def test_every_parameter_passes_the_gradient_check(output: str) -> None:
    lines = re.findall(r"(layer\d\.\w+) +([\d,]+) .* (\d\.\de-\d+) +(\w+)\n", output)
    assert [(name, numbers, verdict) for name, numbers, _, verdict in lines] == [
        ("layer1.weights", "288", "ok"),
        ("layer1.bias", "32", "ok"),
        ("layer2.weights", "1,605,632", "ok"),
        ("layer2.bias", "64", "ok"),
        ("layer3.weights", "640", "ok"),
        ("layer3.bias", "10", "ok"),
    ]
    assert all(float(error) < 1e-6 for _, _, error, _ in lines)


def test_the_loss_falls(output: str) -> None:
    (before, after), *others = re.findall(r"loss before ([\d.]+), loss after ([\d.]+)", output)
    assert not others
    assert float(after) < float(before)
    assert abs(float(before) - 2.302585) < 0.05


def test_a_broken_layer_is_shown_and_fails() -> None:
    program = """
import sys
from handcnn import OutputLayer
from handcnn.__main__ import main

right = OutputLayer.backward

def wrong(self, dout):
    dx = right(self, dout)
    self.dweights = 1.001 * self.dweights
    return dx

OutputLayer.backward = wrong
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert re.findall(r"(layer\d\.\w+) .* WRONG\n", done.stdout) == ["layer3.weights"]
    assert done.stdout.count(" ok\n") == 5
