"""Cross-entropy for a softmax output: the loss to report, and the gradient to train with.

Note the difference: `loss_function` is the *mean* over the batch, but `loss_gradient` is the
gradient of the *sum* over the batch, with respect to the logits (the input of the softmax, not its
output). So a step with learning rate 0.001 on a batch of 64 moves as far as one with 0.064 in a
framework that averages. `docs/backprop.md`, section 1, derives both.
"""

import numpy as np

from handcnn.types import Array

MIN_PROBABILITY = 1e-15


def loss_function(y_pred: Array, y_true: Array) -> float:
    """Return the mean cross-entropy of a batch, -1/N sum over n,m of y_true[n,m] log y_pred[n,m].

    Args:
        y_pred: probabilities (N, K), the output of the last layer. They are clipped to
            [1e-15, 1 - 1e-15] in float64 (float32 cannot represent the upper bound), so a
            confident mistake costs at most 34.5, not infinity.
        y_true: one-hot labels (N, K).

    Raises:
        ValueError: the shapes are not the same (N, K).
    """
    _check_shapes("loss_function", y_pred, y_true)
    clipped = np.clip(np.asarray(y_pred, np.float64), MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    return float(-(y_true * np.log(clipped)).sum() / len(clipped))


def loss_gradient(y_pred: Array, y_true: Array) -> Array:
    """Return the gradient of the summed cross-entropy with respect to the logits, (N, K).

    The derivative of the logarithm and the Jacobian of the softmax cancel to `y_pred - y_true`,
    which the output layer's `backward` takes directly.

    Raises:
        ValueError: the shapes are not the same (N, K).
    """
    _check_shapes("loss_gradient", y_pred, y_true)
    gradient: Array = y_pred - y_true
    return gradient


def _check_shapes(function: str, y_pred: Array, y_true: Array) -> None:
    if np.ndim(y_pred) != 2 or np.shape(y_pred) != np.shape(y_true) or len(y_pred) == 0:
        raise ValueError(
            f"{function} expects y_pred and one-hot y_true of the same shape (N, K), "
            f"got {np.shape(y_pred)} and {np.shape(y_true)}; "
            "make labels one-hot with numpy.eye(K)[labels]"
        )
