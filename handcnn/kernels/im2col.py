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

All arrays here have the batch last: images (C, H, W, N), outputs (F, OH, OW, N). Each number above
is then N numbers side by side, for N images, and a row of output is one large matrix product. The
entries of a kernel are ordered by kernel row u, then column v, then channel c, so the kernel matrix
is (F, k*k*C).
"""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from handcnn.types import Array, Shape


def positions(size: int, k: int, s: int, p: int = 0) -> int:
    """Return how many positions a window has along one side: OH for H, OW for W."""
    return (size + 2 * p - k) // s + 1


def kernel_matrix(weights: Array) -> Array:
    """Return kernels (F, C, k, k) as a matrix (F, k*k*C)."""
    return weights.transpose(0, 2, 3, 1).reshape(len(weights), -1)


def kernels_of(A: Array, shape: Shape) -> Array:
    """Undo `kernel_matrix`: return kernels of `shape` (F, C, k, k)."""
    F, C, k, _ = shape
    return np.ascontiguousarray(A.reshape(F, k, k, C).transpose(0, 3, 1, 2))


def im2col(
    x: Array,
    k: int,
    s: int,
    p: int,
    rows: slice | None = None,
    columns: slice | None = None,
    constant: Array | None = None,
) -> Array:
    """Return the windows of each row of output as columns: (OH, k*k*C, OW*N), a view.

    Args:
        x: images (C, H, W, N).
        k: height and width of the kernels.
        s: the stride between windows.
        p: the padding, rows and columns of zeros around the images.
        rows: rows of the output, by default all. OH is their number.
        columns: columns of the output, by default all. OW is their number.
        constant: (N,), one more entry at the end of each kernel row: (OH, k*(k*C + 1), OW*N).
    """
    C, H, W, N = x.shape
    rows = rows or slice(0, positions(H, k, s, p))
    columns = columns or slice(0, positions(W, k, s, p))
    OH, OW = rows.stop - rows.start, columns.stop - columns.start
    image_rows, entries = s * (OH - 1) + k, k * C + (constant is not None)
    make = np.zeros if p else np.empty
    shifted = make((image_rows, entries, OW, N), x.dtype)
    by_shift = shifted[:, : k * C].reshape(image_rows, k, C, OW, N)
    if p == 0:  # all shifts are inside the images, so one call copies them
        of_channel, of_row, of_column, of_image = x.strides
        shifts = of_row, of_column, of_channel, s * of_column, of_image
        corner = x[:, s * rows.start :, s * columns.start :]
        by_shift[...] = as_strided(corner, by_shift.shape, shifts)
    else:
        i, h = overlap(s * rows.start - p, 1, image_rows, H)
        for v in range(k):
            j, w = overlap(s * columns.start + v - p, s, OW, W)
            by_shift[i, v, :, j] = x[:, h, w].swapaxes(0, 1)
    if constant is not None:
        shifted[:, -1] = constant
    of_row, of_entry, _, of_number = shifted.strides
    shape, strides = (OH, k * entries, OW * N), (s * of_row, of_entry, of_number)
    return as_strided(shifted, shape, strides)


def col2im(products: list[Array], size: int, s: int, p: int) -> Array:
    """Add up overlapping windows along the first axis: the reverse of im2col.

    Args:
        products: for each of the k places in a window, (windows, ...): what to add to its pixel.
        size: of the image along this axis, without padding.
        s: the stride between windows.
        p: the padding of the image; what falls on it is dropped.

    Returns:
        (size, ...). The arrays in `products` may be overwritten.
    """
    k, count = len(products), len(products[0])
    if s == 1 and p < k and count == size:  # one place covers the whole image
        image = products[p]
    else:
        image = np.zeros((size, *products[0].shape[1:]), products[0].dtype)
    for v in range(k):
        if products[v] is not image:
            windows, pixels = overlap(v - p, s, count, size)
            image[pixels] += products[v][windows]
    return image


def overlap(first: int, step: int, count: int, size: int) -> tuple[slice, slice]:
    """Return which of the `count` pixels first, first + step, ... lie in an image of this size.

    Returns:
        Their indices (in 0 to count - 1), and their positions in the image (in 0 to size - 1).
    """
    start = max(0, -(first // step))
    stop = max(start, min(count, (size - 1 - first) // step + 1))
    return slice(start, stop), slice(first + step * start, first + step * stop, step)
