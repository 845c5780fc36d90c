"""From the marks of a picture to its rows: which marks may be digits, and which belong together."""

from collections.abc import Sequence

import numpy as np

from handcnn.errors import HandcnnError
from handcnn.pictures.numbers.candidates import Row, cut_row, sketch
from handcnn.pictures.numbers.judge import judge
from handcnn.pictures.numbers.marks import Marks, gaps, joined, marks_of, rows_of
from handcnn.types import Array

MAX_MARKS = 300
SPECK = 0.1  # of the height of the highest mark: smaller ones do not count
PART = 0.25  # of the height of two marks: a larger gap separates a mark from the one above
LOW, HIGH = 0.4, 3.0  # in heights of a digit: lower marks are parts or points, higher ones lines
NEAR = 0.4  # in heights of a digit: a low mark this near to a row may be a part of its digits
SURE = 3.0  # odds above which a mark is one digit and is not cut
NARROW = 0.75  # of a digit's height: a mark this narrow is only cut if it is surely no digit


def rows_in(ink: Array, strokes: Array, bright: Array | None) -> tuple[list[Row], int]:
    """Return the rows of a picture, in pieces, and the number of marks in no row.

    Args:
        ink: (H, W), about 1 in the middle of a stroke.
        strokes: (H, W) bool.
        bright: (H, W) the picture as MNIST draws it, or None.

    Raises:
        HandcnnError: there are too many marks.
    """
    marks = _without_specks(marks_of(strokes))
    if len(marks.boxes) > MAX_MARKS:
        raise HandcnnError(f"the picture has more than {MAX_MARKS} marks; crop it to the number")
    marks, odds = _with_parts(ink, marks)
    height = _typical(marks.heights, odds)
    high = (marks.heights >= LOW * height) & (marks.heights <= HIGH * height)
    tall = np.flatnonzero(high)
    rows = [[int(tall[k]) for k in row] for row in rows_of(marks.boxes[tall])]
    left_out = 0
    for i in np.flatnonzero(~high):
        distance = np.hypot(*np.maximum(gaps(marks.boxes[i], marks.boxes[tall]), 0))
        if marks.heights[i] < height and distance.min() <= NEAR * height:
            nearest = tall[distance.argmin()]
            next(row for row in rows if nearest in row).append(int(i))
        else:
            left_out += 1
    unsure = high & (odds < np.where(marks.widths > NARROW * height, SURE, -SURE))
    heights = [_typical(marks.heights[row], odds[row]) for row in rows]
    return [
        cut_row(ink, bright, marks, row, unsure, own)
        for row, own in zip(rows, heights, strict=True)
    ], left_out


def _without_specks(marks: Marks) -> Marks:
    """Return the marks that are not tiny beside the highest."""
    sides = np.maximum(marks.heights, marks.widths)
    large = sides >= SPECK * marks.heights.max()
    return marks_of(np.append(False, large)[marks.labels])


def _with_parts(ink: Array, marks: Marks) -> tuple[Marks, Array]:
    """Return the marks, those joined that are parts of one digit, and the odds of each.

    A digit may be broken from left to right, or its bar may stand above it. Two marks, one above
    the other, are one if the judge prefers both together to either of them alone.
    """
    odds = _odds(ink, marks, [(i,) for i in range(len(marks.boxes))])
    pairs = []
    for i, box in enumerate(marks.boxes):
        below, beside = gaps(box, marks.boxes)
        high = np.maximum(marks.boxes[:, 2], box[2]) - np.minimum(marks.boxes[:, 0], box[0])
        above = -beside > 0.5 * np.minimum(marks.widths, marks.widths[i])
        close = (below > -0.5 * np.minimum(marks.heights, marks.heights[i])) & (below < PART * high)
        pairs += [(i, int(k)) for k in np.flatnonzero(above & close) if k > i]
    together = _odds(ink, marks, pairs)
    owner: dict[int, int] = {}
    for k in np.argsort(-together):
        one, other = pairs[k]
        if together[k] > max(0, *odds[[one, other]]) and not {one, other} & set(owner):
            owner[other] = one
    if not owner:
        return marks, odds
    marks = joined(marks, owner)
    return marks, _odds(ink, marks, [(i,) for i in range(len(marks.boxes))])


def _odds(ink: Array, marks: Marks, groups: Sequence[tuple[int, ...]]) -> Array:
    """Return the odds that some marks together are one digit (n,)."""
    whole = np.zeros(len(marks.boxes), bool)
    rows = [cut_row(ink, None, marks, group, whole, 1) for group in groups]
    return judge([sketch(row, (0, len(row.boxes))) for row in rows]).odds


def _typical(heights: Array, odds: Array) -> float:
    """Return the median height of the marks that look like a digit; a high mark weighs more."""
    good = np.sort(heights[odds > 0])
    if len(good) == 0:
        return float(heights.max())
    return float(good[np.searchsorted(good.cumsum(), good.sum() / 2)])
