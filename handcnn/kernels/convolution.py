"""A convolution, its weight gradient and its input gradient, each as a few large matrix products.

xpad is x with p rows and columns of zeros on every side:

    correlate        z[n,f,i,j] = bias[f] + sum over c,u,v of
                         weights[f,c,u,v] * xpad[n,c,i*s+u,j*s+v]
    weight_gradient  dweights[f,c,u,v] = sum over n,i,j of dz[n,f,i,j] * xpad[n,c,i*s+u,j*s+v]
    input_gradient   dx[n,c,y,x] = sum over all f,i,j,u,v with i*s+u-p = y and j*s+v-p = x of
                         weights[f,c,u,v] * dz[n,f,i,j]

Arrays go in and come out as (N, C, H, W). In memory the results have the batch last: they are views
of (C, H, W, N), the layout drawn in `handcnn.kernels.im2col`. If the next layer is a convolution,
it need not rearrange them.

The output is computed in blocks: the windows of a block are copied, then multiplied. A block is so
small that its windows stay in the cache:

    output          block       the image below it, with k = 3 and p = 1
    . . . . . .                 . # # # # .
    . . # # . .     # #         . # # # # .     copied k times, each time shifted by one column;
    . . # # . .     # #         . # # # # .     the k - 1 rows that two blocks share are copied
    . . . . . .                 . # # # # .     for both
    . . . . . .                 . . . . . .
"""

from collections.abc import Iterator

import numpy as np

from handcnn.kernels.im2col import im2col, kernel_matrix, kernels_of, output_size, overlap
from handcnn.kernels.products import SMALL, equal_parts, slices, total
from handcnn.kernels.threads import MOVED, share
from handcnn.types import Array, Shape

BLOCK = 1_000_000  # bytes of windows, few enough to stay in the L2 cache
NARROWEST = 2  # columns of a block; narrower products are slower
MANY_ENTRIES = 100  # of a kernel; from here on, the weight gradient is faster with a copy of dz
# Correlating beats scattering while the padded dz has at most this many pixels for each one of dz.
FEW_ZEROS = 4 / 3
MOST = 1 << 22  # numbers in the products that are added up in one call


def correlate(
    x: Array, weights: Array, bias: Array | None = None, stride: int = 1, padding: int = 0
) -> Array:
    """Return z (N, F, OH, OW): images x (N, C, H, W) correlated with kernels (F, C, k, k)."""
    A, images = kernel_matrix(weights), np.ascontiguousarray(batch_last(x))
    return batch_first(multiply_windows(A, images, weights.shape[-1], stride, padding, bias))


def weight_gradient(
    x: Array, dz: Array, k: int, stride: int = 1, padding: int = 0
) -> tuple[Array, Array]:
    """Return dweights (F, C, k, k) and dbias (F, 1) for x (N, C, H, W) and dz (N, F, OH, OW).

    dweights is x correlated with dz; dbias is the sum of dz over n, i and j.
    """
    f, c = dz.shape[1], x.shape[1]
    images, dz_last = (np.ascontiguousarray(batch_last(array)) for array in (x, dz))
    dA = multiply_by_windows(dz_last, images, k, stride, padding)
    dbias = dz_last.reshape(f, -1).sum(axis=1, keepdims=True)
    return kernels_of(dA, (f, c, k, k)), dbias


def input_gradient(
    dz: Array, weights: Array, image_shape: Shape, stride: int = 1, padding: int = 0
) -> Array:
    """Return dx (N, C, H, W): dz, dilated by the stride, correlated with the rotated kernels.

    The dilated dz has zeros between its entries and around them. If there are many zeros, dz is
    multiplied without them instead, and each product is added to its pixel (`scatter`).

    Args:
        dz: (N, F, OH, OW).
        weights: (F, C, k, k).
        image_shape: (C, H, W) of x.
        stride: of the convolution.
        padding: of the convolution.
    """
    (_, h, w), (oh, ow), k = image_shape, dz.shape[2:], weights.shape[-1]
    if stride == 1 and padding < k and h * w <= FEW_ZEROS * oh * ow:
        rotated = weights[:, :, ::-1, ::-1].swapaxes(0, 1)  # (C, F, k, k)
        return correlate(dz, rotated, padding=k - 1 - padding)
    return batch_first(scatter(dz, weights, image_shape, stride, padding))


def batch_last(x: Array) -> Array:
    """Return x (N, C, H, W) as a view (C, H, W, N)."""
    return x.transpose(1, 2, 3, 0)


def batch_first(x: Array) -> Array:
    """Return x (C, H, W, N) as a view (N, C, H, W)."""
    return x.transpose(3, 0, 1, 2)


