"""The loss and its gradient.

Oracles: a case worked by hand, `reference` (loops), central differences by the logits, and the
documented relation of both functions: one is a mean, the other belongs to the sum.
"""

from collections.abc import Callable
from math import exp, isclose, log

import numpy as np
import numpy.typing as npt
import pytest
import reference
from builders import refused
from hypothesis import given
from hypothesis import strategies as st

from handcnn import OutputLayer, loss_function, loss_gradient
from handcnn.types import Array, Shape


def test_loss_worked_by_hand() -> None:
    y_pred = np.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]])
    y_true = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    # -(log 1/2 + log 1/8) / 2 = (log 2 + 3 log 2) / 2 = 2 log 2
    assert isclose(loss_function(y_pred, y_true), 2 * log(2), rel_tol=1e-14)
    np.testing.assert_array_equal(
        loss_gradient(y_pred, y_true), [[-0.5, 0.25, 0.25], [0.125, -0.875, 0.75]]
    )


def random_case(n: int, k: int, seed: int) -> tuple[Array, Array]:
    """Return probabilities (N, K) and one-hot labels."""
    rng = np.random.default_rng(seed)
    return reference.softmax(3 * rng.standard_normal((n, k))), np.eye(k)[rng.integers(k, size=n)]


@given(st.integers(1, 6), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_loss_agrees_with_the_loops(n: int, k: int, seed: int) -> None:
    y_pred, y_true = random_case(n, k, seed)
    expected = reference.mean_cross_entropy(y_pred, y_true)
    assert isclose(loss_function(y_pred, y_true), expected, rel_tol=1e-12, abs_tol=1e-15)


def test_loss_is_a_plain_float() -> None:
    assert type(loss_function(*random_case(3, 4, 0))) is float


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_are_clipped(dtype: npt.DTypeLike) -> None:
    """Also in float32, which has no number between 1 - 6e-8 and 1."""
    certain = np.array([[0.0, 1.0]], dtype)
    # Wrong and certain: -log 1e-15 = 15 log 10. Right and certain: -log(1 - 1e-15) = 1e-15, not 0.
    assert isclose(loss_function(certain, np.array([[1.0, 0.0]])), 15 * log(10), rel_tol=1e-12)
    loss = loss_function(certain, np.array([[0.0, 1.0]]))
    assert isclose(loss, 1e-15, rel_tol=0.01)  # to 4 digits, all that 1 - 1e-15 has in float64
    np.testing.assert_array_equal(certain, [[0, 1]])


def test_the_gradient_is_not_clipped() -> None:
    y_pred = np.array([[0.0, 1.0]])
    np.testing.assert_array_equal(loss_gradient(y_pred, np.array([[1.0, 0.0]])), [[-1, 1]])


def test_gradient_is_that_of_the_sum_by_the_logits() -> None:
    """Central differences of N * loss through the softmax: not of the mean, not by y_pred."""
    n, k = 4, 5
    logits = np.random.default_rng(1).standard_normal((n, k))
    y_true = np.eye(k)[[0, 3, 3, 1]]

    def summed_loss() -> float:
        return n * loss_function(reference.softmax(logits), y_true)

    slopes = reference.central_difference(summed_loss, logits)
    gradient = loss_gradient(reference.softmax(logits), y_true)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-8)


def test_a_larger_batch_takes_a_larger_step() -> None:
    """The same image twice: the mean loss stays, the gradient and so the step doubles."""
    x, y = np.array([[1.0, -2.0]]), np.array([[0.0, 1.0]])
    steps, losses = [], []
    for copies in (1, 2):
        layer = OutputLayer(2, 2, rng=np.random.default_rng(0), dtype=np.float64)
        before = layer.weights.copy()
        y_pred = layer.forward(np.repeat(x, copies, axis=0))
        losses.append(loss_function(y_pred, np.repeat(y, copies, axis=0)))
        layer.backward(loss_gradient(y_pred, np.repeat(y, copies, axis=0)))
        layer.update_params()
        steps.append(layer.weights - before)
    assert isclose(losses[0], losses[1], rel_tol=1e-12)
    np.testing.assert_allclose(steps[1], 2 * steps[0], rtol=1e-10)


def test_nothing_is_written_into_and_the_dtype_stays() -> None:
    y_pred, y_true = (array.astype(np.float32) for array in random_case(3, 4, 2))
    kept = y_pred.copy(), y_true.copy()
    y_pred.flags.writeable = y_true.flags.writeable = False
    loss_function(y_pred, y_true)
    assert loss_gradient(y_pred, y_true).dtype == np.float32
    np.testing.assert_array_equal(y_pred, kept[0])
    np.testing.assert_array_equal(y_true, kept[1])


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, bool])
def test_labels_of_any_dtype(dtype: npt.DTypeLike) -> None:
    y_pred, y_true = random_case(3, 4, 2)
    labels = y_true.astype(dtype)
    assert loss_function(y_pred, labels) == loss_function(y_pred, y_true)
    np.testing.assert_allclose(loss_gradient(y_pred, labels), y_pred - y_true)


def test_nan_is_not_hidden_by_the_clipping() -> None:
    assert np.isnan(loss_function(np.array([[np.nan, 0.5]]), np.array([[1.0, 0.0]])))


def test_a_guess_costs_the_logarithm_of_the_number_of_classes() -> None:
    assert isclose(exp(loss_function(np.full((7, 10), 0.1), np.eye(10)[:7])), 10, rel_tol=1e-12)


@pytest.mark.parametrize("function", [loss_function, loss_gradient])
@pytest.mark.parametrize(
    ("y_pred_shape", "y_true_shape"),
    [
        ((64, 10), (64,)),
        ((64, 10), (1, 10)),
        ((10,), (10,)),
        ((2, 5, 2), (2, 5, 2)),
        ((0, 9), (0, 9)),
    ],
)
def test_shapes_that_do_not_fit(
    function: Callable[[Array, Array], object], y_pred_shape: Shape, y_true_shape: Shape
) -> None:
    """Some of these would broadcast into a number that looks like a loss."""
    assert refused(lambda: function(np.ones(y_pred_shape), np.ones(y_true_shape))) == (
        f"{function.__name__} expects y_pred and one-hot y_true of the same shape (N, K), "
        f"got {y_pred_shape} and {y_true_shape}; make labels one-hot with numpy.eye(K)[labels]"
    )
