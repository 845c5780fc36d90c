"""The convolution. docs/backprop.md, section 4, derives every line."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from handcnn.kernels.convolution import correlate, input_gradient, weight_gradient
from handcnn.kernels.im2col import positions
from handcnn.layers.checks import channel_hint, check_size, show_shape
from handcnn.layers.layer import ParameterLayer
from handcnn.types import Array, Shape


class Conv2D(ParameterLayer):
    """Cross-correlation of every image with F kernels, zero padding, no activation.

        z[n,f,i,j] = bias[f] + sum over c,u,v of weights[f,c,u,v] * xpad[n,c,i*s+u,j*s+v]

    Args:
        in_channels: C.
        out_channels: F.
        kernel_size: k.
        stride: s.
        padding: p, rows and columns of zeros added on every side.
        learning_rate: step size of `update_params`.
        rng: source of the initial weights.
        dtype: of the parameters and of everything computed from them.

    Attributes:
        weights: (F, C, k, k), gradient in `dweights`.
        bias: (F, 1), gradient in `dbias`.
    """

    arguments = (
        "in_channels",
        "out_channels",
        "kernel_size",
        "stride",
        "padding",
        "learning_rate",
    )

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        learning_rate: float = 0.001,
        *,
        rng: np.random.Generator | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self.in_channels = check_size("Conv2D", "in_channels", in_channels)
        self.out_channels = check_size("Conv2D", "out_channels", out_channels)
        self.kernel_size = check_size("Conv2D", "kernel_size", kernel_size)
        self.stride = check_size("Conv2D", "stride", stride)
        self.padding = check_size("Conv2D", "padding", padding, smallest=0)
        super().__init__(learning_rate, rng, dtype)

    def forward(self, x: Array) -> Array:
        """Return z (N, F, OH, OW) for images `x` (N, C, H, W)."""
        self.x = self.check_input(x)
        return correlate(self.x, self.weights, self.bias, self.stride, self.padding)

    def backward(self, dout: Array) -> Array:
        """Set `dweights` and `dbias`; return dx (N, C, H, W) for `dout` (N, F, OH, OW).

        There is no activation, so dz is `dout`. `dweights` is the input correlated with dz; dx is
        dz correlated with the kernels rotated by 180 degrees.
        """
        self.backward_parameters(dout)
        dz, image_shape = self.check_dout(dout), self.x.shape[1:]
        return input_gradient(dz, self.weights, image_shape, self.stride, self.padding)

    def backward_parameters(self, dout: Array) -> None:
        """Set `dweights` and `dbias` only; the first layer needs no dx."""
        dz, k = self.check_dout(dout), self.kernel_size
        self.dweights, self.dbias = weight_gradient(self.x, dz, k, self.stride, self.padding)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (F, OH, OW) for one image of shape (C, H, W)."""
        self.check_shape(("N", *input_shape))
        return self.out_channels, *self._positions(input_shape)

    def check_shape(self, x_shape: tuple[int | str, ...]) -> None:
        """Raise a ValueError unless the shape is (N, C, H, W) and a kernel fits into the image."""
        C, k, p = self.in_channels, self.kernel_size, self.padding
        if len(x_shape) != 4 or x_shape[1] != C:
            raise ValueError(
                f"{self} expects x of shape (N, {C}, H, W), got {show_shape(x_shape)}; "
                f"{channel_hint(x_shape, C)}"
            )
        if min(self._positions(cast(Shape, x_shape))) < 1:
            raise ValueError(
                f"{self} expects images of at least {k - 2 * p} x {k - 2 * p} pixels, "
                f"got {show_shape(x_shape)}; use a smaller kernel or more padding"
            )

    def _positions(self, shape: Shape) -> Shape:
        """Return (OH, OW) for images whose last two axes are H and W."""
        H, W = shape[-2:]
        k, s, p = self.kernel_size, self.stride, self.padding
        return positions(H, k, s, p), positions(W, k, s, p)

    @staticmethod
    def parameter_shapes(config: Mapping[str, Any]) -> dict[str, Shape]:
        """Return the shapes of `weights` (F, C, k, k) and `bias` (F, 1)."""
        F, C, k = config["out_channels"], config["in_channels"], config["kernel_size"]
        return {"weights": (F, C, k, k), "bias": (F, 1)}

    def __repr__(self) -> str:
        k = self.kernel_size
        stride = "" if self.stride == 1 else f", stride {self.stride}"
        padding = "" if self.padding == 0 else f", padding {self.padding}"
        return f"Conv2D({self.in_channels} -> {self.out_channels}, {k}x{k}{stride}{padding})"
