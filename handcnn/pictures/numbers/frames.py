"""Take away printed boxes around digits, as forms have them, also where a digit crosses a line.

A cell is a hole in the strokes that is a rectangle, perhaps a little slanted. A picture has boxes
if there is ink in a cell: the hole of a 0 is no rectangle, and an empty rectangle may be anything.
The lines of a box are what lies just around a cell. Where strokes lie on both sides of a line, the
pen has crossed it, and the ink between them stays.
"""

import numpy as np
from scipy import ndimage

from handcnn.pictures.operations import EIGHT_NEIGHBOURS, size
from handcnn.types import Array

MIN_CELL_SIDE = 0.02  # side of a cell, as a share of the picture
GAP = 0.003  # of the picture: lines with such gaps still enclose a cell
NEAR, ALONG = 0.1, 0.7  # a cell is so near to its upper edge, along so much of it, and so on
INK = 0.3  # height of what is written in a cell, in heights of the cell
MAX_LINE_WIDTH = 0.15  # line around a cell, in shorter sides of the cell


def without_frames(strokes: Array) -> tuple[Array, Array]:
    """Return a mask of strokes (H, W) without printed boxes, and a mask of the ink taken away."""
    gap = max(1, round(GAP * max(strokes.shape)))
    none = np.zeros_like(strokes)
    closed = ndimage.binary_dilation(strokes, EIGHT_NEIGHBOURS, gap)
    holes, _ = ndimage.label(ndimage.binary_fill_holes(closed) & ~closed)
    cells, lines, widest, written = none.copy(), none.copy(), 0, False
    for number, (rows, columns) in enumerate(ndimage.find_objects(holes), 1):
        side = min(size((rows, columns)))
        if side < MIN_CELL_SIDE * max(strokes.shape):
            continue
        around = gap + round(MAX_LINE_WIDTH * side) + 2
        top, left = max(0, rows.start - around), max(0, columns.start - around)
        window = slice(top, rows.stop + around), slice(left, columns.stop + around)
        cell = _filled(holes[window] == number)
        if not _is_rectangle(cell):
            continue
        cell = ndimage.binary_dilation(cell, EIGHT_NEIGHBOURS, gap)
        width = min(_line_width(strokes[window], cell), around - 2)
        cells[window] |= cell
        lines[window] |= ndimage.binary_dilation(cell, EIGHT_NEIGHBOURS, width + 2)
        inked = np.flatnonzero((strokes[window] & cell).any(axis=1))
        height = np.ptp(np.nonzero(cell)[0])
        written = written or bool(len(inked) and np.ptp(inked) >= INK * height)
        widest = max(widest, width)
    if not written:
        return strokes, none
    printed = strokes & lines & ~cells
    reach = widest + 2
    pen = np.pad(strokes & ~printed, reach)
    crossed = ndimage.binary_closing(pen, EIGHT_NEIGHBOURS, reach)[reach:-reach, reach:-reach]
    return strokes & (crossed | ~printed), lines & ~cells & ~crossed


def _filled(hole: Array) -> Array:
    """Return a hole (h, w) with what lies between its pixels in a row or in a column."""
    return _between(hole) | _between(hole.T).T


def _between(hole: Array) -> Array:
    """Return the pixels (h, w) that have a pixel of the hole on their left and on their right."""
    from_left = np.logical_or.accumulate(hole, axis=1)
    from_right = np.logical_or.accumulate(hole[:, ::-1], axis=1)[:, ::-1]
    between: Array = from_left & from_right
    return between


def _is_rectangle(cell: Array) -> bool:
    """Return whether a cell (h, w) is about as large as its box, on each side of it."""
    for turns in range(4):
        turned = np.rot90(cell, turns)
        first = turned.argmax(axis=0)[turned.any(axis=0)]  # the upper edge, column by column
        height = np.ptp(np.flatnonzero(turned.any(axis=1))) + 1
        if np.mean(first - first.min() <= NEAR * height) < ALONG:
            return False
    return True


def _line_width(strokes: Array, cell: Array) -> int:
    """Return the width of the lines around a cell, in pixels: the widest of the four."""
    widths = []
    for turns in range(4):
        ink, turned = np.rot90(strokes, turns), np.rot90(cell, turns)
        columns = np.flatnonzero(turned.any(axis=0))
        above = np.arange(len(turned))[:, None] < turned.argmax(axis=0)
        # How far is it from the edge to the next paper above it?
        paper = np.where(above & ~ink, np.arange(len(turned))[:, None], -1).max(axis=0)
        widths.append(np.median((turned.argmax(axis=0) - 1 - paper)[columns]))
    return int(max(widths))
