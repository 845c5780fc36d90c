"""The gradient checker, which must find every mistake before its silence means anything.

Oracles: layers that are wrong on purpose, each in one known way, so that exactly the parameters
whose gradients the mistake reaches must be found; and functions whose slopes are known.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from builders import compare, copies, filled_network, random, refused

from handcnn import Conv2D, HiddenLayer, InputLayer, Network, OutputLayer
from handcnn.gradient_check import (
    Check,
    check_gradients,
    numerical_gradient,
    relative_error,
    slope,
)
from handcnn.kernels.convolution import input_gradient
from handcnn.types import Array

# --- layers wrong on purpose: each spoils what backward left, or its dx --------------------------

Mistake = Callable[[Any, Array, Array], Array]  # layer, dout, dx -> dx


def transpose_forgotten(layer: Conv2D, dout: Array, dx: Array) -> Array:
    """Exchange rows and columns of every kernel's gradient; its sum is still right."""
    layer.dweights = layer.dweights.transpose(0, 1, 3, 2).copy()
    return dx


def weight_gradient_rotated(layer: Conv2D, dout: Array, dx: Array) -> Array:
    """Rotate dweights by 180 degrees, as if it were a true convolution."""
    layer.dweights = layer.dweights[:, :, ::-1, ::-1].copy()
    return dx


def kernels_not_rotated(layer: Conv2D, dout: Array, dx: Array) -> Array:
    """Correlate dx with the kernels as they are."""
    kernels = layer.weights[:, :, ::-1, ::-1]
    return input_gradient(dout, kernels, dx.shape[1:], layer.stride, layer.padding)


def bias_forgotten(layer: Conv2D, dout: Array, dx: Array) -> Array:
    layer.dbias = np.zeros_like(layer.dbias)
    return dx


def mean_instead_of_sum(layer: OutputLayer, dout: Array, dx: Array) -> Array:
    layer.dbias = layer.dbias / len(dout)
    return dx


def mask_forgotten(layer: HiddenLayer, dout: Array, dx: Array) -> Array:
    """Let the gradient flow through units that were silent, too."""
    layer.dweights = layer.x.reshape(len(dout), -1).T @ dout
    layer.dbias = dout.sum(axis=0, keepdims=True)
    return (dout @ layer.weights.T).reshape(dx.shape)


def twice_as_large(layer: HiddenLayer, dout: Array, dx: Array) -> Array:
    layer.dweights = 2 * layer.dweights
    return dx


def one_per_cent_off(layer: HiddenLayer, dout: Array, dx: Array) -> Array:
    """Change one entry of many."""
    layer.dbias[0, 0] *= 1.01
    return dx


def weights_not_transposed(layer: OutputLayer, dout: Array, dx: Array) -> Array:
    """Return dz W with a square W: the shape is right and the numbers are not."""
    return dout @ layer.weights


BELOW_OUTPUT = [f"layer{i}.{name}" for i in (1, 2, 3) for name in ("weights", "bias")]
MISTAKES: list[tuple[dict[int, Mistake], list[str]]] = [
    ({1: transpose_forgotten}, ["layer1.weights"]),
    ({2: transpose_forgotten}, ["layer2.weights"]),
    ({2: weight_gradient_rotated}, ["layer2.weights"]),
    ({2: kernels_not_rotated}, ["layer1.weights", "layer1.bias"]),
    ({2: bias_forgotten}, ["layer2.bias"]),
    ({3: mask_forgotten}, BELOW_OUTPUT),
    ({3: twice_as_large}, ["layer3.weights"]),
    ({3: one_per_cent_off}, ["layer3.bias"]),
    ({4: mean_instead_of_sum}, ["layer4.bias"]),
    ({4: weights_not_transposed}, BELOW_OUTPUT),
    ({1: bias_forgotten, 3: twice_as_large}, ["layer1.bias", "layer3.weights"]),
    ({}, []),
]


def network(mistakes: Mapping[int, Mistake] | None = None, dtype: type = np.float64) -> Network:
    """Return a network with two convolutions, and mistakes in some of its layers."""
    made = dict(mistakes or {})

    def wrong(i: int, right: type[Any]) -> Any:
        def backward(layer: Any, dout: Array) -> Array:
            return made[i](layer, dout, right.backward(layer, dout))

        return type("Wrong", (right,), {"backward": backward}) if i in made else right

    layers = [
        InputLayer(),
        wrong(1, Conv2D)(1, 3, 3, 1, 1, dtype=dtype),
        wrong(2, Conv2D)(3, 2, 3, 2, 1, dtype=dtype),
        wrong(3, HiddenLayer)(2 * 4 * 3, 5, dtype=dtype),
        wrong(4, OutputLayer)(5, 5, dtype=dtype),
    ]
    return filled_network(layers, seed=5)


