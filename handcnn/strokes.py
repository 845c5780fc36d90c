"""Strokes that many people add to a 1 or a 7, but few of MNIST's writers did.

A 1 gets a flag, down to the left from its top, and sometimes a base across its foot. A 7 gets a bar
across its stem. The pen is that of the digit: as wide as its stem and as bright.

Lengths are shares of the stem's height. A place in an image is the complex number column + 1j row,
so the difference of two places is an arrow from one to the other.
"""

import cmath
import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from handcnn.types import Array, Shape

FLAGS, BASES, BARS = 0.45, 0.35, 0.25  # shares: of the 1s, of the 1s with a flag, of the 7s
FLAG = (0.2, 0.55)  # its length
ANGLE = (25, 60)  # degrees from the stem to the flag; beyond 60 from the vertical begin the 7s
ACROSS = (0.12, 0.33)  # how far a base or a bar reaches to each side
TILT = 0.2  # radians, the most by which a base or a bar rises or falls
CROSSING = 0.55  # where a bar crosses the stem: 0 is its top, 1 its foot
SLOPE = 0.5  # columns for each row; few people add strokes to a more slanting stem


class Stem(NamedTuple):
    """All of a 1, or the long stroke of a 7.

    Attributes:
        top, crossing, foot: places in the middle of the stem.
        slope: columns to the right for each row down.
        pen: the width of the stem in pixels.
    """

    top: complex
    crossing: complex
    foot: complex
    slope: float
    pen: float


def add_strokes(x: Array, y: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return images with strokes added to some 1s and 7s, and how far each centre of mass moved.

    An image stays as it is if its stem is not clear: very thick or slanting, or with anything
    beside it. The same holds if ink reaches the left, right or upper border, as clothes that fill
    the image do, but no digit drawn as in MNIST.

    Args:
        x: images (N, C, H, W), bright on 0. They are not written into.
        y: one-hot labels of the ten digits (N, 10).
        rng: gives five numbers for each image, whatever it shows.

    Returns:
        images (N, C, H, W), and complex numbers of pixels (N,).
    """
    uniform, is_one = rng.random((5, len(x))), y[:, 1] != 0
    chosen = np.flatnonzero(uniform[0] < FLAGS * is_one + BARS * (y[:, 7] != 0))
    stems = find_stems(x[chosen].max(axis=1))
    lines = [
        (i, stem.pen, start, end)
        for i, stem in zip(chosen.tolist(), stems, strict=True)
        if stem
        for start, end in _strokes(stem, is_one[i], uniform[1:, i].tolist())
    ]
    out, moved = x.copy(), np.zeros(len(x), complex)
    if lines:
        which, pens, starts, ends = (np.array(values) for values in zip(*lines, strict=True))
        ink = _lines(starts, ends, pens, x.shape[2:])[:, None]
        for i, stroke in zip(which, ink * x[which].max(axis=(2, 3), keepdims=True), strict=True):
            np.maximum(out[i], stroke, out=out[i])
        moved[which] = _centres(out[which]) - _centres(x[which])
    return out, moved


def find_stems(digits: Array) -> list[Stem | None]:
    """Return the stems of images (N, H, W) of 1s and 7s, bright on 0, where they are clear."""
    ink, brightest = digits.sum(axis=2), digits.max(axis=2)
    columns = np.arange(digits.shape[2], dtype=digits.dtype)
    middles = digits @ columns / np.maximum(ink, 1e-9)  # (N, H): the mean column of each row
    at_border = digits[:, :, [0, -1]].any(axis=(1, 2)) | (brightest[:, 0] != 0)
    rows = zip(ink.tolist(), brightest.tolist(), middles.tolist(), strict=True)
    return [
        None if beyond else _stem(*lists) for beyond, lists in zip(at_border, rows, strict=True)
    ]


def _stem(ink: list[float], brightest: list[float], middles: list[float]) -> Stem | None:
    """Return the stem of a digit from the ink, brightest pixel and mean column of each row."""
    grey = max(brightest)
    strong = [row for row, pixel in enumerate(brightest) if pixel > grey / 2]
    if len(strong) < 2:
        return None
    top, foot = strong[0], strong[-1]
    # Four rows with nothing but the stem: neither the top of a 7 nor the base of a 1.
    rows = [round(top + share * (foot - top)) for share in (0.45, CROSSING, 0.7, 0.85)]
    widths = [ink[row] for row in rows]
    slope = (middles[rows[3]] - middles[rows[1]]) / max(rows[3] - rows[1], 1)
    pen = sum(widths) / 4 / grey / math.hypot(1, slope)
    if max(widths) >= 2 * min(widths) or pen >= (foot - top) / 3 or abs(slope) >= SLOPE:
        return None
    inset = max(pen, 1) / 2 - 0.5  # so that round ends stay within the stem
    start, crossing, end = (
        middles[round(row)] + 1j * row for row in (top + inset, rows[1], foot - inset)
    )
    return Stem(start, crossing, end, slope, pen)


def _strokes(
    stem: Stem, is_one: bool, uniform: Sequence[float]
) -> Iterator[tuple[complex, complex]]:
    """Yield the ends of the strokes to add to a digit, shaped by four numbers from 0 to 1."""
    height = (stem.foot - stem.top).imag
    if is_one:
        angle = math.radians(_within(ANGLE, uniform[0])) - math.atan(stem.slope)
        down_left = 1j * cmath.exp(1j * min(angle, math.radians(ANGLE[1])))
        yield stem.top, stem.top + height * _within(FLAG, uniform[1]) * down_left
    if not is_one or uniform[3] < BASES:
        middle = stem.foot if is_one else stem.crossing
        left, right = (height * _within(ACROSS, number) for number in uniform[:2])
        level = cmath.exp(1j * _within((-TILT, TILT), uniform[2]))
        yield middle - left * level, middle + right * level


def _within(limits: tuple[float, float], share: float) -> float:
    """Return a random number between two limits, from one between 0 and 1."""
    low, high = limits
    return low + (high - low) * share


def _lines(starts: Array, ends: Array, pens: Array, shape: Shape) -> Array:
    """Return straight lines with round ends (N, H, W): 1 inside, fading to 0 over one pixel."""
    starts, arrows, pens = (a[:, None, None] for a in (starts, ends - starts, pens))
    from_start = _places(*shape) - starts
    nearest = np.clip((from_start * (1 / arrows)).real, 0, 1)  # as a share of the way to the end
    return np.clip(pens / 2 + 0.5 - np.abs(from_start - nearest * arrows), 0, 1)


def _centres(images: Array) -> Array:
    """Return the centres of mass of images (N, C, H, W), as places (N,)."""
    mass = images.sum(axis=1)
    centres: Array = (mass * _places(*mass.shape[1:])).sum(axis=(1, 2)) / mass.sum(axis=(1, 2))
    return centres


@cache
def _places(h: int, w: int) -> Array:
    """Return the places of all pixels (H, W)."""
    return np.arange(w) + 1j * np.arange(h)[:, None]
