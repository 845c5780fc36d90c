"""The training loop, evaluation and the confusion matrix.

Oracles: the loop written out with the network's own three calls; counting by hand.
"""

from math import inf, isclose, log, nan

import numpy as np
import numpy.typing as npt
import pytest
from builders import compare, literal_step, refused

from handcnn import HandcnnError, HiddenLayer, Network, OutputLayer, loss_function
from handcnn.layers import ParameterLayer
from handcnn.training import (
    Batch,
    Metrics,
    WeightAverage,
    best_epoch,
    confusion_matrix,
    evaluate,
    train_epoch,
)
from handcnn.types import Array


def network(learning_rate: float = 0.05) -> Network:
    rng = np.random.default_rng(0)
    return Network([OutputLayer(6, 3, learning_rate, rng=rng, dtype=np.float64)], (6,))


def batches(*sizes: int) -> list[Batch]:
    rng = np.random.default_rng(1)
    return [(rng.standard_normal((n, 6)), np.eye(3)[rng.integers(3, size=n)]) for n in sizes]


def test_an_epoch_is_one_step_on_every_batch() -> None:
    """The metrics so far are reported after each. The short last batch counts by its images."""
    net, by_hand = network(), network()
    told: list[Metrics] = []
    metrics = train_epoch(net, iter(batches(4, 4, 3)), told.append)
    loss = correct = images = 0.0
    for (x, y), so_far in zip(batches(4, 4, 3), told, strict=True):
        y_pred = literal_step(by_hand, x, y)
        loss += len(x) * loss_function(y_pred, y)
        correct += sum(y_pred[i].argmax() == y[i].argmax() for i in range(len(x)))
        images += len(x)
        np.testing.assert_allclose(so_far, (loss / images, correct / images), rtol=1e-12)
    assert metrics == told[-1]
    compare(net.parameters(), by_hand.parameters(), 1e-12)


def test_what_after_step_raises_ends_the_epoch_between_two_steps() -> None:
    net, two_steps = network(), network()
    train_epoch(two_steps, batches(4, 4))
    seen = []

    def stop(metrics: Metrics) -> None:
        seen.append(metrics)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_epoch(net, batches(4, 4, 3), stop)
    compare(net.parameters(), two_steps.parameters(), rounding=0)


def test_training_learns() -> None:
    net = network(0.5)
    first, *_, last = [train_epoch(net, batches(8, 8)) for _ in range(60)]
    assert last.loss < first.loss / 3
    assert last.accuracy == 1


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
    net = Network([HiddenLayer(6, 4, rate, rng=rng), OutputLayer(4, 3, rate, rng=rng)])
    data = batches(4) if value is None else batches(*[4] * 20)
    if value is not None:
        data[1][0][0, 0] = value
    told: list[Metrics] = []
    step = int(name == "loss")
    message = refused(lambda: train_epoch(net, data, told.append), HandcnnError)
    assert message == (
        f"{name} is no longer finite at step {len(told) + step}, most likely because the learning "
        "rate is too large (the gradient is a sum over the batch, so larger batches need smaller "
        "rates); try a tenth of it"
    )
    assert len(told) in steps_before


# --- learning rates step by step -----------------------------------------------------------------


class Watched(Network):
    """A network that records the learning rates of its layers at each step."""

    def train_step(self, x: Array, y: Array) -> Array:
        layers = [layer for layer in self.layers if isinstance(layer, ParameterLayer)]
        self.rates: list[list[float]] = getattr(self, "rates", [])
        self.rates.append([layer.learning_rate for layer in layers])
        return super().train_step(x, y)


def two_layers(kind: type[Network] = Network) -> Network:
    rng = np.random.default_rng(0)
    layers = HiddenLayer(6, 4, rng=rng, dtype=np.float64), OutputLayer(4, 3, 0.5, rng=rng)
    return kind(layers, (6,))


def test_every_layer_gets_the_rate_of_the_step() -> None:
    net, by_hand, rates = two_layers(Watched), two_layers(), [0.3, 0.01, 0.07]
    train_epoch(net, batches(4, 4, 3), learning_rates=iter(rates))
    for (x, y), rate in zip(batches(4, 4, 3), rates, strict=True):
        by_hand.set_learning_rate(rate)
        literal_step(by_hand, x, y)
    assert isinstance(net, Watched)
    assert net.rates == [[0.3, 0.3], [0.01, 0.01], [0.07, 0.07]]
    compare(net.parameters(), by_hand.parameters(), 1e-12)


def test_without_rates_the_layers_keep_theirs() -> None:
    net = two_layers(Watched)
    train_epoch(net, batches(4, 4))
    assert isinstance(net, Watched)
    assert net.rates == [[0.001, 0.5], [0.001, 0.5]]


