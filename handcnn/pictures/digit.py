"""Which strokes are the digit: no frame, no neighbour that runs out of the picture, no speck."""

import numpy as np
from scipy import ndimage

from handcnn.pictures.operations import EIGHT_NEIGHBOURS, odd, size
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
    """Return what belongs to groups that are not far smaller than the largest.

    Parts closer than a distance are one group, as the parts of a broken stroke are.
    """
    near = ndimage.maximum_filter(strokes, odd(distance))
    groups, _ = ndimage.label(near, EIGHT_NEIGHBOURS)
    area = np.bincount(groups[strokes])
    kept: Array = strokes & (area >= 0.08 * area.max())[groups]
    return kept
