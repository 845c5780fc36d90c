"""Images as scikit-learn has them: in rows, of bytes or of other numbers, with weights.

What turns them into the batches that a network is trained on, and a step that obeys the weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt

import numpy as np
import numpy.typing as npt

from handcnn.augmentation import Augmentation
from handcnn.fast import copied
from handcnn.kernels.products import slices
from handcnn.loss import loss_gradient
from handcnn.network import Network
from handcnn.storage.classifiers import BYTES
from handcnn.training import Batch
from handcnn.types import Array, Shape

PREDICTED = 1000  # images that become floats together


@dataclass(frozen=True)
class Rows:
    """Images and what is known of them.

    Attributes:
        X: the images (n, features).
        y: the numbers of their classes (n,).
        weights: how often each image counts (n,), or None where each counts once.
    """

    X: Array
    y: Array
    weights: Array | None = None

    def at(self, rows: Array) -> "Rows":
        """Return some of them."""
        weights = None if self.weights is None else self.weights[rows]
        return Rows(self.X[rows], self.y[rows], weights)


@dataclass(frozen=True)
class Scale:
    """What turns rows into images as a network was trained on them.

    Attributes:
        shape: (C, H, W) of an image.
        largest: what its numbers are divided by.
        dtype: float32 or float64.
    """

    shape: Shape
    largest: float
    dtype: npt.DTypeLike

    def images(self, X: Array) -> Array:
        """Return images (n, C, H, W) for rows X (n, features)."""
        largest: Array | float = self.largest
        if largest == BYTES or (largest == 1 and X.dtype == np.uint8):  # bytes, or fractions
            largest = np.where(X.max(axis=1, keepdims=True) > 1, BYTES, 1)
        scaled: Array = np.divide(X, largest, dtype=self.dtype)
        return scaled.reshape(-1, *self.shape)

    def batches(
        self, rows: Rows, size: int, augment: Augmentation, rng: np.random.Generator, classes: int
    ) -> Iterator[Batch]:
        """Yield all images in a new order; each row of labels is one-hot, times the weight."""
        one_hot = np.eye(classes, dtype=self.dtype)
        order = rng.permutation(len(rows.X))
        for few in slices(slice(0, len(order)), size):
            part = rows.at(order[few])
            x, y = augment(self.images(part.X), rng), one_hot[part.y]
            yield x, y if part.weights is None else y * part.weights[:, None].astype(y.dtype)

    def predict_proba(self, net: Network, X: Array) -> Array:
        """Return the probabilities (n, K) for rows X."""
        parts = slices(slice(0, len(X)), PREDICTED)
        return np.concatenate([net.predict_proba(self.images(X[few])) for few in parts])


def largest_value(X: Array) -> float:
    """Return what to divide X by so that grey values lie in [0, 1]; at least 1.

    That is 255 for bytes, unless they are all 0 or 1. Otherwise it is the largest value. Where
    there are negative ones, they are no grey values, and their standard deviation is as good.
    """
    if X.dtype == np.uint8 and X.max() > 1:
        return BYTES
    return max(1.0, float(X.max() if X.min() >= 0 else X.std()))


def guessed_shape(features: int) -> Shape:
    """Return (C, H, W) for so many features: a square if it is one, otherwise a single line."""
    side = isqrt(features)
    return (1, side, side) if side * side == features else (1, 1, features)


class Weighted(Network):
    """The layers of a network, in a step for which each image counts by its weight.

    The weight is the sum of its row of labels, which is the one-hot label times the weight.
    """

    def __init__(self, net: Network) -> None:
        super().__init__(net.layers, net.input_shape)

    def train_step(self, x: Array, y: Array) -> Array:
        """Take the three calls one by one, each row of the gradient times its weight."""
        weights = y.sum(axis=1, keepdims=True)  # (N, 1)
        step = copied(self)  # so that what the calls leave on the layers goes away
        y_pred = step.forward(x)
        step.backward(weights * loss_gradient(y_pred, y / weights))
        step.update_params()
        return y_pred
