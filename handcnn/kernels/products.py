"""Matrix products with one very long side, and the SGD update, in pieces that fit the cache.

OpenBLAS first copies the operands of a large product into another order. If two of the three sides
are as short as a batch, that takes as long as the multiplication. For small products it copies
nothing. So long matrices are cut into pieces here:

                       right                     out
    left  times  | 1 | 2 | 3 | 4 |   =   left times each of 1, 2, 3, 4
"""

from collections.abc import Iterable, Iterator
from functools import reduce
from operator import iadd

import numpy as np

from handcnn.kernels.threads import MOVING_COST, share
from handcnn.types import Array

SMALL_PRODUCT_COST = 1_000_000  # multiplications; up to here OpenBLAS copies nothing
MIN_PIECE = 64  # rows or columns in a piece of a matrix; shorter pieces are not faster
UPDATE_SIZE = 1 << 17  # numbers per update, few enough to stay in cache


def matmul(left: Array, right: Array) -> Array:
    """Return the product of two matrices, cut along the longest of its three sides.

    rows longest                inner side longest           columns longest
     _                                                               _____|_____
    |_| [ right ]               [____|____] |_|             [ left ] [____|____]
    |_|                                     |_|
    pieces of left              pieces of both, added        pieces of right
    """
    (rows, inner), columns = left.shape, right.shape[1]
    if rows * inner * columns <= SMALL_PRODUCT_COST:
        return left @ right
    if inner > max(rows, columns):
        return _sum_of_pieces(left, right)
    return _side_by_side(left, right) if columns > rows else _side_by_side(right.T, left.T).T


def _side_by_side(left: Array, right: Array) -> Array:
    """Return left times right, where right has many columns."""
    left, columns = np.asfortranarray(left), right.shape[1]
    out = np.empty((columns, len(left)), np.result_type(left, right)).T

    def multiply(part: slice) -> None:
        multiply_pieces(left, right[:, part], out[:, part], MIN_PIECE)

    share(multiply, columns, left.size * columns)
    return out


def _sum_of_pieces(left: Array, right: Array) -> Array:
    """Return left times right, where the inner side is long."""
    of_one = len(left) * right.shape[1]  # multiplications

    def multiply(part: slice) -> Array:
        sides = (cut(side[:, part], of_one, MIN_PIECE) for side in (left, right.T))
        pieces = zip(*sides, strict=True)
        return added((a @ b.swapaxes(1, 2)).sum(axis=0) for a, b in pieces)

    return added(share(multiply, len(right), len(right) * of_one))


def multiply_pieces(left: Array, right: Array, out: Array, shortest: int = 1) -> None:
    """Do out = left times right in small products, for matrices or for stacks of them.

    Args:
        left: (..., rows, inner).
        right: (..., inner, columns), cut into pieces of some columns each.
        out: (..., rows, columns).
        shortest: as in `cut`.
    """
    of_one = left.shape[-2] * left.shape[-1]  # multiplications for one column
    if of_one * right.shape[-1] <= SMALL_PRODUCT_COST:
        np.matmul(left, right, out=out)
        return
    pieces = zip(cut(right, of_one, shortest), cut(out, of_one, shortest), strict=True)
    for right_pieces, out_pieces in pieces:
        np.matmul(left[..., None, :, :], right_pieces, out=out_pieces)


def cut(matrix: Array, of_one: int, shortest: int = 1) -> Iterator[Array]:
    """Cut the columns of a matrix into pieces whose products are small.

    Args:
        matrix: (..., rows, columns).
        of_one: how many multiplications one column takes.
        shortest: if small products have fewer columns than this, one piece has all columns.

    Yields:
        Views (..., pieces, rows, columns of a piece): first all pieces of the same length, then the
        rest, if any.
    """
    columns = matrix.shape[-1]
    longest, piece = SMALL_PRODUCT_COST // max(1, of_one), max(1, columns)
    if shortest <= longest < columns:
        piece = even(columns, longest)
        fewest = -(-columns // piece)
        exact = (columns // n for n in range(fewest, 2 * fewest) if columns % n == 0)
        piece = next(exact, piece)  # without a rest if possible
    end = columns // piece * piece
    whole = matrix[..., :end]
    yield whole.reshape(*whole.shape[:-1], end // piece, piece).swapaxes(-3, -2)
    if end < columns:
        yield matrix[..., None, :, end:]


def even(length: int, longest: int) -> int:
    """Return the length of the fewest parts of about equal length, none longer than `longest`.

    All parts but the last have this length, and the last one is not much shorter.
    """
    parts = -(-length // longest)
    return -(-length // parts)


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

    share(update, len(parameter), MOVING_COST * parameter.size)