def multiply_windows(
    A: Array, x: Array, k: int, stride: int, padding: int, bias: Array | None = None
) -> Array:
    """Return A (F, k*R) times the windows of x (C, H, W, B), plus bias (F, 1): (F, OH, OW, B)."""
    _, h, w, b = x.shape
    oh, ow = (output_size(size, k, stride, padding) for size in (h, w))
    z = np.empty((len(A), oh, ow * b), A.dtype)

    def work(rows: slice) -> None:
        for few, columns in _blocks(rows, ow, A[0].nbytes // k * b, k, stride):
            windows = im2col(x, k, stride, padding, few, columns)
            part = z[:, few, columns.start * b : columns.stop * b].swapaxes(0, 1)
            pieces = equal_parts(part.shape[2], SMALL // A.size)  # each a small product
            np.matmul(A, _cut(windows, pieces), out=_cut(part, pieces))
        if bias is not None:
            z[:, rows] += bias[:, :, None]

    share(work, oh, _cost(A.shape, oh * ow * b, k))
    return z.reshape(len(A), oh, ow, b)


def multiply_by_windows(dz: Array, x: Array, k: int, stride: int, padding: int) -> Array:
    """Return dz (F, OH, OW, B) times the transposed windows of x (C, H, W, B): (F, k*R)."""
    f, oh, ow, b = dz.shape
    entries = k * k * len(x)

    def work(rows: slice) -> Array:
        return total(
            sum_over_columns(im2col(x, k, stride, padding, few, columns), dz[:, few, columns])
            for few, columns in _blocks(rows, ow, entries // k * b * x.itemsize, k, stride)
        )

    return total(share(work, oh, _cost((f, entries), oh * ow * b, k))).T


def scatter(dz: Array, weights: Array, image_shape: Shape, s: int, p: int) -> Array:
    """Return dx (C, H, W, B), computed row by row, for dz (B, F, OH, OW).

    Row y of the image lies under kernel row u at each output row i with i*s + u - p = y. These rows
    i are neighbours, so their part of dz is one matrix. Its product with the kernels has a row for
    each kernel column v, which is added at its place. With s = 1, p = 0, k = 3:

        v = 0    1 2 3 4
        v = 1      1 2 3 4
        v = 2        1 2 3 4
        row y    . . . . . .
    """
    (c, h, w), (b, f, oh, ow), k = image_shape, dz.shape, weights.shape[-1]
    # (k, C, k, F), with the kernel rows in reverse order, since u falls as i rises.
    A = np.ascontiguousarray(weights.transpose(3, 1, 2, 0)[:, :, ::-1])
    dz_rows = np.ascontiguousarray(dz.transpose(2, 1, 3, 0)).reshape(oh * f, ow * b)
    pieces = equal_parts(ow * b, SMALL // A[0].size)  # each a small product
    dz_pieces = dz_rows.reshape(oh * f, pieces, -1).swapaxes(0, 1)
    dx = np.zeros((c, h, w, b), dz.dtype)

    def work(rows: slice) -> None:
        for few in slices(rows, max(1, MOST // (k * c * ow * b))):
            count = few.stop - few.start
            products = np.empty((k, c, count, pieces, ow * b // pieces), dz.dtype)
            for y in range(few.start, few.stop):
                i, kernel_rows = overlap(k - 1 - p - y, s, oh, k)
                part = A[:, :, kernel_rows].reshape(k, 1, c, -1)
                below = dz_pieces[:, i.start * f : i.stop * f]
                np.matmul(part, below, out=products[:, :, y - few.start].swapaxes(1, 2))
            for v, product in enumerate(products.reshape(k, c, -1, ow, b)):
                j, pixels = overlap(v - p, s, ow, w)
                dx[:, few, pixels] += product[:, :, j]

    share(work, h, _cost((k * c, k * f), oh * ow * b, k))
    return dx


def sum_over_columns(windows: Array, dz: Array) -> Array:
    """Multiply the windows of each output row by its dz; return the sum over the rows.

    Args:
        windows: (OH, k*R, OW*B), from `im2col`.
        dz: (F, OH, OW, B).

    Returns:
        (k*R, F).
    """
    f, (oh, entries, length) = len(dz), windows.shape
    if entries < MANY_ENTRIES:
        right, pieces = dz.reshape(f, oh, length).transpose(1, 2, 0), 1  # (OH, OW*B, F), a view
    else:  # a copy in this order, made in two steps: one step would read F distant places at once
        by_row = np.ascontiguousarray(dz.transpose(1, 2, 0, 3))  # (OH, OW, F, B)
        right = np.ascontiguousarray(by_row.swapaxes(2, 3)).reshape(oh, length, f)
        pieces = equal_parts(entries, SMALL // (length * f))  # each a small product
    left = windows.reshape(oh, pieces, entries // pieces, length)
    rows = max(1, MOST // (entries * f))
    products = (left[few] @ right[few, None] for few in slices(slice(0, oh), rows))
    return total(product.sum(axis=0) for product in products).reshape(entries, f)


def _cost(A_shape: Shape, windows: int, k: int) -> int:
    """Return roughly how many multiplications it takes to copy the windows and multiply them."""
    f, entries = A_shape
    return windows * entries * (f + MOVED // k)


def _cut(matrices: Array, pieces: int) -> Array:
    """Cut the columns of matrices (OH, R, L) into pieces of equal length l: (OH, pieces, R, l)."""
    oh, r, length = matrices.shape
    return matrices.reshape(oh, r, pieces, length // pieces).swapaxes(1, 2)


def _blocks(
    rows: slice, ow: int, bytes_each: int, k: int, stride: int
) -> Iterator[tuple[slice, slice]]:
    """Cut these rows of output into blocks whose windows stay in the cache.

    A block is as high as possible, because two blocks, one above the other, share image rows.

    Args:
        rows: rows of the output.
        ow: the number of its columns.
        bytes_each: bytes of the windows for one output column and one image row.
        k: height and width of the kernels.
        stride: between windows.

    Yields:
        The rows and the columns of a block.
    """
    bytes_each, count = max(1, bytes_each), rows.stop - rows.start
    image_rows = stride * (count - 1) + k
    width = _equal(ow, max(NARROWEST, BLOCK // (image_rows * bytes_each)))
    height = (BLOCK // (bytes_each * width) - k) // stride + 1
    for columns in slices(slice(0, ow), width):
        for few in slices(rows, _equal(count, height)):
            yield few, columns


def _equal(length: int, longest: int) -> int:
    """Return the length of the fewest, about equal parts of `length` not longer than `longest`."""
    parts = -(-length // max(1, longest))
    return -(-length // max(1, parts))
