"""Say when what was found does not look like the strokes of one digit.

A shadow, a blot or a filled shape is much thicker than a pen, and dirt consists of many parts. The
limits lie beyond all of MNIST's 70,000 images.
"""

import numpy as np
from scipy import ndimage

from handcnn.pictures.operations import EIGHT_NEIGHBOURS
from handcnn.types import Array

BLOT = "this looks like a blot or a shadow, not like strokes"
DIRT = "this looks like dirt or a texture, not like strokes"
THICKEST = 14  # pixels of 28: the diameter of the largest disk in the ink
THICK, COMPACT = 8, 1.2  # a disk has 0.8 times the square of its diameter, a square 1
MAX_PARTS = 5
PENS = 4  # a filled loop is up to three pens wide


def doubt_about(image: Array, pen_width: float = np.inf) -> str:
    """Return why a prepared image looks like no digit, or "" if it looks like one.

    Args:
        image: uint8 (28, 28), bright on 0.
        pen_width: of the strokes in the picture, in pixels of the image, if it is known.
    """
    ink = np.pad(image > 127, 1)
    thickness = 2 * ndimage.distance_transform_edt(ink).max()
    compact = thickness > THICK and ink.sum() < COMPACT * thickness**2
    if thickness > THICKEST or compact or (thickness > THICK and thickness > PENS * pen_width):
        return BLOT
    parts = ndimage.label(image > 64, EIGHT_NEIGHBOURS)[1]
    return DIRT if parts > MAX_PARTS else ""
