"""The loss and its gradient.

Oracles: a case worked by hand, `reference` (loops), central differences with respect to the logits.
`loss_function` is a mean, `loss_gradient` is that of the sum; test_network.py shows that a step
descends the sum.
"""

from math import isclose, log

import numpy as np
import numpy.typing as npt
import pytest
import reference
from builders import slopes_agree
from hypothesis import given
from hypothesis import strategies as st

from handcnn import loss_function, loss_gradient
from handcnn.types import Array


def random_case(n: int, k: int, seed: int) -> tuple[Array, Array]:
    """Return probabilities (N, K) and one-hot labels."""
    rng = np.random.default_rng(seed)
    return reference.softmax(3 * rng.standard_normal((n, k))), np.eye(k)[rng.integers(k, size=n)]


def test_loss_worked_by_hand() -> None:
    y_pred = np.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]])
    y_true = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    y_pred.flags.writeable = y_true.flags.writeable = False
    loss = loss_function(y_pred, y_true)
    # -(log 1/2 + log 1/8) / 2 = (log 2 + 3 log 2) / 2 = 2 log 2
    assert isclose(loss, 2 * log(2), rel_tol=1e-14)
    assert type(loss) is float
    np.testing.assert_array_equal(
        loss_gradient(y_pred, y_true), [[-0.5, 0.25, 0.25], [0.125, -0.875, 0.75]]
    )


@given(st.integers(1, 6), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_loss_agrees_with_the_loops(n: int, k: int, seed: int) -> None:
    y_pred, y_true = random_case(n, k, seed)
    expected = reference.mean_cross_entropy(y_pred, y_true)
    assert isclose(loss_function(y_pred, y_true), expected, rel_tol=1e-12, abs_tol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_are_clipped_and_the_gradient_is_not(dtype: npt.DTypeLike) -> None:
    """Also for float32, which has no number between 1 - 6e-8 and 1."""
    certain, wrong, right = (np.array(row, dtype) for row in ([[0, 1]], [[1, 0]], [[0, 1]]))
    # Wrong and certain: -log 1e-15 = 15 log 10. Right and certain: -log(1 - 1e-15) = 1e-15, not 0.
    assert isclose(loss_function(certain, wrong), 15 * log(10), rel_tol=1e-12)
    loss = loss_function(certain, right)
    assert isclose(loss, 1e-15, rel_tol=0.01)  # 1 - 1e-15 in float64 has few digits left
    gradient = loss_gradient(certain, wrong)
    assert (gradient.tolist(), gradient.dtype) == ([[-1, 1]], dtype)


def test_gradient_is_that_of_the_sum_by_the_logits() -> None:
    """Central differences of N * loss through the softmax, not of the mean, not by y_pred."""
    logits = np.random.default_rng(1).standard_normal((4, 5))
    y_true = np.eye(5)[[0, 3, 3, 1]]
    gradient = loss_gradient(reference.softmax(logits), y_true)
    slopes_agree(gradient, lambda: 4 * loss_function(reference.softmax(logits), y_true), logits)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, bool])
def test_labels_of_any_dtype(dtype: npt.DTypeLike) -> None:
    y_pred, y_true = random_case(3, 4, 2)
    labels = y_true.astype(dtype)
    assert loss_function(y_pred, labels) == loss_function(y_pred, y_true)
    np.testing.assert_allclose(loss_gradient(y_pred, labels), y_pred - y_true)


def test_nan_is_not_hidden_by_the_clipping() -> None:
    assert np.isnan(loss_function(np.array([[np.nan, 0.5]]), np.array([[1.0, 0.0]])))
