"""The documented formulas as loops: what a training step costs that nobody has thought about.

A loop over images, filters and output positions, as the formulas of a convolution are usually
written down first; under each window NumPy sums. The dense layers are matrix products, as there.
"""

import numpy as np

from handcnn.network import Network
from handcnn.types import Array


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


def conv_gradients(
    x: Array, shape: tuple[int, ...], s: int, p: int, dout: Array
) -> tuple[Array, Array]:
    """Return dweights, of this shape, and dbias; the first layer of a network needs no dx."""
    xpad = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    k = shape[2]
    dweights, dbias = np.zeros(shape, x.dtype), np.zeros((shape[0], 1), x.dtype)
    for n, f, i, j in np.ndindex(dout.shape):
        window = xpad[n, :, i * s : i * s + k, j * s : j * s + k]
        dweights[f] += dout[n, f, i, j] * window
        dbias[f] += dout[n, f, i, j]
    return dweights, dbias


def step(net: Network, x: Array, y: Array) -> tuple[Array, dict[str, Array]]:
    """Take one training step of InputLayer -> Conv2D -> HiddenLayer -> OutputLayer.

    Returns:
        The probabilities and the gradient of every parameter, all from before the update.
    """
    _, conv, hidden, output = net.layers
    z1 = conv_forward(x, conv.weights, conv.bias, conv.stride, conv.padding)
    flat = z1.reshape(len(x), -1)
    z2 = flat @ hidden.weights + hidden.bias
    a2 = np.maximum(z2, 0)
    z3 = a2 @ output.weights + output.bias
    exp = np.exp(z3 - z3.max(axis=1, keepdims=True))
    y_pred = exp / exp.sum(axis=1, keepdims=True)

    dz3 = y_pred - y
    dz2 = (dz3 @ output.weights.T) * (z2 > 0)
    dz1 = (dz2 @ hidden.weights.T).reshape(z1.shape)
    kernels, biases = conv_gradients(x, conv.weights.shape, conv.stride, conv.padding, dz1)
    gradients = {
        "layer1.weights": kernels,
        "layer1.bias": biases,
        "layer2.weights": flat.T @ dz2,
        "layer2.bias": dz2.sum(axis=0, keepdims=True),
        "layer3.weights": a2.T @ dz3,
        "layer3.bias": dz3.sum(axis=0, keepdims=True),
    }
    for i, layer in ((1, conv), (2, hidden), (3, output)):
        layer.weights -= layer.learning_rate * gradients[f"layer{i}.weights"]
        layer.bias -= layer.learning_rate * gradients[f"layer{i}.bias"]
    return y_pred, gradients
