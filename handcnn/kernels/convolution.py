"""A convolution, its weight gradient and its input gradient, each as a few large matrix products.

xpad is x with p rows and columns of zeros on every side:

    correlate        z[n,f,i,j] = bias[f] + sum over c,u,v of
                         weights[f,c,u,v] * xpad[n,c,i*s+u,j*s+v]
    weight_gradient  dweights[f,c,u,v] = sum over n,i,j of dz[n,f,i,j] * xpad[n,c,i*s+u,j*s+v]
    input_gradient   dx[n,c,h,w] = sum over all f,i,j,u,v with i*s+u-p = h and j*s+v-p = w of
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

from handcnn.kernels.im2col import im2col, kernel_matrix, kernels_of, overlap, positions
from handcnn.kernels.products import added, cut, even, multiply_pieces, slices
from handcnn.kernels.threads import MOVING_COST, share
from handcnn.types import Array, Shape

BLOCK_BYTES = 1_000_000  # of windows, few enough to stay in the L2 cache
MIN_BLOCK_COLUMNS = 2  # of a block; narrower products are slower
LARGE_KERNEL_ENTRIES = 100  # entries; from here on, the weight gradient is faster with a copy of dz
# Correlating beats scattering while the padded dz has at most this many pixels for each one of dz.
MAX_PADDED_RATIO = 4 / 3
PRODUCT_SIZE = 1 << 22  # numbers in the products that are added up in one call


def correlate(
    x: Array, weights: Array, bias: Array | None = None, stride: int = 1, padding: int = 0
) -> Array:
    """Return z (N, F, OH, OW): images x (N, C, H, W) correlated with kernels (F, C, k, k)."""
    A, images, k = kernel_matrix(weights), batch_last(x), weights.shape[-1]
    C, H, W, N = images.shape
    OH, OW = (positions(side, k, stride, padding) for side in (H, W))
    z = np.empty((len(A), OH, OW * N), A.dtype)

    def multiply(rows: slice) -> None:
        for few, columns in blocks(rows, OW, k * C * N * images.itemsize, k, stride):
            windows = im2col(images, k, stride, padding, few, columns)  # (OH, k*k*C, OW*N)
            block = z[:, few, columns.start * N : columns.stop * N]
            multiply_pieces(A, windows, block.swapaxes(0, 1))
        if bias is not None:
            z[:, rows] += bias[:, :, None]

    share(multiply, OH, _cost(A.shape, OH * OW * N, k))
    return batch_first(z.reshape(len(A), OH, OW, N))


def weight_gradient(
    x: Array, dz: Array, k: int, stride: int = 1, padding: int = 0
) -> tuple[Array, Array]:
    """Return dweights (F, C, k, k) and dbias (F, 1) for x (N, C, H, W) and dz (N, F, OH, OW).

    dweights is x correlated with dz; dbias is the sum of dz over n, i and j.
    """
    images, dz = batch_last(x), batch_last(dz)
    F, OH, OW, N = dz.shape
    C = len(images)
    entries = k * k * C

    def multiply(rows: slice) -> Array:
        return added(
            windows_times_dz(im2col(images, k, stride, padding, few, columns), dz[:, few, columns])
            for few, columns in blocks(rows, OW, k * C * N * images.itemsize, k, stride)
        )

    dA = added(share(multiply, OH, _cost((F, entries), OH * OW * N, k)))
    dbias = dz.reshape(F, -1).sum(axis=1, keepdims=True)
    return kernels_of(dA, (F, C, k, k)), dbias


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
    (_, H, W), (OH, OW), k = image_shape, dz.shape[2:], weights.shape[-1]
    if stride == 1 and padding < k and H * W <= MAX_PADDED_RATIO * OH * OW:
        rotated = weights[:, :, ::-1, ::-1].swapaxes(0, 1)  # (C, F, k, k)
        return correlate(dz, rotated, padding=k - 1 - padding)
    return scatter(dz, weights, image_shape, stride, padding)


def scatter(dz: Array, weights: Array, image_shape: Shape, s: int, p: int) -> Array:
    """Return dx (N, C, H, W), computed row by row, for dz (N, F, OH, OW).

    Row h of the image lies under kernel row u at each output row i with i*s + u - p = h. These rows
    i are neighbours, so their part of dz is one matrix. Its product with the kernels has a row for
    each kernel column v, which is added at its place. With s = 1, p = 0, k = 3:

        v = 0    1 2 3 4
        v = 1      1 2 3 4
        v = 2        1 2 3 4
        row h    . . . . . .
    """
    (C, H, W), (N, F, OH, OW), k = image_shape, dz.shape, weights.shape[-1]
    # (k, C, k, F), with the kernel rows in reverse order, since u falls as i rises.
    A = np.ascontiguousarray(weights.transpose(3, 1, 2, 0)[:, :, ::-1])
    dz_rows = np.ascontiguousarray(dz.transpose(2, 1, 3, 0)).reshape(OH * F, OW * N)
    dx = np.zeros((C, H, W, N), dz.dtype)
    dz_pieces = list(cut(dz_rows, A.size))

    def multiply(rows: slice) -> None:
        for few in slices(rows, max(1, PRODUCT_SIZE // max(1, k * C * OW * N))):
            products = np.empty((few.stop - few.start, k * C, OW * N), dz.dtype)
            pieces = list(zip(dz_pieces, cut(products, A.size), strict=True))
            for row, h in enumerate(range(few.start, few.stop)):
                i, u = overlap(k - 1 - p - h, s, OH, k)
                kernel_rows = A[:, :, u].reshape(k * C, -1)
                for dz_piece, out in pieces:
                    np.matmul(kernel_rows, dz_piece[:, i.start * F : i.stop * F], out=out[row])
            by_column = products.reshape(len(products), k, C, OW, N).transpose(1, 2, 0, 3, 4)
            for v in range(k):
                j, w = overlap(v - p, s, OW, W)
                dx[:, few, w] += by_column[v, :, :, j]

    share(multiply, H, _cost((k * C, k * F), OH * OW * N, k))
    return batch_first(dx)


def windows_times_dz(windows: Array, dz: Array) -> Array:
    """Multiply dz by the windows of each output row; return the sum over the rows.

    Args:
        windows: (OH, entries, OW*N), from `im2col`.
        dz: (F, OH, OW, N).

    Returns:
        (F, entries).
    """
    F, (OH, entries, length) = len(dz), windows.shape
    if entries < LARGE_KERNEL_ENTRIES:
        by_row = dz.reshape(F, OH, length).swapaxes(0, 1)  # (OH, F, OW*N), a view
    else:  # a copy with F last, made in two steps: one would read F distant places at once
        by_row = np.ascontiguousarray(dz.swapaxes(0, 1).swapaxes(1, 2))  # (OH, OW, F, N)
        by_row = np.ascontiguousarray(by_row.swapaxes(2, 3)).reshape(OH, length, F).swapaxes(1, 2)

    def multiply(rows: slice) -> Array:
        products = np.empty((rows.stop - rows.start, entries, F), dz.dtype).swapaxes(1, 2)
        multiply_pieces(by_row[rows], windows[rows].swapaxes(1, 2), products)
        summed: Array = products.sum(axis=0)
        return summed

    count = max(1, PRODUCT_SIZE // (entries * F))
    return added(multiply(rows) for rows in slices(slice(0, OH), count))


def blocks(rows: slice, OW: int, bytes_each: int, k: int, s: int) -> Iterator[tuple[slice, slice]]:
    """Cut these rows of output into blocks whose windows stay in the cache.

    A block is as high as possible, because two blocks, one above the other, share image rows.

    Args:
        rows: rows of the output.
        OW: the number of its columns.
        bytes_each: bytes of the windows for one output column and one image row.
        k: height and width of the kernels.
        s: the stride between windows.

    Yields:
        The rows and the columns of a block.
    """
    count, most = rows.stop - rows.start, BLOCK_BYTES // max(1, bytes_each)
    width = even(OW, max(MIN_BLOCK_COLUMNS, most // (s * (count - 1) + k)))
    height = even(count, max(1, (most // width - k) // s + 1))
    for columns in slices(slice(0, OW), width):
        for few in slices(rows, height):
            yield few, columns


def batch_last(x: Array) -> Array:
    """Return x (N, C, H, W) as a C-contiguous array (C, H, W, N): a view or a copy."""
    return np.ascontiguousarray(x.transpose(1, 2, 3, 0))


def batch_first(x: Array) -> Array:
    """Return x (C, H, W, N) as a view (N, C, H, W)."""
    return x.transpose(3, 0, 1, 2)


def _cost(A_shape: Shape, windows: int, k: int) -> int:
    """Return roughly how many multiplications it takes to copy the windows and multiply them."""
    F, entries = A_shape
    return windows * entries * (F + MOVING_COST // k)
