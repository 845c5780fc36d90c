"""Cut a mark that may be several touching digits: from its top to its bottom, where it is thin.

A cut is a path down through the mark, a pixel a row, that steps at most one column aside. It takes
the way with the least ink: through paper where it can, else across a stroke where it is thin. Each
further path avoids the strokes that were crossed before. Most of these cuts are wrong: they cut a
0 or an 8 in two. That does no harm, since the judge sees the pieces and their unions later, and
the best of them are chosen together (reader.py). A cut that is missing could not be made up for.

    Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document
    recognition", 1998, section V: heuristic over-segmentation.
"""

from itertools import pairwise

import numpy as np

from handcnn.types import Array

SIDE_STEP = 0.15  # what a step to the side costs, beside the ink
CROSSED = 1.0  # a stroke that was crossed before costs as much again, times this
MAX_INK = 4.0  # widths of the pen that a cut may cross
CLOSEST = 0.09  # of the height: nearer cuts are one cut
MIN_PIECE_INK = 0.03  # of the ink: less than that is no piece


def pieces_of(ink: Array, pen: float, most: int) -> Array:
    """Return the piece of each pixel, counted from the left, as cut by at most `most` paths.

    Args:
        ink: of one mark, (h, w), about 1 in the middle of a stroke and 0 beside it.
        pen: the width of its strokes, in pixels.
        most: number of cuts, at least 0.

    Returns:
        (h, w) int, from 0. A piece may consist of several parts.
    """
    height, width = ink.shape
    columns, middle = np.arange(width), height // 2
    cost, free = ink.astype(float), np.ones(width, bool)
    pieces = np.zeros(ink.shape, int)
    cuts = 0
    while cuts < most and free.any():
        down, up = _least_ink(cost), _least_ink(cost[::-1])[::-1]
        through = np.where(free, (down + up - cost)[middle], np.inf)  # (w,) on the best paths
        column = _middle_of_lowest(through)
        if through[column] > MAX_INK * pen:
            break
        path = _path(down, up, middle, column)
        right = columns >= path[:, None]
        share = (ink * right).sum() / ink.sum()
        if MIN_PIECE_INK < share < 1 - MIN_PIECE_INK:
            pieces += right
            cuts += 1
        near = np.abs(columns - path[:, None]) <= CLOSEST * height
        cost += CROSSED * ink * near
        free &= np.abs(columns - column) >= max(2, CLOSEST * height)
    return pieces


def _least_ink(ink: Array) -> Array:
    """Return the ink on the best path from the top to each pixel (h, w), the pixel included."""
    least = ink.copy()
    aside = np.full(ink.shape[1] + 2, np.inf)
    for above, row in pairwise(least):
        aside[1:-1] = above + SIDE_STEP
        row += np.minimum(above, np.minimum(aside[:-2], aside[2:]))
    return least


def _middle_of_lowest(cost: Array) -> int:
    """Return the middle of the first valley of a cost (w,) with the lowest value."""
    lowest = cost <= cost.min() + 1e-9
    first = int(lowest.argmax())
    length = int((~lowest[first:]).argmax()) or len(cost) - first
    return first + length // 2


def _path(down: Array, up: Array, middle: int, column: int) -> Array:
    """Return the column of the best path (h,) through a column of the middle row."""
    path = np.full(len(down), column)
    for least, rows in ((down, range(middle - 1, -1, -1)), (up, range(middle + 1, len(down)))):
        x = column
        for y in rows:
            left = max(x - 1, 0)
            near = least[y, left : x + 2] + SIDE_STEP * (
                np.arange(left, left + len(least[y, left : x + 2])) != x
            )
            x = left + int(near.argmin())
            path[y] = x
    return path
