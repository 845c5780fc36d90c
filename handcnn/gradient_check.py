"""Gradient check: compare the gradients of `backward` with finite differences.

The central difference (L(b + e) - L(b - e)) / 2e, for a number b of a parameter, needs no
derivation, and its error is O(e^2). In float64 it agrees with a correct gradient to about 8 digits.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from handcnn.loss import loss_function, loss_gradient
from handcnn.network import Network
from handcnn.types import Array

STEP = 1e-6
TOLERANCE = 1e-6


class Check(NamedTuple):
    """The check of one parameter array along a random direction.

    Attributes:
        name: of the parameter, as in `Network.parameters`.
        numbers: how many entries it has; the direction changes all of them.
        by_hand: slope of the summed cross-entropy along the direction, from `backward`.
        by_differences: the same slope from two forward passes.
    """

    name: str
    numbers: int
    by_hand: float
    by_differences: float

    @property
    def error(self) -> float:
        """The relative difference of the two slopes."""
        return relative_error(self.by_hand, self.by_differences)

    @property
    def passed(self) -> bool:
        """Whether the two slopes agree to six digits."""
        return self.error < TOLERANCE


def check_gradients(net: Network, x: Array, y_true: Array, rng: np.random.Generator) -> list[Check]:
    """Check the gradient of every parameter of `net` on one batch. The parameters are restored.

    Args:
        net: a network in float64.
        x: a batch (N, C, H, W).
        y_true: its one-hot labels (N, K).
        rng: source of the directions.

    Raises:
        ValueError: a parameter is float32, whose rounding errors would hide a wrong gradient.
    """
    for name, parameter in net.parameters().items():
        if parameter.dtype != np.float64:
            raise ValueError(
                f"check_gradients expects a float64 network, got {name} of {parameter.dtype}: its "
                f"rounding errors are larger than the differences that are compared; build the "
                "layers with dtype=numpy.float64"
            )

    def summed_loss() -> float:  # the gradient is that of the sum, not of the mean
        return len(x) * loss_function(net.forward(x), y_true)

    net.backward(loss_gradient(net.forward(x), y_true))
    gradients = net.gradients()
    checks = []
    for name, parameter in net.parameters().items():
        direction = rng.standard_normal(parameter.shape)
        by_hand = float((gradients[name] * direction).sum())
        by_differences = slope(summed_loss, parameter, direction)
        checks.append(Check(name, parameter.size, by_hand, by_differences))
    return checks


def slope(f: Callable[[], float], array: Array, direction: Array) -> float:
    """Return the derivative of `f`, which reads `array`, along `direction`.

    `array` is restored, even after an exception.
    """
    original = array.copy()
    try:
        array[...] = original + STEP * direction
        above = f()
        array[...] = original - STEP * direction
        below = f()
    finally:
        array[...] = original
    return (above - below) / (2 * STEP)


def numerical_gradient(f: Callable[[], float], array: Array) -> Array:
    """Return the gradient of `f`, which reads `array`. `f` is called twice for each entry."""
    gradient = np.empty_like(array)
    for index in np.ndindex(array.shape):
        direction = np.zeros_like(array)
        direction[index] = 1
        gradient[index] = slope(f, array, direction)
    return gradient


def relative_error(a: float, b: float) -> float:
    """Return |a - b| divided by the larger of |a| and |b|; 0 if both are 0."""
    return abs(a - b) / (max(abs(a), abs(b)) or 1.0)
