"""Max-pooling and its gradient, on (N, C, H, W) arrays.

A window of size 2 has four places, and each place is a slice of the whole image. Pooling is the
maximum of these slices:

    image        places          z
    1 5 2 0      1 2   5 0
    3 4 8 6      3 8   4 6       5 8

The results have the memory order of the input.
"""

from collections.abc import Iterator
from functools import reduce

import numpy as np

from handcnn.types import Array


def max_pool(x: Array, size: int, stride: int) -> Array:
    """Return z (N, C, OH, OW), the largest entry of every window of x (N, C, H, W)."""
    return reduce(np.maximum, _places(x, size, stride))


def max_pool_gradient(dz: Array, x: Array, z: Array, size: int, stride: int) -> Array:
    """Return dx (N, C, H, W): each dz (N, C, OH, OW) goes to the first maximum of its window.

    Args:
        dz: the gradient with respect to z.
        x: the input of `max_pool`.
        z: its output.
        size: height and width of a window.
        stride: from one window to the next.
    """
    H, W = x.shape[2:]
    cover_all = stride == size and H % size == W % size == 0
    dx = np.empty_like(x) if cover_all else np.zeros_like(x)
    *places, (_, last) = zip(_places(x, size, stride), _places(dx, size, stride), strict=True)

    def assign(gradients: Array, is_first: Array) -> None:
        if stride < size:  # windows overlap
            gradients += dz * is_first
        else:
            np.multiply(dz, is_first, out=gradients)

    is_free = np.ones_like(z, bool)  # windows whose maximum has not been found yet
    for entries, gradients in places:
        is_first = entries == z
        is_first &= is_free
        is_free ^= is_first
        assign(gradients, is_first)
    assign(last, is_free)  # where no maximum was found before, it is here
    return dx


def _places(x: Array, size: int, stride: int) -> Iterator[Array]:
    """Yield, for each place in a window, row by row, its entries in all windows: (N, C, OH, OW)."""
    H, W = x.shape[2:]
    for u in range(size):
        for v in range(size):
            yield x[:, :, u : H - size + u + 1 : stride, v : W - size + v + 1 : stride]
