"""The training loop, step by step and taken up again, evaluation and the confusion matrix.

Oracles: the loop written out with the network's own three calls; counting by hand.
"""

from collections.abc import Iterator
from dataclasses import replace
from math import inf, isclose, log, nan
from unittest import mock

import numpy as np
import pytest
from builders import compare, literal_step, refused

from handcnn import HiddenLayer, Network, OutputLayer, loss_function
from handcnn.augmentation import shift
from handcnn.layers import ParameterLayer
from handcnn.models import Recipe
from handcnn.schedule import SCHEDULES
from handcnn.training import (
    Batch,
    Batches,
    DivergedError,
    Epoch,
    Step,
    best_epoch,
    confusion_matrix,
    copies,
    evaluate,
    train,
)
from handcnn.types import Array


def network(learning_rate: float = 0.05) -> Network:
    rng = np.random.default_rng(0)
    return Network([OutputLayer(6, 3, learning_rate, rng=rng, dtype=np.float64)], (6,))


def batches(*sizes: int) -> list[Batch]:
    rng = np.random.default_rng(1)
    return [(rng.standard_normal((n, 6)), np.eye(3)[rng.integers(3, size=n)]) for n in sizes]


def recipe(rate: float = 0.05, epochs: int = 1, schedule: str = "constant") -> Recipe:
    return Recipe(epochs, 4, rate, schedule, "none")


class Shuffled:
    """Batches of 4, 4 and 3 images that are drawn anew in every epoch."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[Batch]:
        for n in (4, 4, 3):
            yield self.rng.standard_normal((n, 6)), np.eye(3)[self.rng.integers(3, size=n)]


def trained(net: Network, data: Batches, by: Recipe, done: int = 0) -> list[Step | Epoch]:
    return list(train(net, data, by, np.random.default_rng(0), done))


def test_an_epoch_is_one_step_on_every_batch() -> None:
    """The metrics so far come with each. The short last batch counts by its images."""
    net, by_hand = network(), network()
    *steps, epoch = trained(net, batches(4, 4, 3), recipe())
    loss = correct = images = 0.0
    for number, (x, y) in enumerate(batches(4, 4, 3), start=1):
        y_pred = literal_step(by_hand, x, y)
        loss += len(x) * loss_function(y_pred, y)
        correct += sum(y_pred[i].argmax() == y[i].argmax() for i in range(len(x)))
        images += len(x)
        step = steps[number - 1]
        assert isinstance(step, Step)
        assert (step.epoch, step.number, step.steps) == (1, number, 3)
        assert isclose(step.loss, loss_function(y_pred, y), rel_tol=1e-12)
        np.testing.assert_allclose(step.metrics, (loss / images, correct / images), rtol=1e-12)
        right = sum(y_pred.argmax(axis=1) == y.argmax(axis=1))
        assert (step.correct, step.learning_rate) == (right, 0.05)
        np.testing.assert_array_equal(step.x, x)
        np.testing.assert_array_equal(step.y, y)
        np.testing.assert_allclose(step.y_pred, y_pred, rtol=1e-12)
    assert isinstance(epoch, Epoch)
    assert (epoch.number, epoch.learning_rate, epoch.metrics) == (1, 0.05, steps[-1].metrics)
    assert epoch.seconds > 0
    compare(net.parameters(), by_hand.parameters(), 1e-12)


def test_nothing_happens_until_the_next_item_is_asked_for() -> None:
    """Whoever stops asking has ended the training between two steps."""
    net, two_steps = network(), network()
    events = train(net, batches(4, 4, 3), recipe(), np.random.default_rng(0))
    compare(net.parameters(), network().parameters(), rounding=0)
    assert [next(events)[:2], next(events)[:2]] == [(1, 1), (1, 2)]
    trained(two_steps, batches(4, 4), recipe())
    compare(net.parameters(), two_steps.parameters(), rounding=0)
    events.close()  # type: ignore[attr-defined]
    compare(net.parameters(), two_steps.parameters(), rounding=0)


def test_what_happens_between_two_steps_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock advances by an hour at each pause, otherwise by a second for each look at it."""
    clock = [0.0]

    def look() -> float:
        clock[0] += 1
        return clock[0]

    monkeypatch.setattr("time.perf_counter", look)
    events: list[Step | Epoch] = []
    for event in train(network(), batches(4, 4, 3), recipe(), np.random.default_rng(0)):
        events.append(event)
        clock[0] += 3600
    assert isinstance(events[-1], Epoch)
    assert events[-1].seconds == 3


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_after_each_epoch_the_training_can_go_on_elsewhere(schedule: str) -> None:
    """The parameters and the state of the generator are all that it depends on, bit for bit."""
    by = recipe(epochs=3, schedule=schedule)
    net, rng = network(), np.random.default_rng(7)
    uninterrupted = list(train(net, Shuffled(rng), by, rng))
    for stop in (1, 2):
        first, rng = network(), np.random.default_rng(7)
        for event in train(first, Shuffled(rng), by, rng):
            if isinstance(event, Epoch) and event.number == stop:
                break
        state, arrays = rng.bit_generator.state, copies(first.parameters())
        second, rng = network().with_parameters(arrays), np.random.default_rng(0)
        rng.bit_generator.state = state
        rest = list(train(second, Shuffled(rng), by, rng, done=stop))
        assert [event[:2] for event in rest] == [event[:2] for event in uninterrupted[4 * stop :]]
        compare(second.parameters(), net.parameters(), rounding=0)


