"""The pieces of a row, and the candidates: every union of neighbours that may be one digit."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from handcnn.pictures.drawing import (
    BOX,
    PEN_WIDTH,
    draw_digit,
    fit_and_centre,
    fit_in_field,
    is_like_mnist,
)
from handcnn.pictures.numbers.cuts import pieces_of
from handcnn.pictures.numbers.marks import Marks, union
from handcnn.pictures.operations import EIGHT_NEIGHBOURS, resized, scaled
from handcnn.types import Array

MAX_PIECES = 10  # of one digit
CUTS = 8.0  # of a mark as wide as high
MAX_DIGIT_WIDTH = 1.6  # width of a digit, in heights
LOWEST = 0.4  # height of a digit, in heights of its row
GAP = 0.15  # the largest gap between two pieces of one digit, in heights of the row
CRUMB = 0.04  # of the ink of a candidate: smaller parts are left over from a cut
MARGIN = 4  # pixels around a row

Candidate = tuple[int, int]  # the first piece, and the one after the last
Corners = tuple[int, int, int, int]  # top, left, bottom, right


class Row(NamedTuple):
    """A row of digits in pieces, which are numbered from 0, from left to right.

    Attributes:
        ink: (h, w), about 1 in the middle of a stroke.
        bright: (h, w) the picture as MNIST draws it, or None if it is no such drawing.
        pieces: (h, w) int: the number of its piece for each pixel, -1 elsewhere.
        boxes: (n, 4) int: top, left, bottom and right of each piece.
        marks: (n,) int: the mark that each piece is cut from.
        height: of the row's digits, in pixels.
        pen: the width of the strokes, in pixels.
        corner: (top, left) of the row in the picture.
    """

    ink: Array
    bright: Array | None
    pieces: Array
    boxes: Array
    marks: Array
    height: float
    pen: float
    corner: tuple[int, int]

    def box(self, candidate: Candidate) -> Corners:
        """Return top, left, bottom and right of a candidate in this row."""
        return union(self.boxes[slice(*candidate)])

    def box_in_picture(self, candidate: Candidate) -> Corners:
        """Return left, top, right and bottom of a candidate in the picture."""
        top, left, bottom, right = self.box(candidate)
        y, x = self.corner
        return left + x, top + y, right + x, bottom + y

    def height_of(self, candidate: Candidate) -> int:
        """Return the height of a candidate, in pixels."""
        top, _, bottom, _ = self.box(candidate)
        return bottom - top

    def is_whole(self, candidate: Candidate) -> bool:
        """Return whether a candidate consists of whole marks, none of which is cut."""
        first, end = candidate
        cut_before = first > 0 and self.marks[first - 1] == self.marks[first]
        cut_behind = end < len(self.marks) and self.marks[end - 1] == self.marks[end]
        return not (cut_before or cut_behind)


def cut_row(
    ink: Array,
    bright: Array | None,
    marks: Marks,
    members: Sequence[int],
    cut: Array,
    height: float,
) -> Row:
    """Return a row in pieces.

    Args:
        ink: (H, W) of the picture, about 1 in the middle of a stroke.
        bright: (H, W) the picture as MNIST draws it, or None.
        marks: of the picture.
        members: the indices of the marks in this row.
        cut: (n,) bool: which marks may be several digits.
        height: of the row's digits, in pixels.
    """
    top, left, bottom, right = union(marks.boxes[list(members)])
    top, left = max(0, top - MARGIN), max(0, left - MARGIN)
    window = slice(top, bottom + MARGIN), slice(left, right + MARGIN)
    ink, labels = ink[window], marks.labels[window]
    bright = None if bright is None else bright[window]
    found: list[tuple[float, int, tuple[Array, Array]]] = []  # middle, mark, pixels
    widths = []
    for i in members:
        y, x = marks.boxes[i, :2] - (top, left)
        box = slice(y, y + marks.heights[i]), slice(x, x + marks.widths[i])
        mask = labels[box] == i + 1
        own = np.where(mask, ink[box], 0)
        widths.append(pen_width(own))
        most = int(1 + CUTS * mask.shape[1] / min(mask.shape[0], height)) if cut[i] else 0
        parts = np.where(mask, pieces_of(own, widths[-1], most), -1)
        middle = 0.0
        for part in range(parts.max() + 1):
            rows, columns = np.nonzero(parts == part)
            if len(rows):  # in the order of the cuts
                middle = max(middle, x + (columns.min() + columns.max()) / 2)
                found.append((middle, i, (rows + y, columns + x)))
    found.sort(key=lambda piece: piece[:2])
    pieces = np.full(ink.shape, -1)
    for number, (_, _, pixels) in enumerate(found):
        pieces[pixels] = number
    boxes = [(y.min(), x.min(), y.max() + 1, x.max() + 1) for _, _, (y, x) in found]
    owners = np.array([mark for _, mark, _ in found])
    pen = float(np.median(widths))
    return Row(ink, bright, pieces, np.array(boxes), owners, height, pen, (top, left))


def pen_width(ink: Array) -> float:
    """Return the width of the strokes in ink (h, w), in pixels, at least 1.

    The mean distance of a stroke's pixels from its edge is a quarter of its width, and half a pixel
    more, because distances are measured from the middle of a pixel.
    """
    core = np.pad(ink > 0.5, 1)
    if not core.any():
        return 1.0
    return max(1.0, float(4 * ndimage.distance_transform_edt(core)[core].mean() - 2))


def candidates(row: Row) -> list[Candidate]:
    """Return every union of neighbouring pieces that may be one digit, by its size."""
    found = []
    count = len(row.boxes)
    for first in range(count):
        for end in range(first + 1, min(first + MAX_PIECES, count) + 1):
            top, left, bottom, right = row.box((first, end))
            before = row.boxes[first : end - 1, 3].max(initial=-1)
            apart = end > first + 1 and row.boxes[end - 1, 1] - before > GAP * row.height
            if apart or right - left > MAX_DIGIT_WIDTH * max(row.height, bottom - top):
                break
            if bottom - top >= LOWEST * row.height:
                found.append((first, end))
    return found


def draw(row: Row, candidate: Candidate) -> Array:
    """Return a candidate in the form of MNIST: uint8 (28, 28).

    In a picture made of MNIST's own digits, a digit that was found whole is that digit, bit for
    bit.
    """
    mask = _mask(row, candidate)
    others = (row.pieces >= 0) & ~mask
    if row.bright is not None:
        near = ndimage.binary_dilation(mask, EIGHT_NEIGHBOURS) & ~others
        field = fit_in_field(row.bright * near)
        if field is not None and is_like_mnist(field):
            return field.astype(np.uint8)
    top, left, bottom, right = row.box(candidate)
    margin = max(MARGIN, max(bottom - top, right - left) // 20)
    rows = slice(max(0, top - margin), bottom + margin)
    columns = slice(max(0, left - margin), right + margin)
    return draw_digit(np.where(others, 0, row.ink)[rows, columns], mask[rows, columns])


def sketch(row: Row, candidate: Candidate) -> Array:
    """Return a candidate roughly in the form of MNIST, for the judge: uint8 (28, 28).

    This is `draw` on a coarser grid, with the width of the pen known: four times as fast.
    """
    top, left, bottom, right = row.box(candidate)
    box = slice(top, bottom), slice(left, right)
    near = row.pieces[box]
    mask = _without_crumbs((near >= candidate[0]) & (near < candidate[1]))
    factor = 2 * BOX / max(mask.shape)
    digit = np.pad(resized(row.ink[box] * mask, scaled(mask.shape, factor)), BOX // 5)
    thinner = (2 * PEN_WIDTH) ** 2 - (row.pen * factor) ** 2
    # 2.355: a Gaussian's full width at half its height, in standard deviations.
    digit = ndimage.gaussian_filter(digit, np.sqrt(max(thinner, 1)) / 2.355, truncate=2)
    middle = np.median(digit[digit > 0.5 * digit.max()])
    return fit_and_centre(np.clip((1.3 * digit / middle - 0.1) / 0.9, 0, 1))


def _mask(row: Row, candidate: Candidate) -> Array:
    """Return the pixels of a candidate (h, w) in its row."""
    return _without_crumbs((row.pieces >= candidate[0]) & (row.pieces < candidate[1]))


def _without_crumbs(mask: Array) -> Array:
    """Return a mask without parts that are tiny beside all of it."""
    labels, count = ndimage.label(mask, EIGHT_NEIGHBOURS)
    if count < 2:
        return mask
    large = np.bincount(labels.ravel()) >= CRUMB * mask.sum()
    kept: Array = mask & large[labels]
    return kept if kept.any() else mask
