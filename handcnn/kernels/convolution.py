"""A convolution, its weight gradient and its input gradient, each as many small matrix products.

xpad is x with p rows and columns of zeros on every side:

    correlate        z[n,f,i,j] = bias[f] + sum over c,u,v of
                         weights[f,c,u,v] * xpad[n,c,i*s+u,j*s+v]
    weight_gradient  dweights[f,c,u,v] = sum over n,i,j of dz[n,f,i,j] * xpad[n,c,i*s+u,j*s+v]
    input_gradient   dx[n,c,h,w] = sum over all f,i,j,u,v with i*s+u-p = h and j*s+v-p = w of
                         weights[f,c,u,v] * dz[n,f,i,j]

Arrays go in and come out as (N, C, H, W). In memory the results have the batch last: they are views
of (C, H, W, N), the layout of `handcnn.kernels.im2col`. If the next layer is a convolution, it need
not rearrange them. Some rows of output are computed at a time, at least one, so few that their
windows stay in the cache.
"""

import numpy as np

from handcnn.kernels.im2col import im2col, kernel_matrix, overlap, positions, row_windows
from handcnn.kernels.memory import aligned_copy
from handcnn.kernels.products import added, matmul_each, slices, sum_of_products
from handcnn.kernels.threads import MOVING_COST, share
from handcnn.types import Array, Shape

BLOCK_BYTES = 1_000_000  # copied at a time, few enough to stay in the L2 cache
MIN_ROWS = 8  # of kernels in a product; fewer do not fill the registers
SMALL_GRADIENT = 1_000  # numbers in a product; larger ones are worth rearranging dz for
# Correlating beats scattering while the padded dz has at most this many pixels for each one of dz.
MAX_PADDED_RATIO = 4 / 3


def correlate(
    x: Array, weights: Array, bias: Array | None = None, stride: int = 1, padding: int = 0
) -> Array:
    """Return z (N, F, OH, OW): images x (N, C, H, W) correlated with kernels (F, C, k, k)."""
    A, images, k = kernel_matrix(weights, bias), batch_last(x), weights.shape[-1]
    _, H, W, N = images.shape
    OH, OW = positions(H, k, stride, padding), positions(W, k, stride, padding)
    z = np.empty((len(A), OH, OW, N), A.dtype)
    by_position = z.transpose(1, 2, 0, 3)  # (OH, OW, F, N), a view
    count = rows_in_block(A.shape[1] // k * (W + 2 * padding) * N * z.itemsize)

    def multiply(rows: slice) -> None:
        for few in slices(rows, count):
            windows = im2col(images, k, stride, padding, few, has_bias=bias is not None)
            matmul_each(A, windows, by_position[few], MIN_ROWS)
            del windows  # so that the next ones take its place in the cache

    share(multiply, OH, _cost(A.shape, OH * OW * N, k))
    return batch_first(z)


def weight_gradient(
    x: Array, dz: Array, k: int, stride: int = 1, padding: int = 0
) -> tuple[Array, Array]:
    """Return dweights (F, C, k, k) and dbias (F, 1) for x (N, C, H, W) and dz (N, F, OH, OW).

    dweights is x correlated with dz; dbias is the sum of dz over n, i and j.
    """
    images, dz = batch_last(x), batch_last(dz)
    C, (F, OH, OW, N) = len(images), dz.shape
    dz_rows = dz.reshape(F, OH, OW * N).transpose(1, 2, 0)  # (OH, OW*N, F), a view
    count = rows_in_block(max(images[:, 0].size, dz[:, 0].size) * dz.itemsize)
    at_once = k * k * C * F <= SMALL_GRADIENT

    def gradient(rows: slice) -> Array:
        windows = row_windows(images, k, stride, padding, rows, None, at_once)
        of_rows = dz_rows[rows] if k * C * F <= SMALL_GRADIENT else kernels_last(dz[:, rows])
        return sum_of_products(windows, of_rows)

    def multiply(rows: slice) -> Array:
        return added(gradient(few) for few in slices(rows, count))

    dA = added(share(multiply, OH, _cost((F, k * k * C), OH * OW * N, k)))
    dbias = dz.reshape(F, -1) @ np.ones((OH * OW * N, 1), dz.dtype)
    order = (3, 2, 0, 1) if at_once else (3, 2, 1, 0)  # from u, v, C, F or v, u, C, F
    return np.ascontiguousarray(dA.reshape(k, k, C, F).transpose(order)), dbias


def kernels_last(dz: Array) -> Array:
    """Copy dz (F, OH, OW, N) into the order (OH, OW*N, F), which BLAS multiplies faster.

    In one step, the copy would read F distant places at once. So first F moves next to N.
    """
    F, OH, OW, N = dz.shape
    by_position = np.ascontiguousarray(dz.transpose(1, 2, 0, 3))
    return aligned_copy(by_position.swapaxes(2, 3)).reshape(OH, OW * N, F)


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
    i are neighbours, so at each column their part of dz is one matrix. Its product with the kernels
    has a row for each kernel column v, which is added at its place. With s = 1, p = 0, k = 3:

        v = 0    1 2 3 4
        v = 1      1 2 3 4
        v = 2        1 2 3 4
        row h    . . . . . .
    """
    (C, H, W), (N, F, OH, OW), k = image_shape, dz.shape, weights.shape[-1]
    # (k, C, k, F), with the kernel rows in reverse order, since u falls as i rises.
    A = np.ascontiguousarray(weights.transpose(3, 1, 2, 0)[:, :, ::-1])
    dz_columns = aligned_copy(dz.transpose(3, 2, 1, 0)).reshape(OW, OH * F, N)
    dx = np.zeros((C, H, W, N), dz.dtype)
    count = rows_in_block(k * C * OW * N * dz.itemsize)

    def add(rows: slice) -> None:
        products = np.empty((rows.stop - rows.start, OW, k * C, N), dz.dtype)
        for product, h in zip(products, range(rows.start, rows.stop), strict=True):
            i, u = overlap(k - 1 - p - h, s, OH, k)
            under = dz_columns[:, i.start * F : i.stop * F]
            matmul_each(A[:, :, u].reshape(k * C, -1), under, product, MIN_ROWS)
        by_column = products.reshape(len(products), OW, k, C, N).transpose(2, 3, 0, 1, 4)
        for v in range(k):
            j, w = overlap(v - p, s, OW, W)
            dx[:, rows, w] += by_column[v, :, :, j]

    def multiply(rows: slice) -> None:
        for few in slices(rows, count):
            add(few)

    share(multiply, H, _cost((k * C, k * F), OH * OW * N, k))
    return batch_first(dx)


def rows_in_block(bytes_each: int) -> int:
    """Return how many rows of so many bytes fit into a block, at least 1."""
    return max(1, BLOCK_BYTES // max(1, bytes_each))


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
