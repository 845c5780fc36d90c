"""The training loop, a generator that everything attaches to, and evaluation. No files, no screen.

A batch is a pair (x, y): images x (N, C, H, W) and one-hot labels y (N, K). Accuracies are
fractions from 0 to 1.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from handcnn.augmentation import AUGMENTATIONS
from handcnn.errors import HandcnnError
from handcnn.loss import loss_function
from handcnn.models import Recipe
from handcnn.network import Network
from handcnn.schedule import learning_rates
from handcnn.types import Array

Batch = tuple[Array, Array]

SHOWN_MISTAKES = 24  # in mistakes.png and on the drawing page


class Batches(Protocol):
    """The training images: each iteration yields all of them in batches, in a new order."""

    def __len__(self) -> int:
        """Return the number of batches."""

    def __iter__(self) -> Iterator[Batch]: ...


class Metrics(NamedTuple):
    """Mean loss and accuracy over a set of images."""

    loss: float
    accuracy: float


class Step(NamedTuple):
    """One SGD step of a training.

    Attributes:
        epoch: its epoch, from 1.
        number: its number within the epoch, from 1.
        steps: the number of steps in each epoch.
        loss: of its batch, before the update.
        metrics: of the epoch so far.
        correct: how many images of its batch were right, before the update.
        learning_rate: of all layers.
        x: its images (N, C, H, W), augmented.
        y: their one-hot labels (N, K).
        y_pred: their probabilities (N, K), before the update.
    """

    epoch: int
    number: int
    steps: int
    loss: float
    metrics: Metrics
    correct: int
    learning_rate: float
    x: Array
    y: Array
    y_pred: Array


class Epoch(NamedTuple):
    """One finished epoch of a training.

    Attributes:
        number: from 1.
        learning_rate: of its last step.
        metrics: over all batches. Each batch is predicted before its own update, so the final
            parameters would do better.
        seconds: the time for its steps, without what happened between them.
    """

    number: int
    learning_rate: float
    metrics: Metrics
    seconds: float


class DivergedError(HandcnnError):
    """The loss or a parameter is no longer finite."""


def train(
    net: Network, batches: Batches, recipe: Recipe, rng: np.random.Generator, done: int = 0
) -> Iterator[Step | Epoch]:
    """Train `net`, and yield a `Step` after every step and an `Epoch` after every epoch.

    Nothing happens until the next item is asked for. In between, look at the network, save it, wait
    or stop. After an `Epoch`, the parameters and the state of `rng` are all that the rest depends
    on: with both of them restored and `done` epochs, another call continues exactly.

    Args:
        net: the network, updated in place by every step.
        batches: the training images.
        recipe: the number of epochs, the learning rates and the augmentation. The batches have
            their size already.
        rng: the source of the augmentation, and usually of the order of the images.
        done: the number of epochs trained before.

    Raises:
        DivergedError: the loss or a parameter is no longer finite.
        ValueError: there are no batches.
    """
    augment, steps = AUGMENTATIONS[recipe.augment], len(batches)
    if steps == 0:
        raise ValueError("train expects at least one batch, got none")
    for epoch in range(done + 1, recipe.epochs + 1):
        rates = learning_rates(recipe.schedule, recipe.learning_rate, epoch, recipe.epochs, steps)
        loss = correct = images = seconds = 0.0
        start = time.perf_counter()
        for number, ((x, y), rate) in enumerate(zip(batches, rates, strict=True), start=1):
            net.set_learning_rate(rate)
            x = augment(x, y, rng)
            y_pred, step_loss = _take_step(net, x, y)
            step_correct = int((y_pred.argmax(axis=1) == y.argmax(axis=1)).sum())
            loss += step_loss * len(x)
            correct += step_correct
            images += len(x)
            _check_finite("loss", np.asarray(loss), number)
            metrics = Metrics(loss / images, correct / images)
            seconds += time.perf_counter() - start
            yield Step(epoch, number, steps, step_loss, metrics, step_correct, rate, x, y, y_pred)
            start = time.perf_counter()
        for name, parameter in net.parameters().items():
            _check_finite(name, parameter, steps)
        net.set_learning_rate(recipe.learning_rate)
        yield Epoch(epoch, rates[-1], metrics, seconds)


def _take_step(net: Network, x: Array, y: Array) -> tuple[Array, float]:
    """Take one step; return the probabilities before it and their mean loss."""
    with np.errstate(all="ignore"):  # overflow shows up in the loss
        y_pred = net.train_step(x, y)
        return y_pred, loss_function(y_pred, y)


def _check_finite(name: str, values: Array, step: int) -> None:
    if not np.isfinite(values).all():
        raise DivergedError(
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


def worst_mistakes(
    labels: Array, probabilities: Array, count: int = SHOWN_MISTAKES
) -> npt.NDArray[np.intp]:
    """Return the indices of the wrong answers with the highest probability, the worst first.

    Args:
        labels: true classes (N,).
        probabilities: of every image, (N, K).
        count: at most so many.
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    confidence = probabilities[wrong].max(axis=1)
    return wrong[np.argsort(-confidence, kind="stable")][:count]


def confusion_matrix(
    labels: npt.ArrayLike, predictions: npt.ArrayLike, classes: int
) -> npt.NDArray[np.int64]:
    """Return the counts (K, K): row i, column j counts images of class i predicted as class j."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (np.asarray(labels), np.asarray(predictions)), 1)
    return counts
