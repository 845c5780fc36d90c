"""Matrix products with one very long side, and the SGD update, in pieces that fit the cache.

OpenBLAS first copies the operands of a large product into another order. If two of the three sides
are as short as a batch, that takes as long as the multiplication. For small products it copies
nothing. So long matrices are cut into pieces here:

                       right                     out
    left  times  | 1 | 2 | 3 | 4 |   =   left times each of 1, 2, 3, 4
"""

from collections.abc import Iterable, Iterator
from functools import reduce
from math import prod
from operator import iadd

import numpy as np

from handcnn.kernels.threads import MOVING_COST, share
from handcnn.types import Array

SMALL_PRODUCT_COST = 1_000_000  # multiplications; up to here OpenBLAS copies nothing
MIN_PIECE = 64  # along the cut side of a matrix; shorter pieces are not faster
MIN_ROWS = 8  # of `left` in `matmul_each`; fewer do not fill the registers
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
        sides = (cut(side[:, part], left.size) for side in (right, out))
        for right_pieces, out_pieces in zip(*sides, strict=True):
            np.matmul(left, right_pieces, out=out_pieces)

    share(multiply, columns, left.size * columns)
    return out


def _sum_of_pieces(left: Array, right: Array) -> Array:
    """Return left times right, where the inner side is long."""

    def multiply(part: slice) -> Array:
        return sum_of_products(left[:, part], right[part])

    return added(share(multiply, len(right), left.size * right.shape[1]))


def sum_of_products(left: Array, right: Array) -> Array:
    """Return the sum of the products of two stacks of matrices, where the inner side is long.

    Args:
        left: (..., rows, inner).
        right: (..., inner, columns).

    Returns:
        (rows, columns).
    """
    shape = left.shape[-2], right.shape[-1]
    if left.shape[-1] * prod(shape) <= SMALL_PRODUCT_COST:
        product: Array = (left @ right).reshape(-1, *shape).sum(axis=0)
        return product
    sides = (cut(side, prod(shape)) for side in (left, right.swapaxes(-2, -1)))
    pieces = zip(*sides, strict=True)
    return added((a @ b.swapaxes(-2, -1)).reshape(-1, *shape).sum(axis=0) for a, b in pieces)


def matmul_each(left: Array, right: Array, out: Array) -> None:
    """Do out = left times right for a stack of small matrices, some rows of left at a time.

    Args:
        left: (rows, inner).
        right: (..., inner, columns).
        out: (..., rows, columns).
    """
    rows, inner = left.shape
    most = SMALL_PRODUCT_COST // max(1, inner * right.shape[-1])
    if rows <= most:
        np.matmul(left, right, out=out)
        return
    piece = next((n for n in range(min(rows, most), MIN_ROWS - 1, -1) if rows % n == 0), rows)
    left = left.reshape(rows // piece, piece, inner)
    out = out.reshape(*out.shape[:-2], *left.shape[:2], out.shape[-1])  # a view
    np.matmul(left, right[..., None, :, :], out=out)


def cut(matrix: Array, of_one: int) -> Iterator[Array]:
    """Cut the columns of a matrix into pieces whose products are small.

    Args:
        matrix: (..., rows, columns).
        of_one: how many multiplications one column takes.

    Yields:
        Views (..., pieces, rows, columns of a piece): first all pieces of the same length, then the
        rest, if any. If small products have too few columns, one piece has all columns.
    """
    columns, most = matrix.shape[-1], SMALL_PRODUCT_COST // max(1, of_one)
    if not MIN_PIECE <= most < columns:
        yield matrix[..., None, :, :]
        return
    fewest = -(-columns // most)
    exact = (columns // n for n in range(fewest, 2 * fewest) if columns % n == 0)
    piece = next(exact, -(-columns // fewest))  # without a rest if possible
    end = columns // piece * piece
    whole = matrix[..., :end]
    yield whole.reshape(*whole.shape[:-1], end // piece, piece).swapaxes(-3, -2)
    if end < columns:
        yield matrix[..., None, :, end:]


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
