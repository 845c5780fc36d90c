"""Prepare a grey picture of a digit like the images of MNIST, in seven steps.

Find the sheet of paper (paper.py), then the pen (pen.py) and its ink (ink.py); remove printed lines
(lines.py); find the strokes in the ink (ink.py) and the digit among the strokes (digit.py); then
draw that digit like MNIST (drawing.py). At last, doubt.py says if the result looks like no digit.

Constants in these files are shares of the picture or of the digit. They are round values that
worked on MNIST test digits redrawn with forty kinds of damage and on pictures of other people's
digits. The result does not depend closely on any of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from handcnn.errors import HandcnnError
from handcnn.pictures.digit import digit_among, is_empty_frame, seem_several
from handcnn.pictures.doubt import doubt_about
from handcnn.pictures.drawing import BOX, draw_digit, is_like_mnist
from handcnn.pictures.ink import BLANK, ink_in, strokes_in, thresholds
from handcnn.pictures.lines import without_lines
from handcnn.pictures.operations import Box, bounding_box, size
from handcnn.pictures.paper import without_desk
from handcnn.types import Array


class Strokes(NamedTuple):
    """All strokes in a picture (H, W), before one digit is chosen from them."""

    ink: Array  # (H, W) float32: how much a pixel differs from paper; 0 is paper, 0 off the sheet
    mask: Array  # (H, W) bool: the pixels of strokes; parts are connected by eight neighbours
    sheet: Box  # rows and columns of the sheet of paper, usually the whole picture
    pen_width: float  # of the wide strokes, in pixels


class Prepared(NamedTuple):
    """The digit found in a picture."""

    image: Array  # the digit in the form of MNIST: uint8 (28, 28), bright on 0
    several: bool  # whether it looks like several digits, drawn as one
    doubt: str = ""  # why it looks like no digit at all, or ""


def prepare_picture(grey: npt.ArrayLike) -> Array:
    """Return the digit in a grey picture in the form of MNIST: uint8 (28, 28), bright on 0.

    Args:
        grey: (H, W), dark ink on light or light on dark. Values from 0 to 255 are used directly,
            values from 0 to 1 are multiplied by 255, all others are scaled to 0..255. An MNIST
            image, or its negative, is returned as the same MNIST image, bit for bit.

    Raises:
        HandcnnError: the picture is blank, or a value is NaN or infinite.
    """
    return examine_picture(grey).image


def examine_picture(grey: npt.ArrayLike) -> Prepared:
    """Return the result of `prepare_picture`, and what is odd about it."""
    picture = grey_values(grey)
    for candidate in (picture, 255 - picture):
        if is_like_mnist(candidate):
            image = candidate.astype(np.uint8)
            return Prepared(image, seem_several(image > 64), doubt_about(image))
    return digit_in(_strokes_on(picture))


def digit_in(strokes: Strokes) -> Prepared:
    """Return the one digit among the strokes of a picture.

    Raises:
        HandcnnError: the strokes are an empty frame.
    """
    digit = digit_among(strokes.mask[strokes.sheet])
    if is_empty_frame(digit):
        raise HandcnnError(BLANK)
    image = draw_digit(strokes.ink[strokes.sheet], digit)
    pen_width = strokes.pen_width * BOX / max(size(bounding_box(digit)))
    return Prepared(image, seem_several(digit), doubt_about(image, pen_width))


def find_strokes(grey: npt.ArrayLike) -> Strokes:
    """Return all strokes in a grey picture (H, W), without shadows, lines, frames and desk.

    Any image is accepted, also one that is like MNIST's.

    Raises:
        HandcnnError: as `prepare_picture`.
    """
    return _strokes_on(grey_values(grey))


def _strokes_on(picture: Array) -> Strokes:
    """Return all strokes in a picture with values in [0, 255]."""
    sheet, paper = without_desk(picture)
    ink, mask = np.zeros(picture.shape, np.float32), np.zeros(picture.shape, bool)
    raw, pen = ink_in(paper)
    ink[sheet] = without_lines(raw, *thresholds(raw, pen))
    mask[sheet] = strokes_in(ink[sheet], pen)
    return Strokes(ink, mask, sheet, pen.width(0.9) * max(paper.shape) if pen else 0)


def grey_values(grey: npt.ArrayLike) -> Array:
    """Return a grey picture (H, W) with any finite values scaled to [0, 255], float32."""
    picture = np.asarray(grey, np.float64)
    if picture.ndim != 2 or picture.size == 0:
        raise ValueError(f"prepare_picture expects a grey picture (H, W), got {picture.shape}")
    if not np.isfinite(picture).all():
        raise HandcnnError("the picture has values that are NaN or infinite; give it finite ones")
    lowest, highest = picture.min(), picture.max()
    if lowest < 0 or highest > 255:
        picture = picture / max(-lowest, highest)  # so that no difference overflows
        picture = (picture - picture.min()) / max(np.ptp(picture), 1e-30) * 255
    elif highest <= 1:
        picture = np.round(picture * 255, 4)  # restores an image that was divided by 255
    return picture.astype(np.float32)


def to_batch(images: Sequence[Array]) -> Array:
    """Return prepared pictures as one network input (N, 1, 28, 28), scaled as in training."""
    return np.stack(images)[:, None].astype(np.float32) / np.float32(255)
