"""The documented formulas as loops: what a training step costs before anyone thinks about speed.

The convolution loops over images, filters and output positions, as its formula is usually first
written down; NumPy sums under each window. The dense layers are matrix products.
"""

import numpy as np

from handcnn.types import Array, Shape


def conv_forward(x: Array, weights: Array, bias: Array, s: int, p: int) -> Array:
    """Return z[n,f,i,j] = bias[f] + sum over c,u,v of weights[f,c,u,v] * xpad[n,c,i*s+u,j*s+v]."""
    xpad = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    k = weights.shape[2]
    oh, ow = ((size - k) // s + 1 for size in xpad.shape[2:])
    z = np.zeros((len(x), len(weights), oh, ow), x.dtype)
    for n, f, i, j in np.ndindex(z.shape):
        window = xpad[n, :, i * s : i * s + k, j * s : j * s + k]
        z[n, f, i, j] = (weights[f] * window).sum() + bias[f, 0]
    return z


def conv_backward(x: Array, shape: Shape, dout: Array, s: int, p: int) -> tuple[Array, Array]:
    """Return dweights, of this shape, and dbias; the first layer of a network needs no dx."""
    xpad = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    k = shape[2]
    dweights, dbias = np.zeros(shape, x.dtype), np.zeros((shape[0], 1), x.dtype)
    for n, f, i, j in np.ndindex(dout.shape):
        dweights[f] += dout[n, f, i, j] * xpad[n, :, i * s : i * s + k, j * s : j * s + k]
        dbias[f] += dout[n, f, i, j]
    return dweights, dbias


def train_step(
    parameters: dict[str, Array], x: Array, y: Array, s: int, p: int, learning_rate: float
) -> tuple[Array, dict[str, Array]]:
    """Take one step of the documented network, updating `parameters`, named as in `Network`.

    Returns:
        The probabilities and the gradient of every parameter, from before the update.
    """
    kernels, b1, w2, b2, w3, b3 = parameters.values()
    z1 = conv_forward(x, kernels, b1, s, p)
    flat = z1.reshape(len(x), -1)
    z2 = flat @ w2 + b2
    a2 = np.maximum(0, z2)
    z3 = a2 @ w3 + b3
    exp = np.exp(z3 - z3.max(axis=1, keepdims=True))
    y_pred = exp / exp.sum(axis=1, keepdims=True)

    dz3 = y_pred - y
    dz2 = (dz3 @ w3.T) * (z2 > 0)
    dz1 = (dz2 @ w2.T).reshape(z1.shape)
    gradients = (
        *conv_backward(x, kernels.shape, dz1, s, p),
        *(flat.T @ dz2, dz2.sum(axis=0, keepdims=True)),
        *(a2.T @ dz3, dz3.sum(axis=0, keepdims=True)),
    )
    for parameter, gradient in zip(parameters.values(), gradients, strict=True):
        parameter -= learning_rate * gradient
    return y_pred, dict(zip(parameters, gradients, strict=True))
