"""Layers one after another: a batch goes forward through them, its gradient goes back."""

import copy
from collections.abc import Sequence

from handcnn.layers import Conv2D, Layer, is_registered
from handcnn.types import Array


def forward(layers: Sequence[Layer], x: Array) -> Array:
    """Return the output of the last layer for the batch `x`."""
    for layer in layers:
        x = layer.forward(x)
    return x


def backward(layers: Sequence[Layer], dout: Array) -> Array:
    """Compute all gradients; return dx, the gradient with respect to the input of the first."""
    for layer in reversed(layers):
        dout = layer.backward(dout)
    return dout


def backward_parameters(layers: Sequence[Layer], dout: Array) -> None:
    """Compute only the gradients of the parameters: the first layer that has some needs no dx."""
    first = next(i for i, layer in enumerate(layers) if layer.parameters())
    dout = backward(layers[first + 1 :], dout)
    if is_registered(layers[first]):
        layers[first].backward_parameters(dout)
    else:  # a subclass may do more in its backward
        layers[first].backward(dout)


def outputs(layers: Sequence[Layer], x: Array) -> list[Array]:
    """Return the output of every layer for the batch `x`. The layers keep nothing of it."""
    return [x := layer.forward(x) for layer in copied(layers)]


def first_convolution(layers: Sequence[Layer]) -> int | None:
    """Return the index of the first Conv2D, whose kernels can be shown, or None."""
    return next((i for i, layer in enumerate(layers) if isinstance(layer, Conv2D)), None)


def copied(layers: Sequence[Layer]) -> list[Layer]:
    """Return layers that share the parameters of these, but keep their own x and gradients.

    First all parameters of a layer get one dtype, so that they remain shared.
    """
    for layer in layers:
        layer.parameters()
    return [copy.copy(layer) for layer in layers]
