"""The documented formulas as loops, one multiplication at a time: the oracle of the other tests.

Slow, and plain enough to be believed by reading. Nothing here calls handcnn, and nothing is
vectorised: every sum of a formula is a loop over the letters under its sum sign. Everything is
computed in float64.
"""

from collections.abc import Callable, Iterator
from itertools import product
from math import exp, log

import numpy as np

from handcnn.types import Array, Shape


def indices(*sizes: int) -> Iterator[tuple[int, ...]]:
    """Return every index of an array with these sizes: nested loops in one line."""
    return product(*map(range, sizes))


def conv_forward(x: Array, weights: Array, bias: Array, s: int, p: int) -> Array:
    """Return z[n,f,i,j] = bias[f] + sum over c,u,v of weights[f,c,u,v] * xpad[n,c,i*s+u,j*s+v]."""
    xpad = pad(x, p)
    n_, c_, h, w = x.shape
    f_, _, k, _ = weights.shape
    z = np.zeros((n_, f_, (h + 2 * p - k) // s + 1, (w + 2 * p - k) // s + 1))
    for n, f, i, j in indices(*z.shape):
        z[n, f, i, j] = bias[f, 0]
        for c, u, v in indices(c_, k, k):
            z[n, f, i, j] += weights[f, c, u, v] * xpad[n, c, i * s + u, j * s + v]
    return z


def conv_backward(
    x: Array, weights: Array, s: int, p: int, dout: Array
) -> tuple[Array, Array, Array]:
    """Return dx, dweights and dbias.

    dweights: x correlated with dout. dbias: dout summed over n, i, j. dx: dout, dilated by s, fully
    correlated with the weights rotated by 180 degrees, and cropped by the padding.
    """
    xpad = pad(x, p)
    n_, c_, h, w = x.shape
    f_, _, k, _ = weights.shape

    dweights = np.zeros(weights.shape)
    dbias = np.zeros((f_, 1))
    for n, f, i, j in indices(*dout.shape):
        dbias[f, 0] += dout[n, f, i, j]
        for c, u, v in indices(c_, k, k):
            dweights[f, c, u, v] += dout[n, f, i, j] * xpad[n, c, i * s + u, j * s + v]

    # Dilated: s - 1 zeros between neighbours, and zeros where the stride left a remainder.
    dilated = np.zeros((n_, f_, h + 2 * p - k + 1, w + 2 * p - k + 1))
    for n, f, i, j in indices(*dout.shape):
        dilated[n, f, i * s, j * s] = dout[n, f, i, j]
    framed = pad(dilated, k - 1)  # "fully" correlated: wherever the kernel touches at all
    dx = np.zeros(x.shape)
    for n, c, y, z in indices(*x.shape):
        for f, u, v in indices(f_, k, k):
            rotated = weights[f, c, k - 1 - u, k - 1 - v]
            dx[n, c, y, z] += framed[n, f, y + p + u, z + p + v] * rotated
    return dx, dweights, dbias


def pad(x: Array, p: int) -> Array:
    """Return x with p rows and columns of zeros on every side."""
    n_, c_, h, w = x.shape
    xpad = np.zeros((n_, c_, h + 2 * p, w + 2 * p))
    for n, c, i, j in indices(*x.shape):
        xpad[n, c, i + p, j + p] = x[n, c, i, j]
    return xpad


def max_pool_forward(x: Array, size: int, s: int) -> Array:
    """Return z[n,c,i,j] = maximum over u,v of x[n,c,i*s+u,j*s+v]; NaN is larger than any number."""
    n_, c_, h, w = x.shape
    z = np.zeros((n_, c_, (h - size) // s + 1, (w - size) // s + 1))
    for n, c, i, j in indices(*z.shape):
        z[n, c, i, j] = x[n, c, i * s, j * s]
        for u, v in indices(size, size):
            entry = x[n, c, i * s + u, j * s + v]
            if entry > z[n, c, i, j] or np.isnan(entry):
                z[n, c, i, j] = entry
    return z


def max_pool_backward(x: Array, size: int, s: int, dout: Array) -> Array:
    """Return dx: each entry of dout added where its window has its first largest entry."""
    dx = np.zeros(x.shape)
    for n, c, i, j in indices(*dout.shape):
        first = (0, 0)
        for u, v in indices(size, size):
            if x[n, c, i * s + u, j * s + v] > x[n, c, i * s + first[0], j * s + first[1]]:
                first = u, v
        dx[n, c, i * s + first[0], j * s + first[1]] += dout[n, c, i, j]
    return dx


def flatten(x: Array) -> Array:
    """Return (N, C, H, W) as (N, C*H*W), the last letter running fastest; (N, D) as it is."""
    if x.ndim == 2:
        return x
    n_, c_, h, w = x.shape
    flat = np.zeros((n_, c_ * h * w))
    for n, c, i, j in indices(*x.shape):
        flat[n, (c * h + i) * w + j] = x[n, c, i, j]
    return flat


def unflatten(flat: Array, shape: Shape) -> Array:
    """Undo `flatten`."""
    if len(shape) == 2:
        return flat
    _, _, h, w = shape
    x = np.zeros(shape)
    for n, c, i, j in indices(*shape):
        x[n, c, i, j] = flat[n, (c * h + i) * w + j]
    return x


def dense_forward(x: Array, weights: Array, bias: Array) -> Array:
    """Return z[n,m] = bias[m] + sum over d of x[n,d] * weights[d,m]."""
    z = np.zeros((len(x), weights.shape[1]))
    for n, m in indices(*z.shape):
        z[n, m] = bias[0, m]
        for d in range(len(weights)):
            z[n, m] += x[n, d] * weights[d, m]
    return z


def dense_backward(x: Array, weights: Array, dz: Array) -> tuple[Array, Array, Array]:
    """Return dx = dz W^T, dweights = x^T dz and dbias, the column sums of dz."""
    dx, dweights, dbias = np.zeros(x.shape), np.zeros(weights.shape), np.zeros((1, dz.shape[1]))
    for n, m in indices(*dz.shape):
        dbias[0, m] += dz[n, m]
        for d in range(len(weights)):
            dx[n, d] += dz[n, m] * weights[d, m]
            dweights[d, m] += x[n, d] * dz[n, m]
    return dx, dweights, dbias


def relu(z: Array) -> Array:
    """Return a = max(0, z), in any shape."""
    a = np.zeros(z.shape)
    for index in indices(*z.shape):
        a[index] = max(0.0, z[index])
    return a


def relu_backward(z: Array, dout: Array) -> Array:
    """Return dz = dout where z > 0, otherwise 0, in any shape."""
    dz = np.zeros(z.shape)
    for index in indices(*z.shape):
        if z[index] > 0:
            dz[index] = dout[index]
    return dz


def softmax(z: Array) -> Array:
    """Return, row by row, exp(z[m]) / sum over m of exp(z[m]), the maximum subtracted first."""
    a = np.zeros(z.shape)
    for n in range(len(z)):
        exps = [exp(value - max(z[n])) for value in z[n]]
        for m, value in enumerate(exps):
            a[n, m] = value / sum(exps)
    return a


def mean_cross_entropy(y_pred: Array, y_true: Array) -> float:
    """Return -1/N sum over n,k of y_true log(y_pred), with y_pred clipped to [1e-15, 1 - 1e-15]."""
    total = 0.0
    for n, k in indices(*y_pred.shape):
        probability = min(max(float(y_pred[n, k]), 1e-15), 1 - 1e-15)
        total -= float(y_true[n, k]) * log(probability)
    return total / len(y_pred)


def updated(parameter: Array, gradient: Array, learning_rate: float) -> Array:
    """Return parameter - learning_rate * gradient."""
    result = np.zeros(parameter.shape)
    for index in indices(*parameter.shape):
        result[index] = parameter[index] - learning_rate * gradient[index]
    return result


Parameters = dict[str, Array]


def network_forward(parameters: Parameters, x: Array, s: int, p: int) -> Array:
    """Return the probabilities of InputLayer -> Conv2D -> HiddenLayer -> OutputLayer."""
    z1 = conv_forward(x, parameters["layer1.weights"], parameters["layer1.bias"], s, p)
    z2 = dense_forward(flatten(z1), parameters["layer2.weights"], parameters["layer2.bias"])
    z3 = dense_forward(relu(z2), parameters["layer3.weights"], parameters["layer3.bias"])
    return softmax(z3)


def network_gradients(parameters: Parameters, x: Array, y: Array, s: int, p: int) -> Parameters:
    """Return the gradient of the summed cross-entropy by every parameter of that network."""
    kernels, w2, w3 = (parameters[f"layer{i}.weights"] for i in (1, 2, 3))
    z1 = conv_forward(x, kernels, parameters["layer1.bias"], s, p)
    z2 = dense_forward(flatten(z1), w2, parameters["layer2.bias"])
    z3 = dense_forward(relu(z2), w3, parameters["layer3.bias"])
    dz3 = softmax(z3) - y
    gradients = {}
    da2, gradients["layer3.weights"], gradients["layer3.bias"] = dense_backward(relu(z2), w3, dz3)
    dz2 = relu_backward(z2, da2)
    dz1, gradients["layer2.weights"], gradients["layer2.bias"] = dense_backward(
        flatten(z1), w2, dz2
    )
    dz1 = unflatten(dz1, z1.shape)
    _, gradients["layer1.weights"], gradients["layer1.bias"] = conv_backward(x, kernels, s, p, dz1)
    return gradients


def central_difference(f: Callable[[], float], array: Array, step: float = 1e-6) -> Array:
    """Return the slope of `f`, which reads `array`, by every entry: (f(a+e) - f(a-e)) / 2e."""
    slopes = np.zeros(array.shape)
    for index in indices(*array.shape):
        original = array[index]
        array[index] = original + step
        above = f()
        array[index] = original - step
        below = f()
        array[index] = original
        slopes[index] = (above - below) / (2 * step)
    return slopes