def test_all_epochs_done_are_no_more_epochs() -> None:
    assert trained(network(), batches(4), recipe(epochs=2), done=2) == []


def test_training_learns() -> None:
    events = trained(network(), batches(8, 8), recipe(0.5, epochs=60))
    first, *_, last = [event for event in events if isinstance(event, Epoch)]
    assert last.metrics.loss < first.metrics.loss / 3
    assert last.metrics.accuracy == 1


@pytest.mark.parametrize(
    ("rate", "value", "name", "steps_before"),
    [
        (0.05, nan, "loss", [1]),  # in the second batch
        (0.05, inf, "loss", [1]),
        (1e20, 0.0, "loss", range(19)),  # overflow, whose warning would be an error here
        (1e300, None, "layer0.weights", [1]),  # by the only update, after the only loss
    ],
)
def test_a_training_that_diverges(
    rate: float, value: float | None, name: str, steps_before: list[int]
) -> None:
    rng = np.random.default_rng(0)  # if all weights of x[0] were negative, ReLU would hide inf
    net = Network([HiddenLayer(6, 4, rng=rng), OutputLayer(4, 3, rng=rng)])
    data = batches(4) if value is None else batches(*[4] * 20)
    if value is not None:
        data[1][0][0, 0] = value
    events: list[Step | Epoch] = []
    step = int(name == "loss")
    training = train(net, data, recipe(rate), rng)
    message = refused(lambda: events.extend(training), DivergedError)
    assert message == (
        f"{name} is no longer finite at step {len(events) + step}, most likely because the "
        "learning rate is too large (the gradient is a sum over the batch, so larger batches need "
        "smaller rates); try a tenth of it"
    )
    assert len(events) in steps_before


class Watched(Network):
    """A network that records the learning rates of its layers at each step."""

    def train_step(self, x: Array, y: Array) -> Array:
        layers = [layer for layer in self.layers if isinstance(layer, ParameterLayer)]
        self.rates: list[list[float]] = getattr(self, "rates", [])
        self.rates.append([layer.learning_rate for layer in layers])
        return super().train_step(x, y)


