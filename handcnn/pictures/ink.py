"""What is ink: how far each pixel differs from the paper around it, and where that is a stroke.

A scan has an even background. A photograph has shadows, ruled lines and noise.
"""

import numpy as np
from scipy import ndimage

from handcnn.errors import HandcnnError
from handcnn.pictures.operations import enlarged, odd, otsu, shrunk
from handcnn.types import Array

MIN_CONTRAST = 5  # of 255 grey levels: less is no stroke


def ink_in(picture: Array) -> Array:
    """Return how far each pixel (H, W) lies on the ink's side of the background around it.

    Ink is whichever of dark and light the median of the surroundings wipes out, since a stroke is
    narrower than the space between strokes. That holds in a shadow, too.
    """
    coarse = shrunk(picture, 64)
    detail = coarse - ndimage.median_filter(coarse, odd(0.3 * max(coarse.shape)), mode="nearest")
    if (detail * np.abs(detail)).sum() > 0:
        ink: Array = picture + _background(-picture, detail.max())
    else:
        background = _background(picture, -detail.min())
        # In a shadow ink and paper are darker by the same factor.
        ink = (background - picture) / np.maximum(background / max(background.max(), 1), 0.2)
    noise_width = max(picture.shape) / 400
    smooth: Array = ndimage.gaussian_filter(np.maximum(ink, 0), noise_width)
    return smooth


def strokes_in(ink: Array) -> Array:
    """Return where there is a stroke, a mask (H, W): Otsu's threshold above the noise.

    The scale is logarithmic, because thin parts of a stroke are several times fainter than
    crossings.

    Raises:
        HandcnnError: there is no stroke.
    """
    lowest, low = np.percentile(ink, (1, 25))
    noise = low - lowest  # most of a picture is background: about 1.65 standard deviations
    if ink.max() < max(MIN_CONTRAST, low + 6 * noise):
        raise HandcnnError(
            "the picture is blank: no stroke stands out from the background; "
            "draw one digit, dark on light or light on dark"
        )
    visible = ink[ink > max(low + 2 * noise, 0.05 * ink.max())]
    mask: Array = ink > np.exp(otsu(np.log(visible)))
    return mask


def _background(picture: Array, contrast: float) -> Array:
    """Return the light background (H, W) by a closing, which fills strokes and keeps wide shadows.

    A shadow goes on outside the picture. A stroke that touches the border ends there: the border
    counts as a stroke where it is as dark as ink. The darkest is ink if it differs enough
    (`contrast`) from its surroundings; otherwise it is a shadow.
    """
    coarse = shrunk(picture, 128)
    n = odd(0.4 * max(coarse.shape))
    padded = np.pad(coarse, n, mode="edge")
    outside = np.pad(np.zeros(coarse.shape, bool), n, constant_values=True)
    paper = np.median(coarse)
    depth = paper - coarse.min()
    if contrast > 0.3 * depth:
        padded[outside & (padded < paper - 0.7 * depth)] = paper
    closed = ndimage.grey_closing(padded, size=(n, n))[n:-n, n:-n]
    return enlarged(closed, picture.shape)
