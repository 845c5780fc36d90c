"""The three linear maps of a convolution, each a few large matrix products.

A convolution without activation is linear in its input, and so are both ways back. All three are
here, for `Conv2D`, where B below counts images, and for `handcnn.folding`, where it counts units:

    correlate      z[f,i,j,b]  = sum over taps of A[f,tap] * the pixel under that tap
    tap_gradient   dA[f,tap]   = sum over i,j,b of dz[f,i,j,b] * the pixel under that tap
    spread         dx[c,y,x,b] = sum over f,i,j,tap of A[f,tap] * dz[f,i,j,b], if it is on y,x

B comes last in memory: x (C, H, W, B), z (F, OH, OW*B). A tap is a kernel row u, a kernel column v
and a channel c; the bias is one more, with a constant under it. The taps of kernel row u are R
columns of A, (v, c) and the bias, which belongs to u = 0 and is zero elsewhere: A is (F, k*R), with
R = k*C + 1, or k*C without a bias.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from handcnn.kernels.products import a_few_at_a_time, total
from handcnn.kernels.threads import MOVED, share
from handcnn.types import Array

# Bytes of the windows of a row that are multiplied at a time: in L2, with room for as much again.
BLOCK = 1 << 18
# Columns over which `tap_gradient` sums at a time: the windows of a small kernel stay in L1.
COLUMNS = 512
# With more taps than that, it pays to copy dz into the order in which it is multiplied.
MANY_TAPS = 64
MOST = 1 << 22  # numbers in the products of `tap_gradient` that are summed at a time


def tap_matrix(weights: Array, bias: Array | None = None) -> Array:
    """Return A (F, k*R) for kernels (F, C, k, k) and a bias (F, 1)."""
    f, c, k, _ = weights.shape
    A = np.zeros((f, k, k * c + (bias is not None)), weights.dtype)
    A[:, :, : k * c] = weights.transpose(0, 2, 3, 1).reshape(f, k, k * c)
    if bias is not None:
        A[:, 0, -1:] = bias
    return A.reshape(f, -1)


def kernels_and_bias(A: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return what `tap_matrix` was given: kernels of `shape` (F, C, k, k), and a bias (F, 1)."""
    f, c, k, _ = shape
    A = A.reshape(f, k, k * c + 1)
    weights = A[:, :, :-1].reshape(f, k, k, c).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(weights), A[:, 0, -1:].copy()


def padded(x: Array, padding: int) -> Array:
    """Return a copy of x (C, H, W, B) with so many rows and columns of zeros on every side."""
    c, h, w, b = x.shape
    xpad = np.zeros((c, h + 2 * padding, w + 2 * padding, b), x.dtype)
    xpad[:, padding : padding + h, padding : padding + w] = x
    return xpad


