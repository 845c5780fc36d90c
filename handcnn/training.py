"""Training and evaluation: the loop over the batches, without files or printing.

A batch is a pair (x, y): images x (N, C, H, W) and one-hot labels y (N, K). Accuracies are
fractions from 0 to 1.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from handcnn.errors import HandcnnError
from handcnn.loss import loss_function
from handcnn.network import Network
from handcnn.types import Array

Batch = tuple[Array, Array]


class Metrics(NamedTuple):
    """Mean loss and accuracy over a set of images."""

    loss: float
    accuracy: float


class WeightAverage:
    """An exponential moving average of a network's parameters during training.

    After every step: average = decay * average + (1 - decay) * parameters. The average is usually
    the better network (Polyak and Juditsky, 1992); it does not change the training itself. In the
    first steps the decay is smaller, (1 + step) / (10 + step), so that the initial weights are
    soon forgotten.

    Attributes:
        arrays: the averages, under the names of the parameters.
        steps: the number of steps averaged so far.
    """

    def __init__(self, arrays: Mapping[str, Array], decay: float, steps: int = 0) -> None:
        self.arrays = copies(arrays)
        self.decay, self.steps = decay, steps

    def update(self, parameters: Mapping[str, Array]) -> None:
        """Add the parameters after one more step to the average."""
        self.steps += 1
        rest = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, parameter in parameters.items():
            average = self.arrays[name]
            average += average.dtype.type(rest) * (parameter - average)


def train_epoch(
    net: Network,
    batches: Iterable[Batch],
    after_step: Callable[[Metrics], None] | None = None,
    learning_rates: Iterable[float] | None = None,
) -> Metrics:
    """Train `net` on every batch once.

    Args:
        net: the network, updated in place by every batch.
        batches: the batches.
        after_step: called after every step with the metrics of the epoch so far. If it raises an
            exception, the epoch ends there, between two steps.
        learning_rates: one for each batch; by default the layers keep their own.

    Returns:
        The metrics over all batches. Each batch is predicted before its own update, so the final
        parameters would do better.

    Raises:
        HandcnnError: the loss or a parameter is no longer finite.
        ValueError: there are no batches, or not exactly one learning rate for each.
    """
    step = 0
    loss = correct = images = 0.0
    rates = repeat(None) if learning_rates is None else learning_rates
    strict = learning_rates is not None  # exactly one rate for each batch
    with np.errstate(all="ignore"):  # overflow shows up in the loss
        for step, ((x, y), rate) in enumerate(zip(batches, rates, strict=strict), start=1):
            if rate is not None:
                net.set_learning_rate(rate)
            y_pred = net.train_step(x, y)
            loss += loss_function(y_pred, y) * len(x)
            correct += int((y_pred.argmax(axis=1) == y.argmax(axis=1)).sum())
            images += len(x)
            _check_finite("loss", np.asarray(loss), step)
            if after_step is not None:
                after_step(Metrics(loss / images, correct / images))
    if step == 0:
        raise ValueError("train_epoch expects at least one batch, got none")
    for name, parameter in net.parameters().items():
        _check_finite(name, parameter, step)
    return Metrics(loss / images, correct / images)


def _check_finite(name: str, values: Array, step: int) -> None:
    if not np.isfinite(values).all():
        raise HandcnnError(
            f"{name} is no longer finite at step {step}, most likely because the learning rate is "
            "too large (the gradient is a sum over the batch, so larger batches need smaller "
            "rates); try a tenth of it"
        )


def evaluate(net: Network, batches: Iterable[Batch]) -> tuple[Metrics, Array]:
    """Return the metrics of `net` on `batches`, and its predictions (N, K) in the same order.

    The network is not changed.
    """
    pairs = [(net.predict_proba(x), y) for x, y in batches]
    y_pred = np.concatenate([probabilities for probabilities, _ in pairs])
    y_true = np.concatenate([y for _, y in pairs])
    accuracy = float((y_pred.argmax(axis=1) == y_true.argmax(axis=1)).mean())
    return Metrics(loss_function(y_pred, y_true), accuracy), y_pred


def copies(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return copies, which later training steps do not change."""
    return {name: array.copy() for name, array in arrays.items()}


def best_epoch(history: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """Return the row with the best validation accuracy; the lower loss breaks ties."""
    return max(history, key=lambda row: (row["val_accuracy"], -row["val_loss"]))


def confusion_matrix(
    labels: npt.ArrayLike, predictions: npt.ArrayLike, classes: int
) -> npt.NDArray[np.int64]:
    """Return the counts (K, K): row i, column j counts images of class i predicted as class j."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (np.asarray(labels), np.asarray(predictions)), 1)
    return counts
