r"""The matrices behind a convolution: each window of the image becomes a column.

    image     kernel                    windows
    1 2 3     a b                       1 2 4 5
    4 5 6     c d     [a c b d]  times  4 5 7 8  =  the four outputs, row by row
    7 8 9                               2 3 5 6
                                        5 6 8 9

This is called im2col (Chellapilla, Puri and Simard, 2006). It stores every pixel k*k times. Here a
pixel is stored only k times: the k image rows under a row of output are stacked, column by column.
So a window is one piece of memory. The next window, one column to the right, overlaps it: a view,
not a copy.

    1  \
    4   |  the first window:  [a c b d] times these four
    2   |  \
    5  /    |  the second window:  [a c b d] times these four
    3       |
    6      /

All arrays here have the batch last, so each number above is N numbers side by side, for N images:
images are (C, H, W, N), outputs (F, OH, OW, N). Each window is a matrix without gaps, (k*k*C, N),
which BLAS multiplies without copying it. In `im2col`, the entries of a kernel are ordered by kernel
column v, then row u, then channel c, so the kernel matrix is (F, k*k*C). The bias can be one more
entry, beside a pixel that is always 1.
"""

import numpy as np

from handcnn.kernels.memory import aligned
from handcnn.types import Array, Shape


def positions(size: int, k: int, s: int, p: int = 0) -> int:
    """Return how many positions a window has along one side: OH for H, OW for W."""
    return (size + 2 * p - k) // s + 1


def kernel_matrix(weights: Array, bias: Array | None = None) -> Array:
    """Return kernels (F, C, k, k) as a matrix (F, k*k*C).

    With a bias (F, 1), one more entry follows each kernel column, where the windows have a
    constant: (F, k*(k*C + 1)). The first of these k entries is the bias, the others are 0.
    """
    F, C, k, _ = weights.shape
    A = np.zeros((F, k, k * C + (bias is not None)), weights.dtype)
    A[:, :, : k * C] = weights.transpose(0, 3, 2, 1).reshape(F, k, k * C)
    if bias is not None:
        A[:, 0, -1:] = bias
    return A.reshape(F, -1)


def im2col(images: Array, k: int, s: int, p: int, rows: slice, has_bias: bool = False) -> Array:
    """Return the window of each position as a matrix: (OH, OW, k*k*C, N), a view.

    Args:
        images: (C, H, W, N).
        k: height and width of the kernels.
        s: the stride between windows.
        p: the padding, rows and columns of zeros around the images.
        rows: rows of the output. OH is their number.
        has_bias: one more entry, 1, after each kernel column: (OH, OW, k*(k*C + 1), N).
    """
    C, H, W, N = images.shape
    OH, OW = rows.stop - rows.start, positions(W, k, s, p)
    stacked = aligned((OH, W + 2 * p, k * C + has_bias, N), images.dtype)
    stacked[:, :p] = stacked[:, p + W :] = 0
    for u in range(k):
        i, h = overlap(s * rows.start + u - p, s, OH, H)
        of_u = stacked[:, p : p + W, u * C : u * C + C]
        of_u[: i.start] = of_u[i.stop :] = 0
        of_u[i] = images[:, h].transpose(1, 2, 0, 3)
    stacked[:, :, k * C :] = 1
    of_row, of_column, of_entry, of_number = stacked.strides
    shape = OH, OW, k * stacked.shape[2], N
    return view(stacked, shape, (of_row, s * of_column, of_entry, of_number))


def row_windows(
    images: Array, k: int, s: int, p: int, rows: slice, constant: Array | None, at_once: bool
) -> Array:
    """Return the windows in wide matrices, each with all the windows of one row of output.

    Args:
        images: (C, H, W, N).
        k: height and width of the kernels.
        s: the stride between windows.
        p: the padding, rows and columns of zeros around the images.
        rows: rows of the output. OH is their number.
        constant: (N,), one more entry after each kernel row, or None. It is used only at once.
        at_once: whether all entries are in one matrix, which is faster if they are few. The image
            rows are stored k times then, each time one column further; one row down is a view.

    Returns:
        At once, (OH, k*k*C, OW*N), or (OH, k*(k*C + 1), OW*N) with a constant; the entries are in
        the order u, v, c. Otherwise (k, OH, k*C, OW*N), a matrix for each kernel column v, with the
        entries in the order u, c; if s = 1, it is a view of what `padded` returns.
    """
    xpad = padded(images, k, s, p, rows)
    H, C, W, N = xpad.shape
    OH, OW = positions(H, k, s), positions(W, k, s)
    of_row, of_channel, of_column, of_number = xpad.strides
    if not at_once:
        strides = of_column, s * of_row, of_channel, s * of_column, of_number
        return view(xpad, (k, OH, k * C, OW, N), strides).reshape(k, OH, k * C, OW * N)
    strides = of_row, of_column, of_channel, s * of_column, of_number
    columns = aligned((H, k * C + (constant is not None), OW, N), xpad.dtype)
    columns[:, : k * C].reshape(H, k, C, OW, N)[...] = view(xpad, (H, k, C, OW, N), strides)
    if constant is not None:
        columns[:, -1] = constant
    of_row, of_entry, _, of_number = columns.strides
    return view(columns, (OH, k * columns.shape[1], OW * N), (s * of_row, of_entry, of_number))


def padded(images: Array, k: int, s: int, p: int, rows: slice) -> Array:
    """Return the rows of the padded images under these rows of output: (H, C, W + 2*p, N).

    H is their number. The arguments are those of `im2col`.
    """
    C, H, W, N = images.shape
    first, count = s * rows.start - p, s * (rows.stop - 1 - rows.start) + k
    xpad = aligned((count, C, W + 2 * p, N), images.dtype)
    i, h = overlap(first, 1, count, H)
    xpad[: i.start] = xpad[i.stop :] = 0
    xpad[:, :, :p] = xpad[:, :, p + W :] = 0
    xpad[i, :, p : p + W] = images[:, h].swapaxes(0, 1)
    return xpad


def view(array: Array, shape: Shape, strides: Shape) -> Array:
    """Return a view of a C-contiguous array with these strides, in bytes."""
    return np.ndarray(shape, array.dtype, array, 0, strides)


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
        Both may be empty.
    """
    start = max(0, -(first // step))
    stop = max(start, min(count, (size - 1 - first) // step + 1))
    return slice(start, stop), slice(first + step * start, first + step * stop, step)
