"""A convolution and its two ways back, each as a few large matrix products.

With xpad for x with p rows and columns of zeros on every side:

    correlate        z[n,f,i,j] = bias[f] + sum over c,u,v of
                         weights[f,c,u,v] * xpad[n,c,i*s+u,j*s+v]
    weight_gradient  dweights[f,c,u,v] = sum over n,i,j of dz[n,f,i,j] * xpad[n,c,i*s+u,j*s+v]
    input_gradient   dx[n,c,y,x] = sum over all f,i,j,u,v with i*s+u-p = y and j*s+v-p = x of
                         weights[f,c,u,v] * dz[n,f,i,j]

Arrays go in and come out as (N, C, H, W). In memory the results have the batch last: they are views
of (C, H, W, N), the layout of `handcnn.kernels.im2col`, which draws it. A convolution that gets
such an array from the one before it has nothing to rearrange.
"""

from collections.abc import Iterator

import numpy as np

from handcnn.kernels.im2col import im2col, kernel_matrix, pad, split_kernel_matrix
from handcnn.kernels.products import slices, total
from handcnn.kernels.threads import MOVED, share
from handcnn.types import Array, Shape

# Bytes of the windows of one row of output that are multiplied at a time: they stay in the cache.
BLOCK = 1 << 18
# Columns of a product summed at a time in a weight gradient: the windows of a small kernel stay in
# the smallest cache.
SUMMED = 512
# Kernels with more entries than this: first copy dz into the order in which it is read.
MANY_ENTRIES = 64
MOST = 1 << 22  # numbers in the products of a weight gradient that are added up at a time


def correlate(
    x: Array, weights: Array, bias: Array | None = None, stride: int = 1, padding: int = 0
) -> Array:
    """Return z (N, F, OH, OW): images x (N, C, H, W) correlated with kernels (F, C, k, k)."""
    k = weights.shape[-1]
    xpad = pad(batch_last(x), padding)
    constant = None if bias is None else 1
    z = multiply_windows(kernel_matrix(weights, bias), xpad, k, stride, constant)
    return batch_first(z)


def weight_gradient(
    x: Array, dz: Array, k: int, stride: int = 1, padding: int = 0
) -> tuple[Array, Array]:
    """Return dweights (F, C, k, k), x (N, C, H, W) correlated with dz (N, F, OH, OW), and dbias.

    The bias is one more entry of the kernel, over a constant 1. So the same product gives dbias
    (F, 1), the sum of dz over n, i and j.
    """
    dz_last = np.ascontiguousarray(batch_last(dz))
    dA = multiply_by_windows(dz_last, pad(batch_last(x), padding), k, stride)
    return split_kernel_matrix(dA, (dz.shape[1], x.shape[1], k, k))


def input_gradient(
    dz: Array, weights: Array, image_shape: Shape, stride: int = 1, padding: int = 0
) -> Array:
    """Return dx (N, C, H, W): dz, dilated by the stride, correlated with the rotated kernels.

    Args:
        dz: (N, F, OH, OW).
        weights: (F, C, k, k).
        image_shape: (C, H, W) of x.
        stride: of the convolution.
        padding: of the convolution.
    """
    (n, f, oh, ow), (_, h, w), k = dz.shape, image_shape, weights.shape[-1]
    s, p = stride, padding
    # s - 1 zeros between the entries of dz, k - 1 around them; then p are cropped on each side.
    dilated = np.zeros((f, h + 2 * p + k - 1, w + 2 * p + k - 1, n), dz.dtype)
    dilated[:, k - 1 : k - 1 + s * oh : s, k - 1 : k - 1 + s * ow : s] = batch_last(dz)
    dilated = dilated[:, p : p + h + k - 1, p : p + w + k - 1]
    rotated = weights[:, :, ::-1, ::-1].swapaxes(0, 1)  # (C, F, k, k)
    return batch_first(multiply_windows(kernel_matrix(rotated), dilated, k, stride=1))


def batch_last(x: Array) -> Array:
    """Return x (N, C, H, W) as a view (C, H, W, N)."""
    return x.transpose(1, 2, 3, 0)


