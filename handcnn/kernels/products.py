"""Products of arrays with one very long side, cut into pieces that stay in the cache.

Large ones OpenBLAS packs first: it copies the operands into another order. Where two of the three
sides are as short as a batch, packing takes as long as multiplying; small products are spared it.
"""

from collections.abc import Iterable, Iterator
from functools import reduce
from operator import iadd

import numpy as np

from handcnn.kernels.threads import MOVED, share
from handcnn.types import Array

SMALL = 1_000_000  # multiplications, up to which OpenBLAS packs nothing
SHORTEST = 64  # rows: shorter pieces do not pay
STEP = 1 << 17  # numbers


def rows_times(a: Array, b: Array) -> Array:
    """Return a b for a (L, K) and b (K, M), where L is the long side."""
    out = np.empty((len(a), b.shape[1]), b.dtype)

    def work(rows: slice) -> None:
        for pieces in _pieces(rows, b.size, a, out):
            np.matmul(pieces[0], b, out=pieces[1])

    share(work, len(a), a.size * b.shape[1])
    return out


def sum_of_rows(a: Array, b: Array) -> Array:
    """Return a^T b for a (L, N) and b (L, M), where L is the long side."""
    each = a.shape[1] * b.shape[1]

    def work(rows: slice) -> Array:
        pieces = _pieces(rows, each, a, b)
        return total((left.swapaxes(1, 2) @ right).sum(axis=0) for left, right in pieces)

    return total(share(work, len(a), len(a) * each))


def descend(a: Array, gradient: Array, learning_rate: float) -> None:
    """Do a -= learning_rate * gradient, for so many numbers at a time that they stay in L2."""
    gradient = np.broadcast_to(gradient, a.shape)  # or say that it does not fit
    count = max(1, STEP // max(1, a[:1].size))

    def work(rows: slice) -> None:
        for few in a_few_at_a_time(rows, count):
            a[few] -= learning_rate * gradient[few]

    share(work, len(a), MOVED * a.size)


def a_few_at_a_time(rows: slice, count: int) -> Iterator[slice]:
    """Yield so many of the rows after one another, the last time what is left."""
    for start in range(rows.start, rows.stop, count):
        yield slice(start, min(start + count, rows.stop))


def total(parts: Iterable[Array]) -> Array:
    """Return the sum of arrays of one shape, of which the first may be overwritten."""
    return reduce(iadd, parts)


def _pieces(rows: slice, multiplications: int, *arrays: Array) -> Iterator[list[Array]]:
    """Cut some rows of the arrays (L, K) into pieces, small at so many multiplications a row.

    Yields:
        Views (pieces, rows of a piece, K): all that are equally long, and what is left over.
    """
    length, small = rows.stop - rows.start, SMALL // max(1, multiplications)
    if length <= small or small < SHORTEST:
        small = max(1, length)
    rest = length % small
    whole, left_over = slice(rows.start, rows.stop - rest), slice(rows.stop - rest, rows.stop)
    yield [array[whole].reshape(length // small, small, array.shape[1]) for array in arrays]
    if rest:
        yield [array[None, left_over] for array in arrays]
