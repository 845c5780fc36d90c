"""Find the pen: how wide its strokes are, and whether they are dark or light.

A stroke has two edges that face each other. A shadow, a desk or a vignette has one edge, or a soft
one. So from every sharp edge we walk across the dark side (or the light side) until an opposite
edge comes. The distance is the width of the stroke (Epshtein, Ofek and Wexler, "Detecting text in
natural scenes with stroke width transform", 2010).
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from handcnn.pictures.operations import resized, scaled, shrunk
from handcnn.types import Array, Shape

SIDE = 320  # pixels of the picture in which edges are sought: thin lines are 2 to 3 of them wide
MAX_EDGES = 4000  # enough for a median
MAX_WIDTH = 0.45  # share of the picture: no stroke is wider


class Pen(NamedTuple):
    """The pen that wrote the strokes of a picture."""

    is_light: bool  # light ink on dark
    middles: Array  # (n, 2): points in the middle of strokes, as shares of height and width
    widths: Array  # (n,): of the strokes there, as shares of the longer side of the picture

    weights: Array  # (n,): how steep the edges are

    def width(self, share: float = 0.5) -> float:
        """Return the width that this share of the sharpest strokes does not exceed."""
        sharp = self.weights >= 0.5 * np.percentile(self.weights, 90)
        return float(np.percentile(self.widths[sharp], 100 * share))

    def middles_in(self, shape: Shape) -> tuple[Array, ...]:
        """Return the rows and columns of the middles in a picture of this shape."""
        points = np.minimum(self.middles * shape, np.subtract(shape, 1)).astype(int)
        return tuple(points.T)


def find_pen(picture: Array, paper: float | None, middle: float) -> Pen | None:
    """Return the pen that wrote in a picture (H, W), or None if nothing has two edges.

    Args:
        picture: grey values from 0 to 255.
        paper: the grey of the paper around the digit, or None if that is unknown.
        middle: a grey between ink and paper.
    """
    factor = SIDE / max(picture.shape)
    if factor > 2:
        light = resized(picture, scaled(picture.shape, min(factor, 8)))
    else:
        light = shrunk(picture, SIDE)
    # A stroke may touch the border. If the paper is known, it continues outside.
    light = np.pad(light, 4, **({"mode": "edge"} if paper is None else {"constant_values": paper}))
    light = np.log(np.maximum(light, 0) + 32)  # a shadow adds the same to ink and paper
    gradient = np.stack([ndimage.gaussian_filter(light, 1, order) for order in ((1, 0), (0, 1))])
    steepness = np.hypot(*gradient)
    edges = _edges(gradient, steepness)
    both = {
        light_ink: _pairs(-gradient if light_ink else gradient, steepness, edges)
        for light_ink in ((False, True) if paper is None else (paper < middle,))
    }
    # The space between strokes also has two edges, but it is wider than the strokes.
    votes = {key: (weights / widths).sum() for key, (widths, weights, _) in both.items()}
    is_light = max(votes, key=lambda key: votes[key])
    widths, weights, middles = both[is_light]
    if not len(widths):
        return None
    shape = np.subtract(light.shape, 8)
    return Pen(is_light, np.clip((middles - 3.5) / shape, 0, 1), widths / max(shape), weights)


def _edges(gradient: Array, steepness: Array) -> Array:
    """Return the pixels (n, 2) on the crests of the gradient (2, H, W), above the noise."""
    y, x = np.rint(gradient / np.maximum(steepness, 1e-9)).astype(int)  # towards a neighbour
    rows, columns = np.indices(steepness.shape)
    padded = np.pad(steepness, 1)
    ahead, behind = (padded[rows + 1 + s * y, columns + 1 + s * x] for s in (1, -1))
    crest = (steepness >= ahead) & (steepness > behind)
    noise = np.percentile(steepness, 30)  # of paper, also around a thick digit
    inner = steepness[8:-8, 8:-8]  # strokes cut off by the border seem very steep
    steepest = np.percentile(inner if inner.size else steepness, 99.8)
    # In a blurred picture, much more than the edges is steep.
    sharp = steepness > max(min(5 * noise, 0.5 * steepest), 0.1 * steepest, 0.004)
    edges = np.argwhere(crest & sharp)
    return edges[:: 1 + len(edges) // MAX_EDGES]


def _pairs(gradient: Array, steepness: Array, edges: Array) -> tuple[Array, Array, Array]:
    """Return widths (n,), weights (n,) and middles (n, 2) of the strokes behind the edges.

    The walk goes against the gradient, into the stroke. It ends at a slope that rises at least half
    as steeply as the edge fell. It fails at another fall, which is another stroke, or a shadow.
    """
    shape = np.array(steepness.shape)
    at = steepness[tuple(edges.T)]
    direction = (gradient[(slice(None), *edges.T)] / at).T  # (n, 2)
    inside = np.zeros(len(edges), bool)
    alive, width = np.ones(len(edges), bool), np.zeros(len(edges))
    for step in range(1, int(MAX_WIDTH * max(shape))):
        points = np.rint(edges - step * direction).astype(int)
        alive &= ((points >= 0) & (points < shape)).all(1)
        if not alive.any():
            break
        y, x = np.where(alive[:, None], points, 0).T
        slope = (gradient[:, y, x] * direction.T).sum(0)
        inside |= slope < 0.3 * at
        found = alive & (slope < -0.5 * at) & (width == 0)
        width[found] = step
        alive &= ~found & ~(inside & (slope > 0.7 * at))
    paired = width > 0
    widths, weights = width[paired], at[paired]
    return widths, weights, edges[paired] - 0.5 * widths[:, None] * direction[paired]
