"""The dense layers: hidden with ReLU, output with softmax. docs/backprop.md, sections 2 and 3."""

from collections.abc import Mapping
from math import prod
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from handcnn.kernels.products import matmul
from handcnn.layers.checks import check_size, dense_hint, show_shape
from handcnn.layers.layer import ParameterLayer
from handcnn.types import Array, Shape


class DenseLayer(ParameterLayer):
    """What the hidden and the output layer share: `z = x weights + bias` and its backward pass.

    Args:
        input_size: D. A 4-D input (N, C, H, W) is flattened to (N, D) with D = C*H*W.
        output_size: M.
        learning_rate: step size of `update_params`.
        rng: source of the initial weights.
        dtype: of the parameters and of everything computed from them.

    Attributes:
        weights: (D, M), gradient in `dweights`.
        bias: (1, M), gradient in `dbias`.
    """

    arguments = ("input_size", "output_size", "learning_rate")

    def __init__(
        self,
        input_size: int,
        output_size: int,
        learning_rate: float = 0.001,
        *,
        rng: np.random.Generator | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self.input_size = check_size(type(self).__name__, "input_size", input_size)
        self.output_size = check_size(type(self).__name__, "output_size", output_size)
        super().__init__(learning_rate, rng, dtype)

    def forward(self, x: Array) -> Array:
        """Return z (N, M) for `x` (N, D) or (N, C, H, W)."""
        self.x = self.check_input(x)
        return matmul(flatten(self.x), self.weights) + self.bias  # (N, D)(D, M) + (1, M)

    def backward(self, dz: Array) -> Array:
        """Set `dweights` and `dbias`; return dx in the shape of x, for `dz` (N, M)."""
        self.dweights = matmul(flatten(self.x).T, dz)  # (D, N)(N, M)
        self.dbias = dz.sum(axis=0, keepdims=True)  # (1, M)
        return matmul(dz, self.weights.T).reshape(self.x.shape)  # (N, M)(M, D)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (M,) for one input of shape (D,) or (C, H, W)."""
        self.check_shape(("N", *input_shape))
        return (self.output_size,)

    def check_shape(self, x_shape: tuple[int | str, ...]) -> None:
        """Raise a ValueError unless the shape is (N, D), or (N, C, H, W) with C*H*W = D."""
        D = self.input_size
        if len(x_shape) not in (2, 4) or prod(cast(Shape, x_shape[1:])) != D:
            raise ValueError(
                f"{self} expects x of shape (N, {D}) or (N, C, H, W) with C*H*W = {D}, "
                f"got {show_shape(x_shape)}; {dense_hint(x_shape, D)}"
            )

    @staticmethod
    def parameter_shapes(config: Mapping[str, Any]) -> dict[str, Shape]:
        """Return the shapes of `weights` (D, M) and `bias` (1, M)."""
        D, M = config["input_size"], config["output_size"]
        return {"weights": (D, M), "bias": (1, M)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.input_size} -> {self.output_size})"


class HiddenLayer(DenseLayer):
    """Dense layer with ReLU: `a = max(0, x weights + bias)`. Arguments as in `DenseLayer`."""

    def forward(self, x: Array) -> Array:
        """Return a = max(0, z) (N, M) for `x` (N, D) or (N, C, H, W)."""
        self.z = super().forward(x)
        return np.maximum(0, self.z)

    def backward(self, dout: Array) -> Array:
        """Set `dweights` and `dbias` for dz = dout * (z > 0); return dx in the shape of x."""
        return super().backward(self.check_dout(dout) * (self.z > 0))


class OutputLayer(DenseLayer):
    """Dense layer with softmax: `a = softmax(x weights + bias)`. Arguments as in `DenseLayer`.

    `backward` takes the gradient with respect to *z*, which is what `loss_gradient` returns. So
    the softmax needs no backward pass.
    """

    def forward(self, x: Array) -> Array:
        """Return a = softmax(z) (N, M): probabilities, each row summing to 1."""
        return softmax(super().forward(x))

    def backward(self, dout: Array) -> Array:
        """Set `dweights` and `dbias` for dz = dout; return dx in the shape of x."""
        return super().backward(self.check_dout(dout))


def flatten(x: Array) -> Array:
    """Return `x` (N, C, H, W) as (N, C*H*W), or `x` (N, D) unchanged."""
    return x.reshape(len(x), prod(x.shape[1:]))


def softmax(z: Array) -> Array:
    """Return exp(z) divided by the sum of its row, for z (N, M)."""
    exp = np.exp(z - z.max(axis=1, keepdims=True))  # the maximum cancels and prevents overflow
    a: Array = exp / exp.sum(axis=1, keepdims=True)
    return a
