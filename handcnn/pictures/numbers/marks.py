"""The marks of a picture, and its rows of digits.

A mark is a connected part of the strokes: a digit, a part of a broken digit, several digits that
touch, a comma, a speck.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from handcnn.pictures.operations import EIGHT_NEIGHBOURS
from handcnn.types import Array

LEVEL = 0.3  # of the lower one's height: two marks that share less rows are not in one row


class Marks(NamedTuple):
    """The marks of a picture, with indices from 0."""

    labels: Array  # (H, W) int: the index of its mark for each pixel, plus 1; 0 is paper
    boxes: Array  # (n, 4) int: top, left, bottom and right of each mark

    @property
    def heights(self) -> Array:
        """The height of each mark (n,), in pixels."""
        heights: Array = self.boxes[:, 2] - self.boxes[:, 0]
        return heights

    @property
    def widths(self) -> Array:
        """The width of each mark (n,), in pixels."""
        widths: Array = self.boxes[:, 3] - self.boxes[:, 1]
        return widths


def marks_of(strokes: Array) -> Marks:
    """Return the marks of a mask (H, W)."""
    return _marks(ndimage.label(strokes, EIGHT_NEIGHBOURS)[0])


def _marks(labels: Array) -> Marks:
    boxes = [(y.start, x.start, y.stop, x.stop) for y, x in ndimage.find_objects(labels)]
    return Marks(labels, np.array(boxes, int).reshape(-1, 4))


def joined(marks: Marks, owner: Mapping[int, int]) -> Marks:
    """Return the marks, some of them as parts of others.

    Args:
        marks: those of a picture.
        owner: for each part, the index of the mark that it belongs to.
    """
    index = np.arange(len(marks.boxes))
    for part, whole in owner.items():
        index[index == index[part]] = index[whole]
    _, index = np.unique(index, return_inverse=True)
    return _marks(np.append(0, index + 1)[marks.labels])


def union(boxes: Array) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right of the smallest box around boxes (n, 4)."""
    top, left = boxes[:, :2].min(axis=0)
    bottom, right = boxes[:, 2:].max(axis=0)
    return int(top), int(left), int(bottom), int(right)


def gaps(box: Array, boxes: Array) -> tuple[Array, Array]:
    """Return how many pixels of paper are between a box and others (n, 4).

    In each direction, (n,): below and beside. Below 0, they share so many rows or columns.
    """
    apart = np.maximum(box[:2] - boxes[:, 2:], boxes[:, :2] - box[2:])
    return apart[:, 0], apart[:, 1]


def rows_of(boxes: Array) -> list[list[int]]:
    """Return the rows of boxes (n, 4), from top to bottom: their indices from left to right.

    A box belongs to the row of the nearest box on either side that shares a good part of its
    height. So a row may climb or fall, as long as neighbours are about level.
    """
    top, left, bottom, right = boxes.T
    row = np.arange(len(boxes))
    for i, box in enumerate(boxes):
        below, _ = gaps(box, boxes)
        level = -below > LEVEL * np.minimum(bottom - top, bottom[i] - top[i])
        level[i] = False
        for side in (left - left[i], left[i] - left):  # to the right, to the left
            distance = np.where(level & (side >= 0), side + below, np.inf)
            if np.isfinite(distance).any():
                row[row == row[distance.argmin()]] = row[i]
    middle = (top + bottom) / 2
    rows = [np.flatnonzero(row == r) for r in np.unique(row)]
    rows.sort(key=lambda members: middle[members].mean())
    return [sorted(map(int, members), key=lambda i: left[i] + right[i]) for members in rows]
