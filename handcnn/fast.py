"""Fast training and prediction, with the same results up to rounding.

Fused: a convolution and the hidden layer behind it are one linear map, so the batch is multiplied
by one small matrix instead of passing through two layers (`handcnn.kernels.fused`). Shared: each
thread runs copies of the layers on its part of the images. Without this file, training would be
slower and `layers/` would be the same.
"""

from collections.abc import Callable, Sequence

import numpy as np

from handcnn.kernels.fused import Geometry, fuse, is_cheaper, update_fused
from handcnn.kernels.products import matmul, slices
from handcnn.kernels.threads import share
from handcnn.layers import Conv2D, HiddenLayer, InputLayer, Layer, is_registered
from handcnn.layers.dense import flatten
from handcnn.layers.sequence import backward, backward_parameters, copied, forward, outputs
from handcnn.loss import loss_gradient
from handcnn.types import Array

# Images per batch of a prediction. Without fusing, their windows must fit the L2 cache.
FUSED_BATCH, LITERAL_BATCH = 1000, 64

Fusable = tuple[Conv2D, HiddenLayer, list[Layer]]  # the two to fuse, and the rest


def train_step(layers: Sequence[Layer], x: Array, y: Array) -> Array:
    """Take one SGD step on a batch; return y_pred (N, K), computed before the update.

    The parameters must be writable.
    """
    if found := fusable(layers, x):
        return fused_step(x, y, *found)
    if is_registered(*layers):
        return shared_step(layers, x, y)
    y_pred = forward(layers, x)  # custom layers may not allow splitting a batch
    backward_parameters(layers, loss_gradient(y_pred, y))
    for layer in layers:
        layer.update_params()
    return y_pred


def predict_proba(layers: Sequence[Layer], x: Array) -> Array:
    """Return the probabilities (N, K) for any number of inputs."""
    if found := fusable(copied(layers), x):
        return in_batches(fused_forward(x, *found), x, slice(0, len(x)), FUSED_BATCH)

    def predict(images: slice) -> Array:
        return in_batches(lambda few: outputs(layers, few)[-1], x, images, LITERAL_BATCH)

    if not is_registered(*layers):
        return predict(slice(0, len(x)))
    return np.concatenate(share(predict, len(x), multiplications(layers, x)))


def in_batches(forward: Callable[[Array], Array], x: Array, images: slice, size: int) -> Array:
    """Return the output of `forward` for these images, computed in batches of `size`."""
    if images.start == images.stop:  # no images: return an empty array of the right shape
        return forward(x[images])
    return np.concatenate([forward(x[few]) for few in slices(images, size)])


# Shared between threads --------------------------------------------------------------------------


def shared_step(layers: Sequence[Layer], x: Array, y: Array) -> Array:
    """Take an SGD step with the images split between threads; return y_pred (N, K).

    Gradients are sums over the images, so the threads' gradients are added up.
    """
    if len(x) != len(y):
        raise ValueError(
            f"train_step expects a row of labels for each image, got {len(x)} images and "
            f"{len(y)} rows"
        )

    def compute(images: slice) -> tuple[Array, list[Layer]]:
        copies = copied(layers)
        y_pred = forward(copies, x[images])
        backward_parameters(copies, loss_gradient(y_pred, y[images]))
        return y_pred, copies

    parts = share(compute, len(x), 3 * multiplications(layers, x))  # z, dweights and dx
    _, first = parts[0]
    for _, others in parts[1:]:
        for layer, other in zip(first, others, strict=True):
            gradients = layer.gradients()
            for name, gradient in other.gradients().items():
                gradients[name] += gradient
    for layer in first:
        layer.update_params()
    return np.concatenate([y_pred for y_pred, _ in parts])


def multiplications(layers: Sequence[Layer], x: Array) -> int:
    """Return roughly how many multiplications the forward pass of a batch takes."""
    shape, of_one_image = x.shape[1:], 0
    try:
        for layer in layers:
            shape = layer.output_shape(shape)
            of_one_image += layer.multiplications(shape)
    except ValueError:
        return 0  # the batch does not fit: the forward pass raises the error, with the whole shape
    return len(x) * of_one_image


# Fused -------------------------------------------------------------------------------------------


def fusable(layers: Sequence[Layer], x: Array) -> Fusable | None:
    """Return the convolution, the hidden layer and the rest if fusing is cheaper, else None.

    A subclass may compute something else, so it is never fused. The dense weights are reshaped
    without a copy, so they must be C-contiguous.
    """
    match [layer for layer in layers if type(layer) is not InputLayer]:
        case [Conv2D() as conv, HiddenLayer() as hidden, *rest] if is_registered(conv, hidden):
            kernels, weights = (layer.parameters()["weights"] for layer in (conv, hidden))
            has_one_dtype, in_order = weights.dtype == kernels.dtype, weights.flags.c_contiguous
            if is_cheaper(len(x), kernels) and has_one_dtype and in_order:
                return conv, hidden, rest
    return None


def fused_step(
    x: Array, y: Array, conv: Conv2D, hidden: HiddenLayer, rest: Sequence[Layer]
) -> Array:
    """Take an SGD step with the convolution and the hidden layer fused; return y_pred (N, K)."""
    x, geometry = fused_input(conv, hidden, x)  # (N, C*H*W)
    G, g = fuse(conv.weights, conv.bias, hidden.weights, geometry)
    z = matmul(x, G) + (g + hidden.bias)  # (N, M)
    y_pred = forward(rest, np.maximum(0, z))

    dout = backward(rest, loss_gradient(y_pred, y))
    dz = np.asarray(dout, z.dtype) * (z > 0)
    dG, dg = matmul(x.T, dz), dz.sum(axis=0)

    for layer in rest:
        layer.update_params()
    hidden.bias -= hidden.learning_rate * dg
    rates = conv.learning_rate, hidden.learning_rate
    update_fused(conv.weights, conv.bias, hidden.weights, dG, dg, geometry, rates)
    return y_pred


def fused_forward(
    x: Array, conv: Conv2D, hidden: HiddenLayer, rest: Sequence[Layer]
) -> Callable[[Array], Array]:
    """Return a forward pass for batches of images like `x`; the layers are fused only once."""
    _, geometry = fused_input(conv, hidden, x)
    G, g = fuse(conv.weights, conv.bias, hidden.weights, geometry)

    def fused(batch: Array) -> Array:
        z = matmul(fused_input(conv, hidden, batch)[0], G) + (g + hidden.bias)
        return forward(rest, np.maximum(0, z))

    return fused


def fused_input(conv: Conv2D, hidden: HiddenLayer, x: Array) -> tuple[Array, Geometry]:
    """Return the checked batch as rows (N, C*H*W), and the geometry of the convolution."""
    x = conv.check_input(x)
    output_shape = conv.output_shape(x.shape[1:])
    hidden.output_shape(output_shape)
    return flatten(x), Geometry(x.shape[1:], output_shape, conv.stride, conv.padding)
