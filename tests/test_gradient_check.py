"""The gradient checker, which must find every mistake before its silence means anything.

Oracles: layers that are wrong on purpose, each in one known way, so that exactly the parameters
whose gradients the mistake reaches must be found; and functions whose slopes are known.
"""

import numpy as np
import pytest

from handcnn import Conv2D, HiddenLayer, InputLayer, Network, OutputLayer
from handcnn.gradient_check import (
    TOLERANCE,
    Check,
    check_gradients,
    numerical_gradient,
    relative_error,
    slope,
)

Array = np.ndarray

# --- layers wrong on purpose ---------------------------------------------------------------------


class TransposeForgotten(Conv2D):
    """dweights with rows and columns of every kernel exchanged; its sum is still right."""

    def parameter_gradients(self, dout: Array) -> Array:
        dz = super().parameter_gradients(dout)
        self.dweights = self.dweights.transpose(0, 1, 3, 2).copy()
        return dz


class RotatedWeightGradient(Conv2D):
    """dweights rotated by 180 degrees, as if it were a true convolution."""

    def parameter_gradients(self, dout: Array) -> Array:
        dz = super().parameter_gradients(dout)
        self.dweights = self.dweights[:, :, ::-1, ::-1].copy()
        return dz


class NotRotated(Conv2D):
    """dx correlated with the kernels as they are."""

    def input_gradient(self, dz: Array) -> Array:
        weights = self.weights
        self.weights = np.ascontiguousarray(weights[:, :, ::-1, ::-1])
        dx = super().input_gradient(dz)
        self.weights = weights
        return dx


class ConvolutionBiasForgotten(Conv2D):
    """dbias never computed."""

    def parameter_gradients(self, dout: Array) -> Array:
        dz = super().parameter_gradients(dout)
        self.dbias = np.zeros_like(self.dbias)
        return dz


class MeanInsteadOfSum(OutputLayer):
    """dbias averaged over the batch."""

    def parameter_gradients(self, dout: Array) -> Array:
        dz = super().parameter_gradients(dout)
        self.dbias = self.dbias / len(dout)
        return dz


class MaskForgotten(HiddenLayer):
    """The gradient also flows through units that were silent."""

    def forward(self, x: Array) -> Array:
        self.seen = x.reshape(len(x), -1)
        return super().forward(x)

    def parameter_gradients(self, dout: Array) -> Array:
        super().parameter_gradients(dout)
        self.dweights = self.seen.T @ dout
        self.dbias = dout.sum(axis=0, keepdims=True)
        return dout


class FactorTwo(HiddenLayer):
    """dweights twice as large: right in direction, wrong in size."""

    def parameter_gradients(self, dout: Array) -> Array:
        dz = super().parameter_gradients(dout)
        self.dweights = 2 * self.dweights
        return dz


class OnePerCentOff(HiddenLayer):
    """One entry of dbias of many, off by one per cent."""

    def parameter_gradients(self, dout: Array) -> Array:
        dz = super().parameter_gradients(dout)
        self.dbias[0, 0] *= 1.01
        return dz


class WeightsNotTransposed(OutputLayer):
    """dx = dz W with a square W: the shape is right and the numbers are not."""

    def input_gradient(self, dz: Array) -> Array:
        return dz @ self.weights


BELOW_FIRST_DENSE = {f"layer{i}.{name}" for i in (1, 2) for name in ("weights", "bias")}

MISTAKES = [
    ({1: TransposeForgotten}, {"layer1.weights"}),
    ({2: TransposeForgotten}, {"layer2.weights"}),
    ({2: RotatedWeightGradient}, {"layer2.weights"}),
    ({2: NotRotated}, {"layer1.weights", "layer1.bias"}),
    ({2: ConvolutionBiasForgotten}, {"layer2.bias"}),
    ({3: MaskForgotten}, {*BELOW_FIRST_DENSE, "layer3.weights", "layer3.bias"}),
    ({3: FactorTwo}, {"layer3.weights"}),
    ({3: OnePerCentOff}, {"layer3.bias"}),
    ({4: MeanInsteadOfSum}, {"layer4.bias"}),
    ({4: WeightsNotTransposed}, {*BELOW_FIRST_DENSE, "layer3.weights", "layer3.bias"}),
    ({1: ConvolutionBiasForgotten, 3: FactorTwo}, {"layer1.bias", "layer3.weights"}),
    ({}, set()),
]


