"""The gradient checker must find every mistake; otherwise its approval means nothing.

Oracles: layers that are wrong on purpose, each in one known way, so that it is known which
gradients are wrong; and functions with known slopes.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from builders import compare, copies, filled_network, random

from handcnn import Conv2D, HiddenLayer, InputLayer, Network, OutputLayer
from handcnn.gradient_check import Check, check_gradients, numerical_gradient, slope
from handcnn.kernels.convolution import input_gradient
from handcnn.types import Array

X, Y = random((6, 1, 7, 6), 6), np.eye(5)[[0, 3, 1, 4, 4, 2]]
Mistake = Callable[[Any, Array, Array], Array]  # (layer, dout, dx) -> dx, called after backward


def spoilt(name: str, change: Callable[[Array], Array]) -> Mistake:
    """Change one gradient."""

    def mistake(layer: Any, dout: Array, dx: Array) -> Array:
        setattr(layer, name, change(getattr(layer, name)))
        return dx

    return mistake


def one_per_cent_off(gradient: Array) -> Array:
    return gradient * np.where(np.arange(gradient.size) == 0, 1.01, 1)  # one of many entries


def kernels_not_rotated(layer: Conv2D, dout: Array, dx: Array) -> Array:
    kernels = layer.weights[:, :, ::-1, ::-1]
    return input_gradient(dout, kernels, dx.shape[1:], layer.stride, layer.padding)


def mask_forgotten(layer: HiddenLayer, dout: Array, dx: Array) -> Array:
    """Let the gradient also flow through units with z < 0."""
    layer.dweights = layer.x.reshape(len(dout), -1).T @ dout
    layer.dbias = dout.sum(axis=0, keepdims=True)
    return (dout @ layer.weights.T).reshape(dx.shape)


def weights_not_transposed(layer: OutputLayer, dout: Array, dx: Array) -> Array:
    """Return dz W with a square W: the shape is right, the numbers are wrong."""
    return dout @ layer.weights


TRANSPOSED = spoilt("dweights", lambda d: d.transpose(0, 1, 3, 2).copy())  # the sum stays right
ROTATED = spoilt("dweights", lambda d: d[:, :, ::-1, ::-1].copy())  # as in a true convolution
NO_BIAS = spoilt("dbias", np.zeros_like)
TWICE = spoilt("dweights", lambda d: 2 * d)
BELOW_OUTPUT = [f"layer{i}.{name}" for i in (1, 2, 3) for name in ("weights", "bias")]
MISTAKES: dict[str, tuple[dict[int, Mistake], list[str]]] = {
    "none": ({}, []),
    "transposed": ({1: TRANSPOSED}, ["layer1.weights"]),
    "transposed, above": ({2: TRANSPOSED}, ["layer2.weights"]),
    "rotated": ({2: ROTATED}, ["layer2.weights"]),
    "kernels not rotated": ({2: kernels_not_rotated}, ["layer1.weights", "layer1.bias"]),
    "bias forgotten": ({2: NO_BIAS}, ["layer2.bias"]),
    "mask forgotten": ({3: mask_forgotten}, BELOW_OUTPUT),
    "twice as large": ({3: TWICE}, ["layer3.weights"]),
    "one per cent off": ({3: spoilt("dbias", one_per_cent_off)}, ["layer3.bias"]),
    "mean instead of sum": ({4: spoilt("dbias", lambda d: d / len(X))}, ["layer4.bias"]),
    "weights not transposed": ({4: weights_not_transposed}, BELOW_OUTPUT),
    "two at once": ({1: NO_BIAS, 3: TWICE}, ["layer1.bias", "layer3.weights"]),
}


def network(mistakes: dict[int, Mistake], dtype: type = np.float64) -> Network:
    """Return a network with two convolutions, and mistakes in some of its layers."""

    def made(i: int, right: type[Any]) -> Any:
        def backward(layer: Any, dout: Array) -> Array:
            return mistakes[i](layer, dout, right.backward(layer, dout))

        return type("Wrong", (right,), {"backward": backward}) if i in mistakes else right

    layers = [
        InputLayer(),
        made(1, Conv2D)(1, 3, 3, 1, 1, dtype=dtype),
        made(2, Conv2D)(3, 2, 3, 2, 1, dtype=dtype),
        made(3, HiddenLayer)(2 * 4 * 3, 5, dtype=dtype),
        made(4, OutputLayer)(5, 5, dtype=dtype),
    ]
    return filled_network(layers, seed=5)


@pytest.mark.parametrize(("mistakes", "found"), MISTAKES.values(), ids=MISTAKES.keys())
def test_exactly_the_wrong_gradients_are_found(
    mistakes: dict[int, Mistake], found: list[str]
) -> None:
    net = network(mistakes)
    before = copies(net.parameters())
    checks = check_gradients(net, X, Y, np.random.default_rng(0))
    assert [check.name for check in checks if not check.passed] == found
    for check in checks:  # clear cases: correct to 7 digits, or wrong in the first three
        assert check.error < 1e-7 or check.error > 1e-4, check
    assert {check.name: check.numbers for check in checks} == {k: v.size for k, v in before.items()}
    compare(net.parameters(), before, rounding=0)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("call", [1, 2, 3, 10])
def test_the_parameters_are_kept_whatever_happens(
    monkeypatch: pytest.MonkeyPatch, call: int, error: type[BaseException]
) -> None:
    """Regression: the parameter being checked was not restored."""
    net, original, calls = network({}), Network.forward, itertools.count(1)

    def interrupted(self: Network, x: Array) -> Array:
        if next(calls) == call:
            raise error
        return original(self, x)

    before = copies(net.parameters())
    monkeypatch.setattr(Network, "forward", interrupted)
    with pytest.raises(error):
        check_gradients(net, X, Y, np.random.default_rng(0))
    compare(net.parameters(), before, rounding=0)


def test_slopes_of_known_functions() -> None:
    """The slope of x^2 + 3y along (2, -1) at (5, 7) is 2*5*2 - 3; the gradient of sum x^3 3x^2."""
    a, b = np.array([5.0, 7.0]), np.array([[1.0, -2.0], [0.0, 3.0]])
    assert slope(lambda: a[0] ** 2 + 3 * a[1], a, np.array([2.0, -1.0])) == pytest.approx(17, 1e-8)
    assert a.tolist() == [5, 7]
    gradient = numerical_gradient(lambda: float((b**3).sum()), b)
    np.testing.assert_allclose(gradient, [[3, 12], [0, 27]], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("by_hand", "by_differences", "error", "passed"),
    [
        (0.0, 0.0, 0, True),
        (1.0, 1 - 2**-22, 2**-22, True),  # 2.4e-7
        (1.0, 1 - 2**-16, 2**-16, False),  # 1.5e-5
        (0.0, 1.0, 1, False),
        (-1.0, -2.0, 0.5, False),
        (1.0, -1.0, 2, False),
        (np.nan, 1.0, np.nan, False),
        (1.0, np.nan, np.nan, False),
    ],
)
def test_six_digits_pass(by_hand: float, by_differences: float, error: float, passed: bool) -> None:
    check = Check("layer1.weights", 1, by_hand, by_differences)
    np.testing.assert_equal(check.error, error)
    assert check.passed is passed
