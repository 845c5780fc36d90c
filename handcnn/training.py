"""Training and evaluation: the loop over the batches, and nothing about files or screens.

Everything comes in as an argument; batches are any iterable of pairs (x, y), x (n, C, H, W) and
y one-hot (n, K). Accuracies are fractions, 0.5 for one half.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from handcnn.errors import HandcnnError
from handcnn.loss import loss_function, loss_gradient
from handcnn.network import Network
from handcnn.types import Array

Batch = tuple[Array, Array]


class Score(NamedTuple):
    """Mean loss and accuracy over a number of images."""

    loss: float
    accuracy: float


def train_epoch(
    net: Network, batches: Iterable[Batch], after_step: Callable[[Score], None] | None = None
) -> Score:
    """Train `net` on every batch once.

    Args:
        net: the network, updated in place after every batch.
        batches: the batches.
        after_step: called after every update with the score of the epoch so far; what it raises
            ends the epoch between two steps.

    Returns:
        The score over all batches, each taken before its own update: what the epoch cost, not
        what the final parameters would score.

    Raises:
        HandcnnError: the loss or a parameter is no longer finite.
    """
    step = 0
    loss = correct = images = 0.0
    with np.errstate(all="ignore"):  # what overflows is found below, and said once
        for step, (x, y) in enumerate(batches, start=1):
            y_pred = net.forward(x)
            net.backward(loss_gradient(y_pred, y))
            net.update_params()

            loss += loss_function(y_pred, y) * len(x)
            correct += int((y_pred.argmax(axis=1) == y.argmax(axis=1)).sum())
            images += len(x)
            _check_finite("loss", np.asarray(loss), step)
            if after_step is not None:
                after_step(Score(loss / images, correct / images))
    if step == 0:
        raise ValueError("train_epoch expects at least one batch, got none")
    for name, parameter in net.parameters().items():
        _check_finite(name, parameter, step)
    return Score(loss / images, correct / images)


def _check_finite(name: str, values: Array, step: int) -> None:
    if not np.isfinite(values).all():
        raise HandcnnError(
            f"{name} is no longer finite at step {step}, most likely because the learning rate is "
            "too large (the gradient is a sum over the batch, so larger batches need smaller "
            "rates); try a tenth of it"
        )


def evaluate(net: Network, batches: Iterable[Batch]) -> tuple[Score, Array]:
    """Return the score of `net` and the probabilities (N, K) it gives, in the order of `batches`.

    The network is left as it is.
    """
    pairs = [(net.predict_proba(x), y) for x, y in batches]
    y_pred = np.concatenate([probabilities for probabilities, _ in pairs])
    y_true = np.concatenate([y for _, y in pairs])
    accuracy = float((y_pred.argmax(axis=1) == y_true.argmax(axis=1)).mean())
    return Score(loss_function(y_pred, y_true), accuracy), y_pred


def best_epoch(history: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """Return the row that is best on validation; between equals, the one with the lower loss."""
    return max(history, key=lambda row: (row["val_accuracy"], -row["val_loss"]))


def confusion_matrix(
    labels: npt.ArrayLike, predictions: npt.ArrayLike, classes: int
) -> npt.NDArray[np.int64]:
    """Count (K, K): row i, column j is how many images of class i were taken for class j."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (np.asarray(labels), np.asarray(predictions)), 1)
    return counts