def network(wrong: dict[int, type]) -> Network:
    """Return a network in float64 with two convolutions, and `wrong` layers in some places."""
    rng = np.random.default_rng(5)
    arguments = [
        (Conv2D, (1, 3, 3, 1, 1)),
        (Conv2D, (3, 2, 3, 2, 1)),
        (HiddenLayer, (2 * 4 * 3, 5)),
        (OutputLayer, (5, 5)),
    ]
    layers = [InputLayer()]
    for i, (right, sizes) in enumerate(arguments, start=1):
        layers.append(wrong.get(i, right)(*sizes, rng=rng, dtype=np.float64))
    net = Network(layers, (1, 7, 6))
    for parameter in net.parameters().values():
        parameter[...] = 0.5 * rng.standard_normal(parameter.shape)
    return net


def batch() -> tuple[Array, Array]:
    rng = np.random.default_rng(6)
    return rng.standard_normal((6, 1, 7, 6)), np.eye(5)[rng.integers(5, size=6)]


@pytest.mark.parametrize(
    ("wrong", "found"),
    MISTAKES,
    ids=["+".join(cls.__name__ for cls in wrong.values()) or "right" for wrong, _ in MISTAKES],
)
def test_exactly_the_wrong_gradients_are_found(wrong: dict[int, type], found: set[str]) -> None:
    checks = check_gradients(network(wrong), *batch(), np.random.default_rng(0))
    assert len(checks) == 8
    assert {check.name for check in checks if not check.passed} == found
    for check in checks:  # nothing is near the border: right by 7 digits, wrong in the first three
        assert check.error < 1e-7 or check.error > 1e-4, check


def test_the_parameters_are_kept() -> None:
    net = network({})
    before = {name: array.copy() for name, array in net.parameters().items()}
    check_gradients(net, *batch(), np.random.default_rng(0))
    for name, array in net.parameters().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_check_tells_what_it_checked() -> None:
    checks = check_gradients(network({}), *batch(), np.random.default_rng(0))
    assert [(check.name, check.numbers) for check in checks] == [
        ("layer1.weights", 27),
        ("layer1.bias", 3),
        ("layer2.weights", 54),
        ("layer2.bias", 2),
        ("layer3.weights", 120),
        ("layer3.bias", 5),
        ("layer4.weights", 25),
        ("layer4.bias", 5),
    ]


# --- slopes --------------------------------------------------------------------------------------


def test_slope_of_a_known_function() -> None:
    """The slope of x^2 + 3y along (2, -1) at (5, 7) is 2*5*2 - 3 = 17; x and y come back."""
    a = np.array([5.0, 7.0])
    assert slope(lambda: a[0] ** 2 + 3 * a[1], a, np.array([2.0, -1.0])) == pytest.approx(17, 1e-8)
    assert a.tolist() == [5, 7]


def test_numerical_gradient_of_a_known_function() -> None:
    """The gradient of sum x^3 is 3x^2, entry by entry."""
    a = np.array([[1.0, -2.0], [0.0, 3.0]])
    gradient = numerical_gradient(lambda: (a**3).sum(), a)
    np.testing.assert_allclose(gradient, [[3, 12], [0, 27]], rtol=1e-8, atol=1e-8)


def test_relative_error() -> None:
    assert relative_error(2.0, 1.0) == relative_error(-1.0, -2.0) == 0.5
    assert relative_error(0.0, 0.0) == 0
    assert relative_error(1.0, -1.0) == 2


@pytest.mark.parametrize(("by_hand", "by_differences"), [(np.nan, 1.0), (1.0, np.nan), (0.0, 1.0)])
def test_nan_and_zero_do_not_pass(by_hand: float, by_differences: float) -> None:
    assert not Check("layer1.weights", 1, by_hand, by_differences).passed


def test_the_border() -> None:
    assert Check("layer1.weights", 1, 1.0, 1.0 - TOLERANCE / 2).passed
    assert not Check("layer1.weights", 1, 1.0, 1.0 - TOLERANCE * 2).passed