X, Y = random((6, 1, 7, 6), 6), np.eye(5)[[0, 3, 1, 4, 4, 2]]


def check(net: Network) -> list[Check]:
    return check_gradients(net, X, Y, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("mistakes", "found"),
    MISTAKES,
    ids=["+".join(m.__name__ for m in mistakes.values()) or "right" for mistakes, _ in MISTAKES],
)
def test_exactly_the_wrong_gradients_are_found(
    mistakes: dict[int, Mistake], found: list[str]
) -> None:
    checks = check(network(mistakes))
    assert [one.name for one in checks if not one.passed] == found
    for one in checks:  # nothing is near the border: right by 7 digits, wrong in the first three
        assert one.error < 1e-7 or one.error > 1e-4, one


def test_a_check_tells_what_it_checked_and_keeps_the_parameters() -> None:
    net = network()
    before = copies(net.parameters())
    assert {one.name: one.numbers for one in check(net)} == {
        "layer1.weights": 27,
        "layer1.bias": 3,
        "layer2.weights": 54,
        "layer2.bias": 2,
        "layer3.weights": 120,
        "layer3.bias": 5,
        "layer4.weights": 25,
        "layer4.bias": 5,
    }
    compare(net.parameters(), before, rounding=0)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("call", [1, 2, 3, 10])
def test_the_parameters_are_kept_whatever_happens(
    monkeypatch: pytest.MonkeyPatch, call: int, error: type[BaseException]
) -> None:
    """Seen to fail: the one that was being moved stayed where it was."""
    net, original, calls = network(), Network.forward, itertools.count(1)

    def interrupted(self: Network, x: Array) -> Array:
        if next(calls) == call:
            raise error
        return original(self, x)

    before = copies(net.parameters())
    monkeypatch.setattr(Network, "forward", interrupted)
    with pytest.raises(error):
        check(net)
    compare(net.parameters(), before, rounding=0)


def test_float32_cannot_be_judged() -> None:
    """Also where only one layer of several is in float32."""
    mixed = network()
    assert isinstance(mixed.layers[3], HiddenLayer)
    mixed.layers[3].weights = mixed.layers[3].weights.astype(np.float32)
    for net, name in ((network(dtype=np.float32), "layer1.weights"), (mixed, "layer3.weights")):
        assert refused(lambda net=net: check(net)) == (  # type: ignore[misc]
            f"check_gradients expects a float64 network, got {name} of float32: its rounding "
            "errors are larger than the differences that are compared; build the layers with "
            "dtype=numpy.float64"
        )


# --- slopes --------------------------------------------------------------------------------------


def test_slope_of_a_known_function() -> None:
    """The slope of x^2 + 3y along (2, -1) at (5, 7) is 2*5*2 - 3 = 17; x and y come back."""
    a = np.array([5.0, 7.0])
    assert slope(lambda: a[0] ** 2 + 3 * a[1], a, np.array([2.0, -1.0])) == pytest.approx(17, 1e-8)
    assert a.tolist() == [5, 7]


def test_numerical_gradient_of_a_known_function() -> None:
    """The gradient of sum x^3 is 3x^2, entry by entry."""
    a = np.array([[1.0, -2.0], [0.0, 3.0]])
    gradient = numerical_gradient(lambda: float((a**3).sum()), a)
    np.testing.assert_allclose(gradient, [[3, 12], [0, 27]], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("a", "b", "error"), [(2, 1, 0.5), (-1, -2, 0.5), (0, 0, 0), (1, -1, 2)])
def test_relative_error(a: float, b: float, error: float) -> None:
    assert relative_error(a, b) == error


@pytest.mark.parametrize(
    ("by_hand", "by_differences", "passed"),
    [
        (np.nan, 1.0, False),
        (1.0, np.nan, False),
        (0.0, 1.0, False),
        (0.0, 0.0, True),
        (1.0, 1 - 2e-7, True),
        (1.0, 1 - 2e-5, False),
    ],
)
def test_six_digits_pass(by_hand: float, by_differences: float, passed: bool) -> None:
    assert Check("layer1.weights", 1, by_hand, by_differences).passed is passed
