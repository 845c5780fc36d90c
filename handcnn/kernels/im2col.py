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
entries of a kernel are ordered by kernel row u, then column v, then channel c, so the kernel matrix
is (F, k*R) with R = k*C.
"""

import numpy as np

from handcnn.types import Array, Shape


def kernel_matrix(weights: Array) -> Array:
    """Return kernels (F, C, k, k) as a matrix (F, k*R)."""
    f, c, k, _ = weights.shape
    return weights.transpose(0, 2, 3, 1).reshape(f, k * k * c)


def kernels_of(A: Array, shape: Shape) -> Array:
    """Undo `kernel_matrix`: return kernels of `shape` (F, C, k, k)."""
    f, c, k, _ = shape
    return np.ascontiguousarray(A.reshape(f, k, k, c).transpose(0, 3, 1, 2))


def im2col(
    x: Array,
    k: int,
    stride: int,
    padding: int,
    rows: slice | None = None,
    columns: slice | None = None,
    constant: Array | None = None,
) -> Array:
    """Return the windows of each row of output as columns: (OH, k*R, OW*B), a view.

    Args:
        x: images (C, H, W, B), C-contiguous.
        k: height and width of the kernels.
        stride: between windows.
        padding: rows and columns of zeros around the images.
        rows: rows of the output, by default all. OH is their number.
        columns: columns of the output, by default all. OW is their number.
        constant: (B,), one more entry at the end of each kernel row; then R is k*C + 1.
    """
    c, h, w, b = x.shape
    top, oh = _first_and_count(rows, output_size(h, k, stride, padding))
    left, ow = _first_and_count(columns, output_size(w, k, stride, padding))
    r = k * c + (constant is not None)
    shape = stride * (oh - 1) + k, r, ow, b
    shifted = np.zeros(shape, x.dtype) if padding else np.empty(shape, x.dtype)
    by_shift = shifted[:, : k * c].reshape(len(shifted), k, c, ow, b)
    if padding:
        inside, below = overlap(stride * top - padding, 1, len(shifted), h)
        for v in range(k):
            places, pixels = overlap(stride * left + v - padding, stride, ow, w)
            by_shift[inside, v, :, places] = x[:, below, pixels].swapaxes(0, 1)
    else:  # all shifts are inside the image, so one call copies them
        of_channel, of_row, of_column, of_image = x.strides
        first = stride * (top * of_row + left * of_column)
        shifts = of_row, of_column, of_channel, stride * of_column, of_image
        by_shift[...] = np.ndarray(by_shift.shape, x.dtype, x, first, shifts)
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