@pytest.mark.parametrize("rates", [[], [0.1], [0.1, 0.1, 0.1]])
def test_a_rate_too_many_or_too_few_is_a_mistake(rates: list[float]) -> None:
    """Once failed: images without a rate were silently left out."""
    with pytest.raises(
        ValueError, match=r"^zip\(\) argument 2 is (shorter|longer) than argument 1$"
    ):
        train_epoch(network(), batches(4, 4), learning_rates=rates)


# --- the weight average --------------------------------------------------------------------------


def test_the_average_by_hand() -> None:
    """The first steps have weights 9/11 and 9/12; the decay applies once it is smaller."""
    start = {"a": np.array([11.0, 0.0]), "b": np.array([[2.0]])}
    average = WeightAverage(start, decay=0.25)
    average.update({"a": np.array([0.0, 22.0]), "b": np.array([[2.0]])})
    np.testing.assert_allclose(average.arrays["a"], [2, 18], rtol=1e-12)  # 2/11 is below 1/4
    np.testing.assert_allclose(average.arrays["b"], [[2]], rtol=1e-12)
    average.update({"a": np.array([6.0, 2.0]), "b": np.array([[6.0]])})
    np.testing.assert_allclose(average.arrays["a"], [5, 6], rtol=1e-12)  # 3/12 is not
    np.testing.assert_allclose(average.arrays["b"], [[5]], rtol=1e-12)
    average.update({"a": np.array([9.0, 6.0]), "b": np.array([[5.0]])})
    np.testing.assert_allclose(average.arrays["a"], [8, 6], rtol=1e-12)  # nor is 4/13
    assert average.steps == 3
    assert start["a"].tolist() == [11, 0]  # the initial arrays are not changed


@pytest.mark.parametrize(("decay", "steps"), [(0.9, 80), (0.99, 890), (0.999, 8990)])
def test_after_a_while_the_decay_is_the_one_asked_for(decay: float, steps: int) -> None:
    """(1 + step) / (10 + step) reaches 0.9 at step 80."""
    for before, expected in ((steps, decay), (steps - 2, steps / (9 + steps))):
        average = WeightAverage({"a": np.ones(1)}, decay, before)
        average.update({"a": np.zeros(1)})
        assert average.arrays["a"][0] == pytest.approx(expected, rel=1e-12)
        assert average.steps == before + 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_average_taken_up_again_goes_on_as_if_nothing_had_been(dtype: npt.DTypeLike) -> None:
    """With the same number of steps, bit for bit, and in the dtype of the parameters."""
    rng = np.random.default_rng(0)
    walk = [{"a": rng.standard_normal(5).astype(dtype)} for _ in range(30)]
    whole = WeightAverage(walk[0], 0.9)
    for parameters in walk[1:]:
        whole.update(parameters)
    first = WeightAverage(walk[0], 0.9)
    for parameters in walk[1:12]:
        first.update(parameters)
    second = WeightAverage(first.arrays, 0.9, steps=11)
    for parameters in walk[12:]:
        second.update(parameters)
    np.testing.assert_array_equal(second.arrays["a"], whole.arrays["a"])
    assert whole.arrays["a"].dtype == dtype


def test_the_average_of_what_does_not_move_does_not_move() -> None:
    average = WeightAverage({"a": np.full(3, 0.1, np.float32)}, 0.999)
    for _ in range(20):
        average.update({"a": np.full(3, 0.1, np.float32)})
    np.testing.assert_array_equal(average.arrays["a"], np.float32(0.1))


def test_evaluation_by_hand() -> None:
    bias = np.log([[0.5, 0.3, 0.2]])
    net = network().with_parameters({"layer0.weights": np.zeros((6, 3)), "layer0.bias": bias})
    x, y = np.zeros((4, 6)), np.eye(3)[[0, 0, 1, 2]]
    metrics, probabilities = evaluate(net, iter([(x[:3], y[:3]), (x[3:], y[3:])]))
    # The answer is always (0.5, 0.3, 0.2), so two of four are right.
    assert isclose(metrics.loss, -(2 * log(0.5) + log(0.3) + log(0.2)) / 4, rel_tol=1e-12)
    assert metrics.accuracy == 0.5
    np.testing.assert_allclose(probabilities, [[0.5, 0.3, 0.2]] * 4, rtol=1e-12)


def test_evaluation_leaves_the_network_alone_and_does_not_depend_on_the_batches() -> None:
    net, data = network(), batches(5, 4, 2)
    x, y = (np.concatenate(arrays) for arrays in zip(*data, strict=True))
    (metrics, found), (expected_metrics, expected) = evaluate(net, data), evaluate(net, [(x, y)])
    np.testing.assert_allclose(metrics, expected_metrics, rtol=1e-12)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    compare(net.parameters(), network().parameters(), rounding=0)


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
