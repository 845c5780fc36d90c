"""Fast training and prediction, with the same results up to rounding.

Fused: a convolution and the hidden layer behind it are one linear map, so the batch is multiplied
by one small matrix instead of passing through two layers (`handcnn.kernels.fused`). Shared: each
thread runs copies of the layers on its part of the images. Without this file, training would be
slower and `layers/` would be the same.
"""

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from handcnn.kernels.fused import Geometry, fuse, is_cheaper, update_fused
from handcnn.kernels.products import matmul, slices
from handcnn.kernels.threads import share
from handcnn.layers import Conv2D, HiddenLayer, InputLayer, Layer, is_own
from handcnn.layers.dense import flatten
from handcnn.loss import loss_gradient
from handcnn.types import Array

if TYPE_CHECKING:
    from handcnn.network import Network

# Images per batch of a prediction. Without fusing, their windows must fit the L2 cache.
FUSED_BATCH, LITERAL_BATCH = 1000, 64

Fusable = tuple[Conv2D, HiddenLayer, list[Layer]]  # the two to fuse, and the rest


def train_step(net: "Network", x: Array, y: Array) -> Array:
    """Take one SGD step on a batch; return y_pred (N, K), computed before the update."""
    net.check_writable()
    if layers := fusable(net.layers, x):
        return fused_step(x, y, *layers)
    if is_own(*net.layers):
        return shared_step(net, x, y)
    y_pred = net.forward(x)  # custom layers may not allow splitting a batch
    net.backward(loss_gradient(y_pred, y))
    net.update_params()
    return y_pred


def predict_proba(net: "Network", x: Array) -> Array:
    """Return the probabilities (N, K) for any number of inputs."""
    net.parameters()  # converts all to one dtype, as `copied` requires
    if layers := fusable(copied(net).layers, x):
        return in_batches(fused_forward(x, *layers), x, slice(0, len(x)), FUSED_BATCH)

    def work(images: slice) -> Array:
        return in_batches(copied(net).forward, x, images, LITERAL_BATCH)

    if not is_own(*net.layers):
        return work(slice(0, len(x)))
    return np.concatenate(share(work, len(x), multiplications(net.layers, x)))


def in_batches(forward: Callable[[Array], Array], x: Array, images: slice, size: int) -> Array:
    """Return the output of `forward` for these images, computed in batches of `size`."""
    if images.start == images.stop:  # no images: return an empty array of the right shape
        return forward(x[images])
    return np.concatenate([forward(x[few]) for few in slices(images, size)])


def copied(net: "Network") -> "Network":
    """Return a network that shares the parameters of `net`, but keeps its own x and gradients.

    Call `net.parameters()` first, so that all have one dtype before they are shared.
    """
    other = copy.copy(net)
    other.layers = [copy.copy(layer) for layer in net.layers]
    return other


# Shared between threads --------------------------------------------------------------------------


def shared_step(net: "Network", x: Array, y: Array) -> Array:
    """Take an SGD step with the images split between threads; return y_pred (N, K).

    Gradients are sums over the images, so the threads' gradients are added up.
    """
    if len(x) != len(y):
        raise ValueError(
            f"train_step expects a row of labels for each image, got {len(x)} images and "
            f"{len(y)} rows"
        )

    def work(images: slice) -> tuple[Array, "Network"]:
        part = copied(net)
        y_pred = part.forward(x[images])
        part.backward(loss_gradient(y_pred, y[images]))
        return y_pred, part

    parts = share(work, len(x), 3 * multiplications(net.layers, x))  # z, dweights and dx
    _, first = parts[0]
    gradients = first.gradients()
    for _, other in parts[1:]:
        for name, gradient in other.gradients().items():
            gradients[name] += gradient
    for layer in first.layers:  # train_step has checked that the parameters are writable
        layer.update_params()
    return np.concatenate([y_pred for y_pred, _ in parts])


def multiplications(layers: Sequence[Layer], x: Array) -> int:
    """Return roughly how many multiplications the forward pass of a batch takes."""
    shape, each = x.shape[1:], 0
    try:
        for layer in layers:
            shape = layer.output_shape(shape)
            each += layer.work(shape)
    except ValueError:
        return 0  # the batch does not fit: the forward pass raises the error, with the whole shape
    return len(x) * each


# Fused -------------------------------------------------------------------------------------------


def fusable(layers: Sequence[Layer], x: Array) -> Fusable | None:
    """Return the convolution, the hidden layer and the rest if fusing is cheaper, else None.

    A subclass may compute something else, so only handcnn's own classes are fused. W is reshaped
    without a copy, so it must be C-contiguous.
    """
    match [layer for layer in layers if type(layer) is not InputLayer]:
        case [Conv2D() as conv, HiddenLayer() as hidden, *rest] if is_own(conv, hidden):
            K, W = conv.parameters()["weights"], hidden.parameters()["weights"]
            if is_cheaper(len(x), K) and W.dtype == K.dtype and W.flags.c_contiguous:
                return conv, hidden, rest
    return None


def fused_step(
    x: Array, y: Array, conv: Conv2D, hidden: HiddenLayer, rest: Sequence[Layer]
) -> Array:
    """Take an SGD step with the convolution and the hidden layer fused; return y_pred (N, K)."""
    x, geometry = fused_input(conv, hidden, x)  # (N, C*H*W)
    M, m = fuse(conv.weights, conv.bias, hidden.weights, geometry)
    z = matmul(x, M) + (m + hidden.bias)  # (N, M)
    y_pred: Array = np.maximum(0, z)
    for layer in rest:
        y_pred = layer.forward(y_pred)

    dout = loss_gradient(y_pred, y)
    for layer in reversed(rest):
        dout = layer.backward(dout)
    dz = np.asarray(dout, z.dtype) * (z > 0)
    dM, dm = matmul(x.T, dz), dz.sum(axis=0)

    for layer in rest:
        layer.update_params()
    hidden.bias -= hidden.learning_rate * dm
    rates = conv.learning_rate, hidden.learning_rate
    update_fused(conv.weights, conv.bias, hidden.weights, dM, dm, geometry, rates)
    return y_pred


def fused_forward(
    x: Array, conv: Conv2D, hidden: HiddenLayer, rest: Sequence[Layer]
) -> Callable[[Array], Array]:
    """Return a forward pass for batches of images like `x`; the layers are fused only once."""
    _, geometry = fused_input(conv, hidden, x)
    M, m = fuse(conv.weights, conv.bias, hidden.weights, geometry)

    def forward(batch: Array) -> Array:
        z = matmul(fused_input(conv, hidden, batch)[0], M) + (m + hidden.bias)
        a: Array = np.maximum(0, z)
        for layer in rest:
            a = layer.forward(a)
        return a

    return forward


def fused_input(conv: Conv2D, hidden: HiddenLayer, x: Array) -> tuple[Array, Geometry]:
    """Return the checked batch as rows (N, C*H*W), and the geometry of the convolution."""
    x = conv.check_input(x)
    output_shape = conv.output_shape(x.shape[1:])
    hidden.output_shape(output_shape)
    return flatten(x), Geometry(x.shape[1:], output_shape, conv.stride, conv.padding)
