"""Matrix products with one very long side, and the SGD update, in pieces that fit the cache.

OpenBLAS first copies the operands of a large product into another order. If two of the three sides
are as short as a batch, that takes as long as the multiplication. For small products it copies
nothing. So long matrices are cut into pieces here:

                       B                         out
    A   times   | 1 | 2 | 3 | 4 |   =   | A1 | A2 | A3 | A4 |
"""

from collections.abc import Iterable, Iterator
from functools import reduce
from operator import iadd

import numpy as np

from handcnn.kernels.threads import MOVED, share
from handcnn.types import Array

SMALL_PRODUCT = 1_000_000  # multiplications up to which OpenBLAS copies nothing
PIECE_STEP = 16  # the length of a piece is a multiple of this: numbers in a vector register
UPDATE_SIZE = 1 << 17  # numbers per update, few enough to stay in cache


def matmul(a: Array, b: Array) -> Array:
    """Return the product a b of two matrices, cut along the longest of its three sides.

            rows longest           inner side longest          columns longest
               _                                                   ____|____
    a b  =    |_| [ b ]         [____|____] |_|            [ a ] [____|____]
              |_|                           |_|
            pieces of a         pieces of both, added        pieces of b
    """
    (rows, inner), columns = a.shape, b.shape[1]
    if rows * inner * columns <= SMALL_PRODUCT:
        return a @ b
    if inner > max(rows, columns):
        return _sum_of_pieces(a, b)
    return _side_by_side(a, b) if columns > rows else _side_by_side(b.T, a.T).T


def _side_by_side(a: Array, b: Array) -> Array:
    """Return a b, where b has many columns."""
    a = np.asfortranarray(a)
    out = np.empty((b.shape[1], len(a)), np.result_type(a, b)).T

    def multiply(columns: slice) -> None:
        multiply_pieces(a, b[:, columns], out[:, columns])

    share(multiply, b.shape[1], a.size * b.shape[1])
    return out


def _sum_of_pieces(a: Array, b: Array) -> Array:
    """Return a b, where the inner side is long."""
    of_one = len(a) * b.shape[1]  # multiplications

    def multiply(inner: slice) -> Array:
        pieces = zip(*(cut(side[:, inner], of_one, step=1) for side in (a, b.T)), strict=True)
        return added((left @ right.swapaxes(1, 2)).sum(axis=0) for left, right in pieces)

    return added(share(multiply, len(b), len(b) * of_one))


def multiply_pieces(A: Array, B: Array, out: Array) -> None:
    """Do out = A B in small products, for matrices or for stacks of them.

    Args:
        A: (..., rows, inner).
        B: (..., inner, columns), cut into pieces of some columns each.
        out: (..., rows, columns).
    """
    of_one = A.shape[-2] * A.shape[-1]  # multiplications for one column
    if of_one * B.shape[-1] <= SMALL_PRODUCT:
        np.matmul(A, B, out=out)
        return
    for B_pieces, out_pieces in zip(cut(B, of_one), cut(out, of_one), strict=True):
        np.matmul(A[..., None, :, :], B_pieces, out=out_pieces)


def cut(matrix: Array, of_one: int, step: int = PIECE_STEP) -> Iterator[Array]:
    """Cut the columns of a matrix into pieces whose products are small.

    Args:
        matrix: (..., rows, columns).
        of_one: how many multiplications one column takes.
        step: the length of the pieces is a multiple of this.

    Yields:
        Views (..., pieces, rows, columns of a piece): first all pieces of the same length, then the
        rest, if any.
    """
    columns = matrix.shape[-1]
    longest = SMALL_PRODUCT // max(1, of_one) // step * step
    piece = even(columns, longest, step) if 0 < longest < columns else max(1, columns)
    end = columns // piece * piece
    whole = matrix[..., :end]
    yield whole.reshape(*whole.shape[:-1], end // piece, piece).swapaxes(-3, -2)
    if end < columns:
        yield matrix[..., None, :, end:]


def even(length: int, longest: int, step: int = 1) -> int:
    """Return the length, a multiple of `step`, of the fewest parts not longer than `longest`.

    All parts but the last have this length, and the last one is not much shorter. `longest` is a
    multiple of `step`, too.
    """
    parts = -(-length // longest)
    return -(-length // (parts * step)) * step


def slices(whole: slice, count: int) -> Iterator[slice]:
    """Cut a slice into slices of length `count`; the last one has the rest."""
    for start in range(whole.start, whole.stop, count):
        yield slice(start, min(start + count, whole.stop))


def added(parts: Iterable[Array]) -> Array:
    """Return the sum of arrays of one shape. The first may be overwritten."""
    return reduce(iadd, parts)


def sgd_update(parameter: Array, gradient: Array, learning_rate: float) -> None:
    """Do parameter -= learning_rate * gradient in place."""
    if parameter.shape != gradient.shape:
        raise ValueError(
            f"sgd_update expects a gradient of the parameter's shape {parameter.shape}, "
            f"got {gradient.shape}"
        )
    count = max(1, UPDATE_SIZE // max(1, parameter[:1].size))

    def update(entries: slice) -> None:
        for few in slices(entries, count):
            parameter[few] -= learning_rate * gradient[few]

    share(update, len(parameter), MOVED * parameter.size)
