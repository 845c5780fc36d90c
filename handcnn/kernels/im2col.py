r"""The matrices behind a convolution: each window of the image becomes a column.

    image     kernel                    windows
    1 2 3     a b                       1 2 4 5
    4 5 6     c d     [a b c d]  times  2 3 5 6  =  the four outputs, row by row
    7 8 9                               4 5 7 8
                                        5 6 8 9

This is called im2col (Chellapilla, Puri and Simard, 2006). It holds every pixel k*k times. Here
only the shift to the right is written out, once for each kernel column. A shift down is another
row of the image, and the rows lie one after the other. So the windows of one row of output are
neighbours in memory, and those of the next row overlap them: a view, not a copy.

    1 2  \
    2 3   |  the first row of output:  [a b c d] times these four rows
    4 5   |  \
    5 6  /    |  the second row of output:  [a b c d] times these four
    7 8       |
    8 9      /

All arrays here have the batch last: images (C, H, W, B), outputs (F, OH, OW, B). Each number above
is then B numbers side by side, for B images, and a row of output is one large matrix product. The
bias is one more entry of the kernel, and a constant 1 lies under it. In the order of memory, the
kernel rows u come first, then the columns v, then the channels c, then the bias. It belongs to the
first kernel row and is zero in the others. So the kernel matrix is (F, k*R) with R = k*C + 1, or
R = k*C where there is no bias.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from handcnn.types import Array, Shape


def kernel_matrix(weights: Array, bias: Array | None = None) -> Array:
    """Return kernels (F, C, k, k) and a bias (F, 1) as one matrix (F, k*R)."""
    f, c, k, _ = weights.shape
    A = np.zeros((f, k, k * c + (bias is not None)), weights.dtype)
    A[:, :, : k * c] = weights.transpose(0, 2, 3, 1).reshape(f, k, k * c)
    if bias is not None:
        A[:, 0, -1:] = bias
    return A.reshape(f, -1)


def split_kernel_matrix(A: Array, shape: Shape) -> tuple[Array, Array]:
    """Return what `kernel_matrix` was given: kernels of `shape` (F, C, k, k) and a bias (F, 1)."""
    f, c, k, _ = shape
    A = A.reshape(f, k, k * c + 1)
    weights = A[:, :, :-1].reshape(f, k, k, c).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(weights), A[:, 0, -1:].copy()


def pad(x: Array, padding: int) -> Array:
    """Return x (C, H, W, B) with rows and columns of zeros on every side, contiguous."""
    if padding == 0:
        return np.ascontiguousarray(x)
    c, h, w, b = x.shape
    xpad = np.zeros((c, h + 2 * padding, w + 2 * padding, b), x.dtype)
    xpad[:, padding : padding + h, padding : padding + w] = x
    return xpad


def im2col(xpad: Array, k: int, stride: int, constant: Array | float | None = None) -> Array:
    """Return the windows of each row of output as columns: (OH, k*R, OW*B), a view.

    Args:
        xpad: padded images (C, H, W, B).
        k: side of the kernels.
        stride: between windows.
        constant: a number or (B,), what lies under the bias; None where there is no bias.
    """
    c, h, w, b = xpad.shape
    oh, ow = (h - k) // stride + 1, (w - k) // stride + 1
    r = k * c + (constant is not None)
    shifted = np.empty((h, r, ow, b), xpad.dtype)
    for v in range(k):
        columns = xpad[:, :, v : v + stride * ow : stride][:, :, :ow]  # (C, H, OW, B)
        shifted[:, v * c : v * c + c] = columns.swapaxes(0, 1)
    if constant is not None:
        shifted[:, -1] = constant
    rows = shifted.reshape(h * r, ow * b)
    windows = sliding_window_view(rows, k * r, axis=0)[:: stride * r]
    return windows[:oh].swapaxes(1, 2)


def col2im(products: list[Array], size: int, stride: int, padding: int) -> Array:
    """Add up overlapping windows along the first axis: the way back from columns to the image.

    Args:
        products: for each of the k places in a window, (windows, ...): what it adds to its pixel.
        size: of the image along this axis, without padding.
        stride: between windows.
        padding: of the image; what falls on it is dropped.

    Returns:
        (size, ...). The arrays in `products` may be overwritten.
    """
    k, count = len(products), len(products[0])
    if stride == 1 and padding < k and count == size:  # one of them covers the whole image
        image = products[padding]
    else:
        image = np.zeros((size, *products[0].shape[1:]), products[0].dtype)
    for v in range(k):
        if products[v] is not image:
            windows, pixels = _overlap(v - padding, stride, count, size)
            image[pixels] += products[v][windows]
    return image


def _overlap(first: int, step: int, count: int, size: int) -> tuple[slice, slice]:
    """Return which of `count` pixels first, first + step, ... lie in an image of this size.

    Returns:
        Their numbers, from 0 to count - 1, and the pixels, from 0 to size - 1.
    """
    start = max(0, -(first // step))
    stop = max(start, min(count, (size - 1 - first) // step + 1))
    return slice(start, stop), slice(first + step * start, first + step * stop, step)