def test_every_layer_gets_the_rate_of_the_step_and_afterwards_that_of_the_recipe() -> None:
    rng = np.random.default_rng(0)
    layers = HiddenLayer(6, 4, rng=rng), OutputLayer(4, 3, 0.5, rng=rng)
    net = Watched(layers, (6,))
    events = trained(net, batches(4, 4, 3), recipe(0.1, epochs=2, schedule="one-cycle"))
    rates = [0.1 * share for share in (5 / 12, 0.9375, 0.7291667, 0.5208333, 0.3125, 0.1041667)]
    np.testing.assert_allclose(net.rates, [[rate, rate] for rate in rates], rtol=1e-6)
    last = [event.learning_rate for event in events if isinstance(event, Epoch)]
    np.testing.assert_allclose(last, [rates[2], rates[5]], rtol=1e-6)
    assert [layer.learning_rate for layer in layers] == [0.1, 0.1]


@pytest.mark.parametrize("steps", [1, 3])
def test_more_or_fewer_batches_than_announced_are_a_mistake(steps: int) -> None:
    """Regression: images without a learning rate were silently left out."""
    data = mock.MagicMock()
    data.__len__.return_value, data.__iter__.return_value = steps, iter(batches(4, 4))
    with pytest.raises(
        ValueError, match=r"^zip\(\) argument 2 is (shorter|longer) than argument 1$"
    ):
        trained(network(), data, recipe())


def test_images_are_augmented_after_their_order_is_drawn() -> None:
    """Both by one generator, in this order, so that a seed means the same training."""
    net, by_hand = (
        Network([OutputLayer(16, 3, 0.05, rng=np.random.default_rng(0))], (1, 4, 4)) for _ in "ab"
    )
    x, y = np.random.default_rng(1).random((5, 1, 4, 4), np.float32), np.eye(3)[[0, 1, 2, 0, 1]]
    rng = np.random.default_rng(2)
    by = replace(recipe(), augment="shift")
    list(train(net, [(x, y), (x, y)], by, rng))
    rng = np.random.default_rng(2)
    for _ in range(2):
        literal_step(by_hand, shift(x, y, rng), y)
    compare(net.parameters(), by_hand.parameters(), 1e-6)


def test_evaluation_by_hand() -> None:
    bias = np.log([[0.5, 0.3, 0.2]])
    net = network().with_parameters({"layer0.weights": np.zeros((6, 3)), "layer0.bias": bias})
    x, y = np.zeros((4, 6)), np.eye(3)[[0, 0, 1, 2]]
    metrics, probabilities = evaluate(net, iter([(x[:3], y[:3]), (x[3:], y[3:])]))
    # The answer is always (0.5, 0.3, 0.2), so two of four are right.
    assert isclose(metrics.loss, -(2 * log(0.5) + log(0.3) + log(0.2)) / 4, rel_tol=1e-12)
    assert metrics.accuracy == 0.5
    np.testing.assert_allclose(probabilities, [[0.5, 0.3, 0.2]] * 4, rtol=1e-12)


def test_evaluation_does_not_depend_on_the_batches() -> None:
    net, data = network(), batches(5, 4, 2)
    x, y = (np.concatenate(arrays) for arrays in zip(*data, strict=True))
    (metrics, found), (expected_metrics, expected) = evaluate(net, data), evaluate(net, [(x, y)])
    np.testing.assert_allclose(metrics, expected_metrics, rtol=1e-12)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_best_epoch_by_hand() -> None:
    rows = [
        {"epoch": epoch, "val_accuracy": accuracy, "val_loss": loss}
        for epoch, accuracy, loss in [(1, 0.8, 0.1), (2, 0.9, 0.5), (3, 0.9, 0.4), (4, 0.9, 0.4)]
    ]
    assert best_epoch(rows) is rows[2]


def test_confusion_matrix_by_hand() -> None:
    labels, predictions = [0, 0, 0, 1, 2, 2, 2], [0, 0, 2, 1, 0, 2, 0]
    expected = [[2, 0, 1, 0], [0, 1, 0, 0], [2, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(confusion_matrix(labels, predictions, 4), expected)
    # bytes, and counts beyond a byte
    many = confusion_matrix(np.array(labels * 200, np.uint8), np.array(predictions * 200), 4)
    np.testing.assert_array_equal(many, 200 * np.array(expected))
