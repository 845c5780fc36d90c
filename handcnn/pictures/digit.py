"""Which strokes are the digit: no frame, no neighbour that runs out of the picture, no speck."""

from itertools import combinations

import numpy as np
from scipy import ndimage

from handcnn.pictures.operations import EIGHT_NEIGHBOURS, Box, odd, size
from handcnn.types import Array, Shape


def digit_among(strokes: Array) -> Array:
    """Return the part of a mask (H, W) that is the digit."""
    labels, _ = ndimage.label(strokes, EIGHT_NEIGHBOURS)
    boxes = ndimage.find_objects(labels)
    sides = np.array([size(box) for box in boxes])  # (parts, 2)
    starts = np.array([[s.start for s in box] for box in boxes])
    dropped = _run_out(starts, sides, strokes.shape) | _frames(sides, strokes.shape)
    if dropped.all():
        dropped[:] = False
    inside = strokes & ~np.append(False, dropped)[labels]
    return _without_specks(inside, 0.1 * sides[~dropped].max())


def seem_several(digit: Array) -> bool:
    """Whether a mask (H, W), taken for one digit, looks like several side by side.

    Those are of like height and further apart than the parts of a broken stroke. The bar of a 5 is
    flat, and the loops of an 8 stand one above the other.
    """
    parts = ndimage.find_objects(ndimage.label(digit, EIGHT_NEIGHBOURS)[0])
    distance = 0.1 * max(max(size(box)) for box in parts)
    groups = ndimage.find_objects(_groups(digit, distance))
    tallest = max(size(box)[0] for box in groups)
    tall = [box for box in groups if size(box)[0] >= 0.6 * tallest]
    return any(_side_by_side(one, other) for one, other in combinations(tall, 2))


def _side_by_side(one: Box, other: Box) -> bool:
    """Whether two boxes share about the same rows and hardly any column."""
    rows, columns = (
        (min(a.stop, b.stop) - max(a.start, b.start)) / min(a.stop - a.start, b.stop - b.start)
        for a, b in zip(one, other, strict=True)
    )
    return bool(rows >= 0.5 and columns <= 0.2)


def _run_out(starts: Array, sides: Array, shape: Shape) -> Array:
    """Return which parts run out of the picture, if one of like size stays inside."""
    touches: Array = ((starts == 0) | (starts + sides == shape)).any(1)
    inside = sides[~touches].max(initial=0)
    if inside <= 0.2 * max(shape):
        return np.zeros_like(touches)
    runs_out: Array = touches & (sides.max(1) < 2.5 * inside)
    return runs_out


def _frames(sides: Array, shape: Shape) -> Array:
    """Return which parts go around nearly all of the picture, if there is something else."""
    large = sides.max(1) > 0.2 * sides.max()
    if large.sum() == 1:
        return np.zeros_like(large)
    around: Array = np.all(sides > 0.8 * np.array(shape), axis=1)
    return around


def _without_specks(strokes: Array, distance: float) -> Array:
    """Return what belongs to groups that are not far smaller than the largest."""
    groups = _groups(strokes, distance)
    area = np.bincount(groups[strokes])
    kept: Array = strokes & (area >= 0.08 * area.max())[groups]
    return kept


def _groups(strokes: Array, distance: float) -> Array:
    """Return the strokes of a mask (H, W) numbered by their group from 1 on, and 0 elsewhere.

    Parts closer than a distance are one group, as the parts of a broken stroke are.
    """
    near = ndimage.maximum_filter(strokes, odd(distance))
    groups: Array = ndimage.label(near, EIGHT_NEIGHBOURS)[0] * strokes
    return groups
