"""Samples as in scikit-learn, with labels and weights, turned into the batches of a training.

`Batches` is what `handcnn.training.train` takes, and `WeightedNetwork` applies the weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, isfinite, isqrt

import numpy as np
import numpy.typing as npt

from handcnn.loss import loss_gradient
from handcnn.network import Network
from handcnn.pictures import preparation_of_arrays
from handcnn.pictures.whole import MAX_COMPARED
from handcnn.preparation import Preparation, background_of, some_of, usual_preparation
from handcnn.storage.classifiers import BYTE_SCALE
from handcnn.training import Batch
from handcnn.types import Array, Shape

PREDICTION_BATCH = 1000  # images that become floats together
FACTOR = 10  # between two scales that plainly differ


@dataclass(frozen=True)
class Samples:
    """Images with their labels and weights.

    Attributes:
        X: the images (N, features).
        y: the index of the class of each (N,).
        weights: how often each image counts (N,), or None if each counts once.
    """

    X: Array
    y: Array
    weights: Array | None = None

    def at(self, places: Array) -> "Samples":
        """Return the samples at these places."""
        weights = None if self.weights is None else self.weights[places]
        return Samples(self.X[places], self.y[places], weights)


@dataclass(frozen=True)
class Scale:
    """How to turn X into the images of a network.

    Attributes:
        shape: (C, H, W) of an image.
        largest: the number by which values are divided, the `scale_` of the classifier.
        dtype: float32 or float64.
    """

    shape: Shape
    largest: float
    dtype: npt.DTypeLike

    def images(self, X: Array) -> Array:
        """Return images (N, C, H, W) for X (N, features)."""
        divisor: Array | float = self.largest
        if self._reads_both(X):
            divisor = np.where(X.max(axis=1, keepdims=True) > 1, BYTE_SCALE, 1)
        scaled: Array = np.divide(X, divisor, dtype=self.dtype)
        return scaled.reshape(-1, *self.shape)

    def _reads_both(self, X: Array) -> bool:
        """Return whether each image may be of bytes or of fractions."""
        return self.largest == BYTE_SCALE or (self.largest == 1 and X.dtype == np.uint8)

    def difference(self, X: Array) -> str | None:
        """Return what to tell the user if X plainly has another scale than the images of `fit`.

        If X has negative values, nothing can be said: they are not grey values.
        """
        divisor = BYTE_SCALE if self._reads_both(X) else self.largest
        most = float(X.max())
        are_fractions = 0 < most <= 1 and divisor > FACTOR and not self._reads_both(X)
        if X.min() < 0 or not (are_fractions or most > FACTOR * divisor):
            return None
        return (
            f"X has values up to {most:g}, but is divided by {divisor:g}, as the images of fit "
            "were; the answers mean little unless X is given in the same scale as those"
        )

    def predict_proba(self, net: Network, X: Array) -> Array:
        """Return the probabilities (N, K) for X."""
        starts = range(0, len(X), PREDICTION_BATCH)
        parts = [X[start : start + PREDICTION_BATCH] for start in starts]
        return np.concatenate([net.predict_proba(self.images(part)) for part in parts])


@dataclass(frozen=True)
class Batches:
    """Batches of all samples, in a new order each time. Rows of y are one-hot, times the weight."""

    samples: Samples
    scale: Scale
    size: int
    classes: int
    rng: np.random.Generator

    def __len__(self) -> int:
        """Return the number of batches."""
        return ceil(len(self.samples.X) / self.size)

    def __iter__(self) -> Iterator[Batch]:
        one_hot = np.eye(self.classes, dtype=self.scale.dtype)
        order = self.rng.permutation(len(self.samples.X))
        for start in range(0, len(order), self.size):
            part = self.samples.at(order[start : start + self.size])
            x, y = self.scale.images(part.X), one_hot[part.y]
            yield x, y if part.weights is None else y * part.weights[:, None].astype(y.dtype)


class WeightedNetwork(Network):
    """A network whose training step weights the images.

    A row of labels is a one-hot label times the weight, so its sum is the weight.
    """

    def __init__(self, net: Network) -> None:
        super().__init__(net.layers, net.input_shape)

    def train_step(self, x: Array, y: Array) -> Array:
        """Take a step with three calls, with each row of the gradient multiplied by its weight."""
        weights = y.sum(axis=1, keepdims=True)  # (N, 1)
        step = self.with_parameters(self.parameters())  # so that nothing stays on the layers
        y_pred = step.forward(x)
        step.backward(weights * loss_gradient(y_pred, y / weights))
        step.update_params()
        return y_pred


def divisor(X: Array) -> float:
    """Return the number, at least 1, by which to divide X so that grey values lie in [0, 1].

    It is 255 for bytes, unless they are all 0 or 1. Otherwise it is the largest value or, if there
    are negative values, which are not grey values, their root mean square.
    """
    if X.dtype == np.uint8 and X.max() > 1:
        return BYTE_SCALE
    reach = max(float(X.max()), -float(X.min()))
    if not isfinite(reach):
        raise ValueError("X has values that are too large to compute with")
    if X.min() < 0:  # divided first, because a square may overflow
        reach *= float(np.sqrt(np.mean(np.square(X / reach, dtype=np.float64))))
    return max(1.0, reach)


def guessed_preparation(X: Array, scale: Scale, classes: Array) -> Preparation:
    """Return how pictures must be prepared to be like the images X (n, features).

    Those of MNIST's size must also look like MNIST's to be digits.
    """
    names = [str(label) for label in classes]
    pixels = 255 * scale.images(some_of(X, MAX_COMPARED))
    images = np.clip(np.rint(pixels), 0, 255)[:, 0]
    is_of_its_size = scale.shape == (1, 28, 28)
    name = preparation_of_arrays(images, names) if is_of_its_size else usual_preparation(names)
    return Preparation(name, "dark" if name == "digits" else background_of(images))


def guessed_shape(features: int) -> Shape:
    """Return (C, H, W) for this number of features: a square if possible, else a single row."""
    side = isqrt(features)
    return (1, side, side) if side * side == features else (1, 1, features)
