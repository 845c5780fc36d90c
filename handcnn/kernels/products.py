"""Matrix products with one very long side, and the SGD update, in pieces that fit the cache.

OpenBLAS first copies the operands of a large product into another order. If two of the three sides
are as short as a batch, that takes as long as the multiplication. For small products it copies
nothing.
"""

from collections.abc import Iterable, Iterator
from functools import reduce
from operator import iadd

import numpy as np

from handcnn.kernels.threads import MOVED, share
from handcnn.types import Array

SMALL = 1_000_000  # multiplications up to which OpenBLAS copies nothing
FEWEST_ROWS = 64  # in a piece; shorter pieces are not faster
SHORTEST = 8  # of equal parts; shorter ones are slower than one long part
UPDATED = 1 << 17  # numbers per update, few enough to stay in cache


def matmul(a: Array, b: Array) -> Array:
    """Return the product a b (N, M) of a (N, K) and b (K, M), cut along the longest side.

              N longest                K longest               M longest
               _                                                   ____|____
    a b  =    |_| [ b ]         [____|____] |_|            [ a ] [____|____]
              |_|                           |_|
            pieces of a         pieces of both, added        pieces of b
    """
    (n, k), m = a.shape, b.shape[1]
    if n * k * m <= SMALL:
        return a @ b
    if m > max(n, k):
        return matmul(b.T, a.T).T
    return _sum_of_pieces(a.T, b) if k > n else _row_by_row(a, b)


def _row_by_row(a: Array, b: Array) -> Array:
    """Return a b for a (N, K) and b (K, M), where N is the long side."""
    b = np.ascontiguousarray(b)
    out = np.empty((len(a), b.shape[1]), np.result_type(a, b))

    def work(rows: slice) -> None:
        for a_pieces, out_pieces in _pieces(rows, b.size, a, out):
            np.matmul(a_pieces, b, out=out_pieces)

    share(work, len(a), a.size * b.shape[1])
    return out


def _sum_of_pieces(a: Array, b: Array) -> Array:
    """Return a^T b for a (K, N) and b (K, M), where K is the long side."""
    each = a.shape[1] * b.shape[1]

    def work(rows: slice) -> Array:
        pieces = _pieces(rows, each, a, b)
        return total((left.swapaxes(1, 2) @ right).sum(axis=0) for left, right in pieces)

    return total(share(work, len(a), len(a) * each))


def sgd_update(parameter: Array, gradient: Array, learning_rate: float) -> None:
    """Do parameter -= learning_rate * gradient in place."""
    if parameter.shape != gradient.shape:
        raise ValueError(
            f"sgd_update expects a gradient of the parameter's shape {parameter.shape}, "
            f"got {gradient.shape}"
        )
    count = max(1, UPDATED // max(1, parameter[:1].size))

    def work(rows: slice) -> None:
        for few in slices(rows, count):
            parameter[few] -= learning_rate * gradient[few]

    share(work, len(parameter), MOVED * parameter.size)


def slices(rows: slice, count: int) -> Iterator[slice]:
    """Cut a slice into slices of `count` rows; the last one has the rest."""
    for start in range(rows.start, rows.stop, count):
        yield slice(start, min(start + count, rows.stop))


def equal_parts(length: int, longest: int) -> int:
    """Return the smallest number of equal parts of `length` that are not longer than `longest`.

    Return 1 if they would be much shorter than that, or very short: one long part is then faster.
    """
    fewest = max(1, -(-length // max(1, longest)))
    most = min(8 * fewest, length // SHORTEST)
    return next((n for n in range(fewest, most + 1) if length % n == 0), 1)


def total(parts: Iterable[Array]) -> Array:
    """Return the sum of arrays of one shape. The first may be overwritten."""
    return reduce(iadd, parts)


def _pieces(rows: slice, multiplications: int, *arrays: Array) -> Iterator[list[Array]]:
    """Cut rows of arrays (L, K) into pieces whose products are small.

    Args:
        rows: the rows to cut.
        multiplications: for one row.
        arrays: each (L, K); K may differ.

    Yields:
        A view (pieces, rows of a piece, K) of each array: first all pieces of equal length, then
        the shorter rest, if any.
    """
    length, small = rows.stop - rows.start, SMALL // max(1, multiplications)
    if length <= small or small < FEWEST_ROWS:
        small = max(1, length)
    elif (pieces := equal_parts(length, small)) > 1:
        small = length // pieces  # leaves no rest
    rest = length % small
    whole, left_over = slice(rows.start, rows.stop - rest), slice(rows.stop - rest, rows.stop)
    yield [array[whole].reshape(length // small, small, array.shape[1]) for array in arrays]
    if rest:
        yield [array[None, left_over] for array in arrays]
