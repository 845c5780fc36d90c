"""Products of arrays with one very long side, cut into pieces that stay in the cache.

Large ones OpenBLAS packs first: it copies the operands into another order. Where two of the three
sides are as short as a batch, packing takes as long as multiplying; small products are spared it.
"""

from collections.abc import Iterable
from functools import reduce
from operator import iadd
from typing import Any

import numpy as np
import numpy.typing as npt

from handcnn.threads import MOVED, share

Array = npt.NDArray[Any]

SMALL = 1_000_000  # multiplications, up to which OpenBLAS packs nothing
SHORTEST = 64  # rows: shorter pieces do not pay
STEP = 1 << 17  # numbers


def rows_times(a: Array, b: Array) -> Array:
    """Return a b for a (L, K) and b (K, M), where L is the long side."""
    out = np.empty((len(a), b.shape[1]), b.dtype)

    def work(rows: slice) -> None:
        np.matmul(_pieces(a[rows], b.size), b, out=_pieces(out[rows], b.size))

    share(work, len(a), a.size * b.shape[1])
    return out


def sum_of_rows(a: Array, b: Array) -> Array:
    """Return a^T b for a (L, N) and b (L, M), where L is the long side."""
    each = a.shape[1] * b.shape[1]

    def work(rows: slice) -> Array:
        products = _pieces(a[rows], each).swapaxes(1, 2) @ _pieces(b[rows], each)
        sums: Array = products.sum(axis=0)
        return sums

    return total(share(work, len(a), len(a) * each))


def descend(a: Array, gradient: Array, learning_rate: float) -> None:
    """Do a -= learning_rate * gradient, for so many numbers at a time that they stay in L2."""
    count = max(1, STEP // max(1, a[:1].size))

    def work(rows: slice) -> None:
        for start in range(rows.start, rows.stop, count):
            few = slice(start, min(start + count, rows.stop))
            a[few] -= learning_rate * gradient[few]

    share(work, len(a), MOVED * a.size)


def total(parts: Iterable[Array]) -> Array:
    """Return the sum of arrays of one shape, of which the first may be overwritten."""
    return reduce(iadd, parts)


def equal_parts(length: int, longest: int) -> int:
    """Return into how few equal parts `length` can be cut so that none is longer than `longest`.

    Where they would have to be much shorter, one part is the lesser evil.
    """
    if length <= longest:
        return 1
    fewest = -(-length // max(1, longest))
    parts = next(n for n in range(fewest, length + 1) if length % n == 0)
    return parts if parts < 8 * fewest else 1


def _pieces(a: Array, multiplications: int) -> Array:
    """Return a view of `a` (L, K) as (pieces, rows, K), small at so many multiplications a row."""
    is_small, would_pay = len(a) * multiplications <= SMALL, SHORTEST * multiplications <= SMALL
    pieces = equal_parts(len(a), SMALL // multiplications) if would_pay and not is_small else 1
    return a.reshape(pieces, len(a) // pieces, a.shape[1])
