"""The training loop, evaluation and the confusion matrix.

Oracles: the loop written out with the network's own three calls; counting by hand.
"""

from math import inf, isclose, log, nan

import numpy as np
import pytest

from handcnn import HandcnnError, HiddenLayer, Network, OutputLayer, loss_function, loss_gradient
from handcnn.training import Batch, Metrics, best_epoch, confusion_matrix, evaluate, train_epoch


def network(learning_rate: float = 0.05, dtype: type = np.float64) -> Network:
    rng = np.random.default_rng(0)
    return Network([OutputLayer(6, 3, learning_rate, rng=rng, dtype=dtype)], (6,))


def batches(*sizes: int) -> list[Batch]:
    rng = np.random.default_rng(1)
    return [(rng.standard_normal((n, 6)), np.eye(3)[rng.integers(3, size=n)]) for n in sizes]


def assert_same_parameters(net: Network, other: Network) -> None:
    for name, array in net.parameters().items():
        np.testing.assert_allclose(array, other.parameters()[name], rtol=1e-12, atol=1e-15)


def test_an_epoch_is_one_step_on_every_batch() -> None:
    net, by_hand = network(), network()
    total = correct = 0.0
    for x, y in batches(4, 4, 3):
        y_pred = by_hand.forward(x)
        total += len(x) * loss_function(y_pred, y)
        correct += sum(y_pred[i].argmax() == y[i].argmax() for i in range(len(x)))
        by_hand.backward(loss_gradient(y_pred, y))
        by_hand.update_params()

    metrics = train_epoch(net, iter(batches(4, 4, 3)))
    assert isclose(metrics.loss, total / 11, rel_tol=1e-12)
    assert isclose(metrics.accuracy, correct / 11, rel_tol=1e-12)
    assert_same_parameters(net, by_hand)


def test_the_metrics_so_far_are_told_after_every_step() -> None:
    """The short last batch counts with its three images only."""
    so_far: list[Metrics] = []
    final = train_epoch(network(), batches(4, 4, 3), so_far.append)
    parts = [train_epoch(network(), batches(4, 4, 3)[:n]) for n in (1, 2)]
    np.testing.assert_allclose(so_far, [*parts, final], rtol=1e-12)


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
    assert_same_parameters(net, two_steps)


def test_training_learns() -> None:
    net = network(0.5)
    first, *_, last = [train_epoch(net, batches(8, 8)) for _ in range(60)]
    assert last.loss < first.loss / 3
    assert last.accuracy == 1


DIVERGED = (
    "{} is no longer finite at step {}, most likely because the learning rate is too large "
    "(the gradient is a sum over the batch, so larger batches need smaller rates); "
    "try a tenth of it"
)


@pytest.mark.parametrize("value", [nan, inf])
def test_a_loss_that_is_not_finite_stops_training(value: float) -> None:
    data = batches(4, 4, 3)
    data[1][0][0, 0] = value
    steps: list[Metrics] = []
    with pytest.raises(HandcnnError) as caught:
        train_epoch(network(), data, steps.append)
    assert str(caught.value) == DIVERGED.format("loss", 2)
    assert len(steps) == 1


def test_a_learning_rate_too_large_ends_in_one_sentence_and_no_warnings() -> None:
    """Warnings are errors here, so an overflow that warned would not come out as HandcnnError."""
    net = Network([HiddenLayer(6, 4, 1e20), OutputLayer(4, 3, 1e20)])
    with pytest.raises(HandcnnError, match=r"^loss is no longer finite at step \d+, "):
        train_epoch(net, batches(*[4] * 20))


def test_parameters_that_the_last_update_ruined_stop_training_too() -> None:
    with pytest.raises(HandcnnError) as caught:
        train_epoch(network(1e300, np.float32), batches(4))
    assert str(caught.value) == DIVERGED.format("layer0.weights", 1)


def test_an_epoch_without_batches_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"^train_epoch expects at least one batch, got none$"):
        train_epoch(network(), [])


def test_evaluation_by_hand() -> None:
    bias = np.log([[0.5, 0.3, 0.2]])
    net = network().with_parameters({"layer0.weights": np.zeros((6, 3)), "layer0.bias": bias})
    x, y = np.zeros((4, 6)), np.eye(3)[[0, 0, 1, 2]]
    metrics, probabilities = evaluate(net, [(x[:3], y[:3]), (x[3:], y[3:])])
    # The answer is always (0.5, 0.3, 0.2), so two of four are right.
    assert isclose(metrics.loss, -(2 * log(0.5) + log(0.3) + log(0.2)) / 4, rel_tol=1e-12)
    assert metrics.accuracy == 0.5
    np.testing.assert_allclose(probabilities, [[0.5, 0.3, 0.2]] * 4, rtol=1e-12)


def test_evaluation_leaves_the_network_alone_and_does_not_depend_on_the_batches() -> None:
    net, data = network(), batches(5, 4, 2)
    x, y = (np.concatenate(arrays) for arrays in zip(*data, strict=True))
    metrics, probabilities = evaluate(net, iter(data))
    expected_metrics, expected_probabilities = evaluate(net, [(x, y)])
    np.testing.assert_allclose(metrics, expected_metrics, rtol=1e-12)
    np.testing.assert_allclose(probabilities, expected_probabilities, rtol=1e-12)
    assert_same_parameters(net, network())


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
    as_bytes = confusion_matrix(np.array(labels, np.uint8), np.array(predictions), 4)
    np.testing.assert_array_equal(as_bytes, expected)


def test_confusion_matrix_counts_beyond_a_byte() -> None:
    assert confusion_matrix(np.zeros(300, np.uint8), np.ones(300, np.uint8), 2)[0, 1] == 300