def batch_first(x: Array) -> Array:
    """Return x (C, H, W, N) as a view (N, C, H, W)."""
    return x.transpose(3, 0, 1, 2)


def multiply_windows(
    A: Array, xpad: Array, k: int, stride: int, constant: float | None = None
) -> Array:
    """Return kernel matrix A (F, k*R) times the windows of xpad (C, H, W, B): (F, OH, OW, B)."""
    oh, ow = _output_size(xpad, k, stride)
    b = xpad.shape[-1]
    z = np.empty((len(A), oh, ow * b), A.dtype)

    def work(rows: slice) -> None:
        for columns in _blocks(A.shape[1] * b * A.itemsize, ow):
            windows = im2col(_under(xpad, rows, columns, k, stride), k, stride, constant)
            part = z[:, rows, columns.start * b : columns.stop * b]
            np.matmul(A, windows, out=part.swapaxes(0, 1))

    share(work, oh, _cost(A.shape, oh * ow * b, k))
    return z.reshape(len(A), oh, ow, b)


def multiply_by_windows(dz: Array, xpad: Array, k: int, stride: int) -> Array:
    """Return dz (F, OH, OW, B) times the transposed windows of xpad (C, H, W, B): (F, k*R)."""
    f, oh, ow, b = dz.shape
    entries = k * (k * len(xpad) + 1)

    def work(rows: slice) -> Array:
        return total(
            sum_over_columns(
                im2col(_under(xpad, rows, columns, k, stride), k, stride, constant=1),
                dz[:, rows, columns].reshape(f, rows.stop - rows.start, -1),
            )
            for columns in _blocks(entries * b * dz.itemsize, ow)
        )

    return total(share(work, oh, _cost((f, entries), oh * ow * b, k))).T


def sum_over_columns(windows: Array, dz: Array) -> Array:
    """Return the sum over i of windows[i] dz[:,i]^T, (k*R, F), for (OH, k*R, L) and (F, OH, L)."""
    oh, entries, length = windows.shape
    pieces = _equal_parts(length, SUMMED)
    windows = windows.reshape(oh, entries, pieces, -1).swapaxes(1, 2)  # (OH, pieces, k*R, l)
    dz = dz.reshape(len(dz), oh, pieces, -1).transpose(1, 2, 3, 0)  # (OH, pieces, l, F)
    if entries > MANY_ENTRIES:
        dz = np.ascontiguousarray(dz)
    rows = max(1, MOST // (pieces * entries * dz.shape[-1]))
    return total((windows[few] @ dz[few]).sum(axis=(0, 1)) for few in slices(slice(0, oh), rows))


def _under(xpad: Array, rows: slice, columns: slice, k: int, stride: int) -> Array:
    """Return the part of xpad (C, H, W, B) that lies under these rows and columns of output."""
    below, beyond = (stride * (part.stop - 1) + k for part in (rows, columns))
    return xpad[:, stride * rows.start : below, stride * columns.start : beyond]


def _cost(A_shape: Shape, windows: int, k: int) -> int:
    """Return about how many multiplications it takes to lay out the windows and multiply them."""
    f, entries = A_shape
    return windows * entries * (f + MOVED // k)


def _output_size(xpad: Array, k: int, stride: int) -> tuple[int, int]:
    _, h, w, _ = xpad.shape
    return (h - k) // stride + 1, (w - k) // stride + 1


def _blocks(bytes_each: int, ow: int) -> Iterator[slice]:
    """Cut the columns of a row of output into equal parts whose windows stay in the cache."""
    parts = _equal_parts(ow, BLOCK // max(1, bytes_each))
    return slices(slice(0, ow), ow // parts)


def _equal_parts(length: int, longest: int) -> int:
    """Return into how few equal parts `length` can be cut so that none is longer than `longest`.

    Where they would have to be much shorter, one part is the lesser evil.
    """
    if length <= longest:
        return 1
    fewest = -(-length // max(1, longest))
    parts = next(n for n in range(fewest, length + 1) if length % n == 0)
    return parts if parts < 8 * fewest else 1
