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
MIN_PIECE = 64  # along the cut side of a large product; shorter pieces are not faster
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
    cost = rows * inner * columns
    if cost <= SMALL_PRODUCT_COST:
        return left @ right
    if columns > max(rows, inner):
        return matmul(right.T, left.T).T
    if inner > rows:
        return added(share(lambda part: sum_of_products(left[:, part], right[part]), inner, cost))
    right, out = np.ascontiguousarray(right), np.empty((rows, columns), np.result_type(left, right))
    share(lambda part: matmul_each(left[part], right, out[part], MIN_PIECE), rows, cost)
    return out


def sum_of_products(left: Array, right: Array) -> Array:
    """Return the sum of the products of two stacks of matrices, where the inner side is long.

    Args:
        left: (..., *stack, rows, inner).
        right: (*stack, inner, columns); the stack may have any number of axes.

    Returns:
        (..., rows, columns).
    """
    of_one = left.shape[-2] * right.shape[-1]
    sides = (cut(side, of_one, MIN_PIECE) for side in (left, right.swapaxes(-2, -1)))
    stack = tuple(range(-right.ndim - 1, -2))
    return added((a @ b.swapaxes(-2, -1)).sum(axis=stack) for a, b in zip(*sides, strict=True))


def matmul_each(left: Array, right: Array, out: Array, min_room: int) -> None:
    """Do out = left times right for a stack of small matrices, some rows of left at a time.

    Args:
        left: (rows, inner).
        right: (..., inner, columns).
        out: (..., rows, columns).
        min_room: if small products have room for fewer rows than this, all rows are in one.
    """
    of_one = prod(right.shape[-2:])
    if len(left) * of_one <= SMALL_PRODUCT_COST:
        np.matmul(left, right, out=out)
        return
    sides = (cut(side, of_one, min_room) for side in (left.T, out.swapaxes(-2, -1)))
    for few, out_few in zip(*sides, strict=True):
        np.matmul(few.swapaxes(-2, -1), right[..., None, :, :], out=out_few.swapaxes(-2, -1))


def cut(matrix: Array, of_one: int, min_room: int) -> list[Array]:
    """Cut the columns of a matrix into pieces whose products are small.

    Args:
        matrix: (..., rows, columns).
        of_one: how many multiplications one column takes in each product.
        min_room: if small products have room for fewer columns than this, nothing is cut.

    Returns:
        Views (..., pieces, rows, columns of a piece): of pieces of the same length, and of the rest
        if there is one.
    """
    columns, most = matrix.shape[-1], SMALL_PRODUCT_COST // max(1, of_one)
    piece = max(1, columns)
    if min_room <= most < columns:
        pieces = -(-columns // most)
        exact = (columns // n for n in range(pieces, 2 * pieces) if columns % n == 0)
        piece = next(exact, most)  # without a rest if possible
    end = columns // piece * piece
    whole, rest = matrix[..., :end], matrix[..., None, :, end:]
    whole = whole.reshape(*whole.shape[:-1], end // piece, piece).swapaxes(-3, -2)
    return [whole, rest] if end < columns else [whole]


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
