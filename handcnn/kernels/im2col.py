r"""The matrices behind a convolution: each window of the image becomes a column.

    image     kernel                    windows
    1 2 3     a b                       1 2 4 5
    4 5 6     c d     [a b c d]  times  2 3 5 6  =  the four outputs, row by row
    7 8 9                               4 5 7 8
                                        5 6 8 9

This is called im2col (Chellapilla, Puri and Simard, 2006). It stores every pixel k*k times. Here
only the shifts to the right are copied, once for each kernel column. A shift down is just another
row of the image, and the rows follow one another in memory. So the windows of one row of output are
neighbours in memory, and those of the next row overlap them: a view, not a copy.

    1 2  \
    2 3   |  the first row of output:  [a b c d] times these four rows
    4 5   |  \
    5 6  /    |  the second row of output:  [a b c d] times these four
    7 8       |
    8 9      /

All arrays here have the batch last: images (C, H, W, B), outputs (F, OH, OW, B). Each number above
is then B numbers side by side, for B images, and a row of output is one large matrix product. The
bias is one more entry of the kernel, multiplied by a constant 1. The entries are ordered by kernel
row u, then column v, then channel c; each kernel row ends with an entry for the bias, which is zero
in all rows but the first. So the kernel matrix is (F, k*R) with R = k*C + 1, or R = k*C without a
bias.
"""

import numpy as np

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
    """Undo `kernel_matrix`: return kernels of `shape` (F, C, k, k) and a bias (F, 1)."""
    f, c, k, _ = shape
    A = A.reshape(f, k, k * c + 1)
    weights = A[:, :, :-1].reshape(f, k, k, c).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(weights), A[:, 0, -1:].copy()


def im2col(
    x: Array,
    k: int,
    stride: int,
    padding: int,
    constant: Array | float | None = None,
    rows: slice | None = None,
    columns: slice | None = None,
) -> Array:
    """Return the windows of each row of output as columns: (OH, k*R, OW*B), a view.

    Args:
        x: images (C, H, W, B).
        k: height and width of the kernels.
        stride: between windows.
        padding: rows and columns of zeros around the images.
        constant: the factor of the bias, a number or (B,); None without a bias.
        rows: rows of the output, by default all. OH is their number.
        columns: columns of the output, by default all. OW is their number.
    """
    c, h, w, b = x.shape
    top, oh = _first_and_count(rows, output_size(h, k, stride, padding))
    left, ow = _first_and_count(columns, output_size(w, k, stride, padding))
    r = k * c + (constant is not None)
    shape = stride * (oh - 1) + k, r, ow, b
    shifted = np.zeros(shape, x.dtype) if padding else np.empty(shape, x.dtype)
    inside, below = overlap(stride * top - padding, 1, len(shifted), h)
    for v in range(k):
        places, pixels = overlap(stride * left + v - padding, stride, ow, w)
        shifted[inside, v * c : v * c + c, places] = x[:, below, pixels].swapaxes(0, 1)
    if constant is not None:
        shifted[:, -1] = constant
    _, of_entry, _, of_number = shifted.strides
    strides = stride * r * of_entry, of_entry, of_number
    return np.ndarray((oh, k * r, ow * b), x.dtype, shifted, strides=strides)


def output_size(size: int, k: int, stride: int, padding: int) -> int:
    """Return OH for H, or OW for W."""
    return (size + 2 * padding - k) // stride + 1


def _first_and_count(part: slice | None, size: int) -> tuple[int, int]:
    return (0, size) if part is None else (part.start, part.stop - part.start)


def col2im(products: list[Array], size: int, stride: int, padding: int) -> Array:
    """Add up overlapping windows along the first axis: the reverse of im2col.

    Args:
        products: for each of the k places in a window, (windows, ...): what to add to its pixel.
        size: of the image along this axis, without padding.
        stride: between windows.
        padding: of the image; what falls on it is dropped.

    Returns:
        (size, ...). The arrays in `products` may be overwritten.
    """
    k, count = len(products), len(products[0])
    if stride == 1 and padding < k and count == size:  # one place covers the whole image
        image = products[padding]
    else:
        image = np.zeros((size, *products[0].shape[1:]), products[0].dtype)
    for v in range(k):
        if products[v] is not image:
            windows, pixels = overlap(v - padding, stride, count, size)
            image[pixels] += products[v][windows]
    return image


def overlap(first: int, step: int, count: int, size: int) -> tuple[slice, slice]:
    """Return which of the `count` pixels first, first + step, ... lie in an image of this size.

    Returns:
        Their numbers (in 0 to count - 1), and their positions in the image (in 0 to size - 1).
    """
    start = max(0, -(first // step))
    stop = max(start, min(count, (size - 1 - first) // step + 1))
    return slice(start, stop), slice(first + step * start, first + step * stop, step)
