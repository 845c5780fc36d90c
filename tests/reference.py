"""The documented formulas, one number at a time: the oracle of the other tests.

The code is slow, but so plain that reading it is enough to trust it. It does not call handcnn and
is not vectorised: arrays are computed entry by entry, and each sum of a formula is a loop over its
indices. All numbers are float64.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from math import exp, log
from typing import Any

import numpy as np

from handcnn.types import Array, Shape


def indices(*sizes: int) -> Iterator[tuple[int, ...]]:
    """Return every index of an array with these sizes: nested loops in one line."""
    return product(*map(range, sizes))


def array(shape: Shape, entry: Callable[..., Any]) -> Array:
    """Return the array that has `entry(i, j, ...)` at the index i, j, ..."""
    made = np.zeros(shape)
    for index in indices(*shape):
        made[index] = entry(*index)
    return made


def conv_forward(x: Array, weights: Array, bias: Array, s: int, p: int) -> Array:
    """Return z[n,f,i,j] = bias[f] + sum over c,u,v of weights[f,c,u,v] * xpad[n,c,i*s+u,j*s+v]."""
    xpad = pad(x, p)
    N, C, H, W = x.shape
    F, _, k, _ = weights.shape

    def z(n: int, f: int, i: int, j: int) -> float:
        terms = (
            weights[f, c, u, v] * xpad[n, c, i * s + u, j * s + v] for c, u, v in indices(C, k, k)
        )
        return float(bias[f, 0] + sum(terms))

    return array((N, F, (H + 2 * p - k) // s + 1, (W + 2 * p - k) // s + 1), z)


def conv_backward(
    x: Array, weights: Array, s: int, p: int, dout: Array
) -> tuple[Array, Array, Array]:
    """Return dx, dweights and dbias.

    dweights: x correlated with dout. dbias: dout summed over n, i, j. dx: dout, dilated by s, fully
    correlated with the weights rotated by 180 degrees, and cropped by the padding.
    """
    xpad = pad(x, p)
    N, F, OH, OW = dout.shape
    _, _, H, W = x.shape
    k = weights.shape[-1]

    def dweights(f: int, c: int, u: int, v: int) -> Any:
        return sum(
            dout[n, f, i, j] * xpad[n, c, i * s + u, j * s + v] for n, i, j in indices(N, OH, OW)
        )

    def dbias(f: int, _: int) -> Any:
        return sum(dout[n, f, i, j] for n, i, j in indices(N, OH, OW))

    # Dilated: s - 1 zeros between neighbours, and zeros where the stride left a remainder.
    dilated = np.zeros((N, F, H + 2 * p - k + 1, W + 2 * p - k + 1))
    for n, f, i, j in indices(*dout.shape):
        dilated[n, f, i * s, j * s] = dout[n, f, i, j]
    framed = pad(dilated, k - 1)  # "full" correlation: all positions where they overlap

    def dx(n: int, c: int, h: int, w: int) -> Any:
        return sum(
            framed[n, f, h + p + u, w + p + v] * weights[f, c, k - 1 - u, k - 1 - v]
            for f, u, v in indices(F, k, k)
        )

    return array(x.shape, dx), array(weights.shape, dweights), array((F, 1), dbias)


def pad(x: Array, p: int) -> Array:
    """Return x with p rows and columns of zeros on every side."""
    N, C, H, W = x.shape
    xpad = np.zeros((N, C, H + 2 * p, W + 2 * p))
    for n, c, h, w in indices(*x.shape):
        xpad[n, c, h + p, w + p] = x[n, c, h, w]
    return xpad


def max_pool_forward(x: Array, size: int, s: int) -> Array:
    """Return z[n,c,i,j] = maximum over u,v of x[n,c,i*s+u,j*s+v]; NaN is larger than any number."""
    N, C, H, W = x.shape
    z = np.zeros((N, C, (H - size) // s + 1, (W - size) // s + 1))
    for n, c, i, j in indices(*z.shape):
        z[n, c, i, j] = x[n, c, i * s, j * s]
        for u, v in indices(size, size):
            entry = x[n, c, i * s + u, j * s + v]
            if entry > z[n, c, i, j] or np.isnan(entry):
                z[n, c, i, j] = entry
    return z


def max_pool_backward(x: Array, size: int, s: int, dout: Array) -> Array:
    """Return dx: each entry of dout is added at the first maximum of its window."""
    dx = np.zeros(x.shape)
    for n, c, i, j in indices(*dout.shape):
        first = (0, 0)
        for u, v in indices(size, size):
            if x[n, c, i * s + u, j * s + v] > x[n, c, i * s + first[0], j * s + first[1]]:
                first = u, v
        dx[n, c, i * s + first[0], j * s + first[1]] += dout[n, c, i, j]
    return dx


def flatten(x: Array) -> Array:
    """Return (N, C, H, W) as (N, C*H*W), in C order; return (N, D) unchanged."""
    if x.ndim == 2:
        return x
    N, C, H, W = x.shape
    return array((N, C * H * W), lambda n, d: x[n, d // (H * W), d // W % H, d % W])


def unflatten(flat: Array, shape: Shape) -> Array:
    """Undo `flatten`."""
    if len(shape) == 2:
        return flat
    _, _, H, W = shape
    return array(shape, lambda n, c, h, w: flat[n, (c * H + h) * W + w])


def dense_forward(x: Array, weights: Array, bias: Array) -> Array:
    """Return z[n,m] = bias[m] + sum over d of x[n,d] * weights[d,m]."""
    D, M = weights.shape
    return array(
        (len(x), M),
        lambda n, m: bias[0, m] + sum(x[n, d] * weights[d, m] for d in range(D)),
    )


def dense_backward(x: Array, weights: Array, dz: Array) -> tuple[Array, Array, Array]:
    """Return dx = dz W^T, dweights = x^T dz and dbias, the column sums of dz."""
    N, M = dz.shape
    return (
        array(x.shape, lambda n, d: sum(dz[n, m] * weights[d, m] for m in range(M))),
        array(weights.shape, lambda d, m: sum(x[n, d] * dz[n, m] for n in range(N))),
        array((1, M), lambda _, m: sum(dz[n, m] for n in range(N))),
    )


def relu(z: Array) -> Array:
    """Return a = max(0, z), in any shape."""
    return array(z.shape, lambda *i: max(0.0, z[i]))


def relu_backward(z: Array, dout: Array) -> Array:
    """Return dz = dout where z > 0, otherwise 0, in any shape."""
    return array(z.shape, lambda *i: dout[i] if z[i] > 0 else 0.0)


def softmax(z: Array) -> Array:
    """Return exp(z[m]) / sum over m of exp(z[m]) for each row; the maximum is subtracted first."""
    sums = [sum(exp(value - max(row)) for value in row) for row in z]
    return array(z.shape, lambda n, m: exp(z[n, m] - max(z[n])) / sums[n])


def mean_cross_entropy(y_pred: Array, y_true: Array) -> float:
    """Return -1/N sum over n,m of y_true log(y_pred), with y_pred clipped to [1e-15, 1 - 1e-15]."""
    total = 0.0
    for n, m in indices(*y_pred.shape):
        probability = min(max(float(y_pred[n, m]), 1e-15), 1 - 1e-15)
        total -= float(y_true[n, m]) * log(probability)
    return total / len(y_pred)


def updated(parameter: Array, gradient: Array, learning_rate: float) -> Array:
    """Return parameter - learning_rate * gradient."""
    return array(parameter.shape, lambda *i: parameter[i] - learning_rate * gradient[i])


def network_forward(parameters: Mapping[str, Array], x: Array, s: int, p: int) -> Array:
    """Return the probabilities of InputLayer -> Conv2D -> HiddenLayer -> OutputLayer."""
    z1 = conv_forward(x, parameters["layer1.weights"], parameters["layer1.bias"], s, p)
    z2 = dense_forward(flatten(z1), parameters["layer2.weights"], parameters["layer2.bias"])
    z3 = dense_forward(relu(z2), parameters["layer3.weights"], parameters["layer3.bias"])
    return softmax(z3)


def network_gradients(
    parameters: Mapping[str, Array], x: Array, y: Array, s: int, p: int
) -> dict[str, Array]:
    """Return the gradients of the summed cross-entropy with respect to all parameters."""
    kernels, w2, w3 = (parameters[f"layer{i}.weights"] for i in (1, 2, 3))
    z1 = conv_forward(x, kernels, parameters["layer1.bias"], s, p)
    z2 = dense_forward(flatten(z1), w2, parameters["layer2.bias"])
    z3 = dense_forward(relu(z2), w3, parameters["layer3.bias"])
    da2, dw3, db3 = dense_backward(relu(z2), w3, softmax(z3) - y)
    da1, dw2, db2 = dense_backward(flatten(z1), w2, relu_backward(z2, da2))
    _, dw1, db1 = conv_backward(x, kernels, s, p, unflatten(da1, z1.shape))
    gradients = (dw1, db1, dw2, db2, dw3, db3)
    names = [f"layer{i}.{name}" for i in (1, 2, 3) for name in ("weights", "bias")]
    return dict(zip(names, gradients, strict=True))


def central_difference(f: Callable[[], float], array: Array, step: float = 1e-6) -> Array:
    """Return (f(a+e) - f(a-e)) / 2e for every entry a of `array`, which `f` reads."""
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
