"""Max-pooling. docs/backprop.md, section 8, derives it and says why ties matter."""

from math import prod
from typing import cast

from handcnn.kernels.im2col import positions
from handcnn.kernels.pooling import max_pool, max_pool_gradient
from handcnn.layers.checks import check_size, show_shape
from handcnn.layers.layer import Layer
from handcnn.types import Array, Shape


class MaxPool2D(Layer):
    """The maximum of every window of each channel. Entries outside all windows are dropped.

        z[n,c,i,j] = maximum over u,v of x[n,c,i*s+u,j*s+v]

    Args:
        size: height and width of a window.
        stride: s, the step from one window to the next; by default `size`.
    """

    arguments = ("size", "stride")

    def __init__(self, size: int, stride: int | None = None) -> None:
        self.size = check_size("MaxPool2D", "size", size)
        self.stride = self.size if stride is None else check_size("MaxPool2D", "stride", stride)

    def forward(self, x: Array) -> Array:
        """Return z (N, C, OH, OW) for `x` (N, C, H, W)."""
        self.x = self.check_input(x)
        self.z = max_pool(self.x, self.size, self.stride)
        return self.z.copy(order="K")  # the caller may write into it, and backward needs z

    def backward(self, dout: Array) -> Array:
        """Return dx (N, C, H, W) for `dout` (N, C, OH, OW).

        Each entry of `dout` goes to the maximum of its window: the first in row order if several
        are equal.
        """
        dz = self.check_dout(dout)
        return max_pool_gradient(dz, self.x, self.z, self.size, self.stride)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C, OH, OW) for one image of shape (C, H, W)."""
        self.check_shape(("N", *input_shape))
        C, H, W = input_shape
        return C, positions(H, self.size, self.stride), positions(W, self.size, self.stride)

    def multiplications(self, output_shape: Shape) -> int:
        """Return how many comparisons one output of this shape takes."""
        return self.size**2 * prod(output_shape)

    def check_shape(self, x_shape: tuple[int | str, ...]) -> None:
        """Raise a ValueError unless the shape is (N, C, H, W) and a window fits into the image."""
        if len(x_shape) != 4:
            raise ValueError(
                f"{self} expects x of shape (N, C, H, W), got {show_shape(x_shape)}; "
                "pool before the dense layers"
            )
        if min(cast(Shape, x_shape[2:])) < self.size:
            raise ValueError(
                f"{self} expects images of at least {self.size} x {self.size} pixels, "
                f"got {show_shape(x_shape)}; use smaller windows or pool less often"
            )

    def __repr__(self) -> str:
        stride = "" if self.stride == self.size else f", stride {self.stride}"
        return f"MaxPool2D({self.size}x{self.size}{stride})"
