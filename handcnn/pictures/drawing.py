"""Draw a digit like MNIST: with a pen's width, 20 pixels high or wide, centred by mass in 28x28.

MNIST was made from scans: the ink cropped, its longer side fitted to 20 pixels and its centre of
mass moved to the middle of 28x28, bright on black (LeCun, Cortes and Burges, "The MNIST database
of handwritten digits"). A mouse, a thin pen or a scan of 8x8 pixels has lines of other widths.
"""

import numpy as np
from PIL import Image
from scipy import ndimage

from handcnn.pictures.operations import bounding_box, resized, scaled, size
from handcnn.types import Array

FIELD, BOX, CENTRE = 28, 20, 14  # side of the image, longer side of the ink, centre of mass
FINE_BOX = 5 * BOX  # strokes are widened on a five times finer grid
PEN_WIDTH = 2.4  # pixels in the 20x20 box: MNIST's median stroke


def draw_digit(ink: Array, digit: Array) -> Array:
    """Return the ink (H, W) under the mask `digit` (H, W) in the form of MNIST: uint8 (28, 28)."""
    return fit_and_centre(_drawn_with_pen(ink, digit))


def fit_and_centre(digit: Array) -> Array:
    """Return a digit of any size, in [0, 1] on 0, scaled and centred like MNIST: uint8 (28, 28)."""
    return _centred(_fitted(digit))


def fit_in_field(digit: Array) -> Array | None:
    """Return a digit (h, w) on 0, cropped and centred, if it already has the size of MNIST."""
    if not digit.any():
        return None
    digit = digit[bounding_box(digit > 0)]
    return _centred(digit) if max(digit.shape) in (BOX - 1, BOX) else None


def is_like_mnist(picture: Array) -> bool:
    """Return whether a picture already has the form of MNIST, as all 70,000 of its images do."""
    levels = picture.min() == 0 and 254 <= picture.max() <= 255
    if picture.shape != (FIELD, FIELD) or not levels or (picture != np.rint(picture)).any():
        return False
    side = max(size(bounding_box(picture > 0)))
    off_centre = np.abs(np.subtract(ndimage.center_of_mass(picture), CENTRE)).max()
    return BOX - 1 <= side <= BOX and bool(off_centre < 0.53)


def _drawn_with_pen(ink: Array, mask: Array) -> Array:
    """Return the digit, in [0, 1], with strokes of at least the pen width of MNIST.

    A blur turns a thinner line into one of the blur's width and hardly changes a wide one. The blur
    is weaker where it would close a hole or a gap: an open 4 would become a 9.
    """
    longer_side = max(size(bounding_box(mask)))
    near = ndimage.maximum_filter(mask, 2 * max(1, longer_side // 40) + 1)
    digit = np.clip(ink / np.median(ink[mask]), 0, 1) * near
    digit = digit[bounding_box(near)]
    digit = resized(digit, scaled(digit.shape, FINE_BOX / longer_side))
    digit = np.pad(digit, FINE_BOX // 4)
    core = digit > 0.5 * digit.max()
    width = 4 * ndimage.distance_transform_edt(core)[core].mean() * BOX / FINE_BOX
    for share in (1, 0.85, 0.7, 0.5, 0):  # of the missing width; less if a gap would close
        missing = max(share * (PEN_WIDTH**2 - width**2), 0.5)
        # 2.355: a Gaussian's full width at half its height, in standard deviations.
        sigma = np.sqrt(missing) / 2.355
        drawn = _stretched(ndimage.gaussian_filter(digit, sigma * FINE_BOX / BOX))
        if _holes(drawn > 0.5) == _holes(core):
            break
    return drawn


def _stretched(digit: Array) -> Array:
    """Return the digit with a contrast that makes the middle of its strokes 1."""
    middle = np.median(digit[digit > 0.5 * digit.max()])
    stretched: Array = np.clip((1.3 * digit / middle - 0.1) / 0.9, 0, 1)
    return stretched


def _holes(digit: Array) -> int:
    """Return the number of holes in a mask, without those smaller than a pixel of MNIST."""
    labels, count = ndimage.label(np.pad(~digit, 1, constant_values=True))
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return int((areas >= (FINE_BOX // BOX) ** 2).sum())


def _fitted(digit: Array) -> Array:
    """Crop the digit to its ink; scale its longer side to 20 pixels, its brightest pixel to 255."""
    digit = digit[bounding_box(digit > 0.15)]
    digit = resized(digit, scaled(digit.shape, BOX / max(digit.shape)), Image.Resampling.BOX)
    return np.asarray(np.rint(digit * (255 / digit.max())))


def _centred(digit: Array) -> Array:
    """Return the digit in a field of 28x28, with its centre of mass in the middle."""
    field = np.zeros((FIELD, FIELD), np.uint8)
    height, width = digit.shape
    y, x = (round(CENTRE - c) for c in ndimage.center_of_mass(digit))
    y, x = min(max(y, 0), FIELD - height), min(max(x, 0), FIELD - width)
    field[y : y + height, x : x + width] = digit
    return field