def windows_by_row(
    xpad: Array, k: int, stride: int, constant: Array | float | None = None
) -> Array:
    """Return for each row of output what lies under the taps: (blocks, OH, k*R, columns), a view.

    A window as a column turns the sum over taps into a matrix product ("im2col": Chellapilla, Puri
    and Simard, 2006), but holds every pixel k*k times. Here only the horizontal taps are written
    out. The vertical ones are rows of the image, which lie one after the other: the k*R rows under
    output row i begin s*R rows after those under row i-1, and overlap them.

    The OW*B columns of a row come in blocks, of which one is enough unless there are many taps.

    Args:
        xpad: padded images (C, H, W, B).
        k: side of the kernels.
        stride: between windows.
        constant: (B,), what lies under the tap of the bias; without it there is none.
    """
    c, h, w, b = xpad.shape
    oh, ow = (h - k) // stride + 1, (w - k) // stride + 1
    r = k * c + (constant is not None)
    blocks = _equal_parts(ow, BLOCK // max(1, k * r * b * xpad.itemsize))
    width = ow // blocks
    taps = np.empty((blocks, h, r, width, b), xpad.dtype)

    def work(rows: slice) -> None:
        for v in range(k):
            pixels = xpad[:, rows, v : v + stride * ow : stride]  # (C, rows, OW, B)
            pixels = pixels.reshape(c, rows.stop - rows.start, blocks, width, b)
            taps[:, rows, v * c : v * c + c] = pixels.transpose(2, 1, 0, 3, 4)

    share(work, h, MOVED * taps.size)
    if constant is not None:
        taps[:, :, -1] = constant
    rows = taps.reshape(blocks, h * r, width * b)
    windows = sliding_window_view(rows, k * r, axis=1)[:, :: stride * r]
    return windows[:, :oh].swapaxes(2, 3)


def correlate(A: Array, windows: Array) -> Array:
    """Return z (F, OH, OW*B) for the matrix of taps A and what `windows_by_row` made of x."""
    blocks, oh, _, columns = windows.shape
    z = np.empty((len(A), oh, blocks, columns), A.dtype)
    by_row = z.transpose(2, 1, 0, 3)

    def work(rows: slice) -> None:
        np.matmul(A, windows[:, rows], out=by_row[:, rows])

    share(work, oh, len(A) * windows.size)
    return z.reshape(len(A), oh, -1)


def tap_gradient(dz: Array, windows: Array) -> Array:
    """Return dA (F, k*R) for dz (F, OH, OW*B)."""
    blocks, oh, taps, width = windows.shape
    pieces = _equal_parts(width, COLUMNS)
    length = width // pieces
    at_a_time = max(1, MOST // (pieces * taps * len(dz)))  # rows
    windows = windows.reshape(blocks, oh, taps, pieces, length).swapaxes(2, 3)
    columns_of_dz = dz.reshape(len(dz), oh, blocks, pieces, length).transpose(2, 1, 3, 4, 0)

    def work(rows: slice) -> Array:
        columns = columns_of_dz[:, rows]
        if taps > MANY_TAPS:
            columns = np.ascontiguousarray(columns)
        return total(
            (x[few] @ d[few]).sum(axis=(0, 1))
            for x, d in zip(windows[:, rows], columns, strict=True)
            for few in a_few_at_a_time(slice(0, max(1, len(x))), at_a_time)
        )

    return total(share(work, oh, len(dz) * windows.size)).T


def spread(
    A: Array, dz: Array, image_shape: tuple[int, ...], k: int, stride: int, padding: int
) -> tuple[Array, Array]:
    """Return dx (C, H, W, B), and (B,) for the constant under the bias, for dz (F, OH, OW, B).

    Each product is added where its tap lies: first the kernel rows, then the kernel columns.
    """
    (c, h, w), (_, oh, ow, b) = image_shape, dz.shape
    by_row = dz.swapaxes(0, 1).reshape(oh, len(A), ow * b)
    products = np.empty((oh, k, k * c + 1, ow, b), A.dtype)

    def work(rows: slice) -> None:
        np.matmul(A.T, by_row[rows], out=products[rows].reshape(-1, A.shape[1], ow * b))

    share(work, oh, A.size * ow * b * oh)
    taps = _overlay([products[:, u, :-1] for u in range(k)], h, stride, padding)
    columns = [taps[:, v * c : v * c + c].swapaxes(0, 2) for v in range(k)]  # (OW, C, H, B)
    dx = _overlay(columns, w, stride, padding)
    return dx.transpose(1, 2, 0, 3), products[:, 0, -1].sum(axis=0).sum(axis=0)


def _overlay(parts: list[Array], size: int, stride: int, padding: int) -> Array:
    """Return the sum of `parts`, where part t lies at t - padding + stride * (0, 1, ...).

    These places run along the first axis, from 0 to size - 1; what lies outside is dropped. Where
    one part covers them all, the others are added to it.
    """
    k, count = len(parts), len(parts[0])
    if stride == 1 and padding < k and count == size:
        whole = parts[padding]
    else:
        whole = np.zeros((size, *parts[0].shape[1:]), parts[0].dtype)
    for t in range(k):
        if parts[t] is not whole:
            numbers, places = _overlap(t - padding, stride, count, size)
            whole[places] += parts[t][numbers]
    return whole


def _overlap(first: int, step: int, count: int, size: int) -> tuple[slice, slice]:
    """Return which of the places first, first + step, ... are among 0 to size - 1.

    Returns:
        Their numbers, from 0 to count - 1, and the places.
    """
    start = max(0, -(first // step))
    stop = max(start, min(count, (size - 1 - first) // step + 1))
    return slice(start, stop), slice(first + step * start, first + step * stop, step)


def _equal_parts(length: int, longest: int) -> int:
    """Return into how few equal parts `length` can be cut so that none is longer than `longest`.

    Where they would have to be much shorter, one part is the lesser evil.
    """
    if length <= longest:
        return 1
    fewest = -(-length // max(1, longest))
    parts = next(n for n in range(fewest, length + 1) if length % n == 0)
    return parts if parts < 8 * fewest else 1
