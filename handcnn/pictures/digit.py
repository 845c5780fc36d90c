"""Find the strokes of the digit; drop frames, specks, and neighbours cut off by the border."""

from itertools import combinations

import numpy as np
from scipy import ndimage

from handcnn.pictures.operations import EIGHT_NEIGHBOURS, Box, bounding_box, odd, shrunk, size
from handcnn.pictures.paper import has_four_corners
from handcnn.types import Array, Shape


def digit_among(strokes: Array) -> Array:
    """Return the part of a mask (H, W) that is the digit."""
    labels, _ = ndimage.label(strokes, EIGHT_NEIGHBOURS)
    boxes = ndimage.find_objects(labels)
    sides = np.array([size(box) for box in boxes])  # (parts, 2)
    starts = np.array([[s.start for s in box] for box in boxes])
    dropped = _run_out(starts, sides, strokes.shape) | _frames(labels, boxes)
    if dropped.all():
        dropped[:] = False
    inside = strokes & ~np.append(False, dropped)[labels]
    return _without_specks(inside, 0.1 * sides[~dropped].max())


def is_empty_frame(digit: Array) -> bool:
    """Return whether a mask (H, W) is only a frame around nearly the whole picture."""
    around = all(
        n > 0.8 * whole for n, whole in zip(size(bounding_box(digit)), digit.shape, strict=True)
    )
    if not around:
        return False
    filled = ndimage.binary_fill_holes(ndimage.binary_dilation(shrunk(digit, 128) > 0))
    return bool(digit.sum() < 0.5 * filled.mean() * digit.size and has_four_corners(filled))


def seem_several(digit: Array) -> bool:
    """Return whether a mask (H, W) looks like several digits, side by side or one above the other.

    Digits have similar heights and are further apart than the parts of a broken stroke. The bar of
    a 5 is flat, and the loops of a broken 8 make one digit that is hardly taller than wide.
    """
    height, _ = size(bounding_box(digit))
    groups = ndimage.find_objects(_groups(digit, 0.1 * height))
    tall = [box for box in groups if size(box)[0] >= 0.6 * height]
    stacked = [box for box in groups if _is_tall_and_wide(box, height)]
    return any(_side_by_side(one, other) for one, other in combinations(tall, 2)) or any(
        _one_above_the_other(one, other) for one, other in combinations(stacked, 2)
    )


def _is_tall_and_wide(box: Box, whole: float) -> bool:
    """Return whether a part is tall enough for a digit in a column, and no piece of a line."""
    height, width = size(box)
    return height >= 0.25 * whole and 0.45 * height <= width <= 0.6 * whole


def _side_by_side(one: Box, other: Box) -> bool:
    """Return whether two boxes share most of their rows and hardly any columns."""
    rows, columns = (
        (min(a.stop, b.stop) - max(a.start, b.start)) / min(a.stop - a.start, b.stop - b.start)
        for a, b in zip(one, other, strict=True)
    )
    return bool(rows >= 0.5 and columns <= 0.2)


def _one_above_the_other(one: Box, other: Box) -> bool:
    """Return whether two boxes share most of their columns and no rows."""
    rows, columns = (
        min(a.stop, b.stop) - max(a.start, b.start) for a, b in zip(one, other, strict=True)
    )
    return bool(rows < 0 and columns >= 0.5 * min(size(one)[1], size(other)[1]))


def _run_out(starts: Array, sides: Array, shape: Shape) -> Array:
    """Return which parts are cut off by the border, if a part of similar size is not."""
    touches: Array = ((starts == 0) | (starts + sides == shape)).any(1)
    inside = sides[~touches].max(initial=0)
    if inside <= 0.2 * max(shape):
        return np.zeros_like(touches)
    runs_out: Array = touches & (sides.max(1) < 2.5 * inside)
    return runs_out


def _frames(labels: Array, boxes: list[Box]) -> Array:
    """Return which parts surround the picture, or are a rectangle around another large part."""
    sides = np.array([size(box) for box in boxes])
    large = sides.max(1) > 0.2 * sides.max()
    frames: Array = np.all(sides > 0.8 * np.array(labels.shape), axis=1) & (large.sum() > 1)
    for i in np.flatnonzero(large & ~frames):
        others = (boxes[j] for j in np.flatnonzero(large) if j != i)
        if any(_inside(other, boxes[i]) for other in others):
            part = shrunk(labels[boxes[i]] == i + 1, 128) > 0
            frames[i] = has_four_corners(ndimage.binary_fill_holes(part))
    return frames


def _inside(one: Box, other: Box) -> bool:
    """Return whether one box lies inside the other, away from its edges."""
    return all(a.start > b.start and a.stop < b.stop for a, b in zip(one, other, strict=True))


def _without_specks(strokes: Array, distance: float) -> Array:
    """Return the strokes without groups that are far smaller than the largest."""
    groups = _groups(strokes, distance)
    area = np.bincount(groups[strokes])
    kept: Array = strokes & (area >= 0.08 * area.max())[groups]
    return kept


def _groups(strokes: Array, distance: float) -> Array:
    """Return the number of its group (from 1) for each stroke pixel of a mask (H, W), else 0.

    Parts closer than `distance` form one group, like the parts of a broken stroke.
    """
    near = ndimage.maximum_filter(strokes, odd(distance))
    groups: Array = ndimage.label(near, EIGHT_NEIGHBOURS)[0] * strokes
    return groups
