"""What is ink: how far each pixel differs from the paper around it, and where that is a stroke.

A scan has an even background. A photograph has shadows, ruled lines and noise.
"""

import numpy as np
from scipy import ndimage

from handcnn.errors import HandcnnError
from handcnn.pictures.operations import enlarged, odd, otsu, shrunk
from handcnn.types import Array

MIN_CONTRAST = 5  # of 255 grey levels: less is no stroke
EVEN = 0.15  # of the contrast: paper varies no more


def ink_in(picture: Array) -> Array:
    """Return how far each pixel (H, W) lies on the ink's side of the background around it.

    Paper is what lies around the digit. Where the border does not show it, ink is whichever of dark
    and light the median of the surroundings wipes out, since a stroke is narrower than the space
    between strokes. That holds in a shadow, too.
    """
    coarse = shrunk(picture, 64)
    detail = coarse - ndimage.median_filter(coarse, odd(0.3 * max(coarse.shape)), mode="nearest")
    paper = _paper_around(coarse)
    if paper is None:
        ink_is_light = (detail * np.abs(detail)).sum() > 0
    else:
        ink_is_light = 2 * paper < coarse.min() + coarse.max()
    if ink_is_light:
        ink: Array = picture + _background(-picture, detail.max(), paper and -paper)
    else:
        background = _background(picture, -detail.min(), paper)
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


def _paper_around(picture: Array) -> float | None:
    """Return the grey of the paper if nearly all of the border is evenly lit paper, or ink on it.

    That is so in a drawing, even if its strokes are thick and its margin is narrow. The border of a
    photograph can also be a shadow, a desk or a frame.
    """
    darkest, lightest = picture.min(), picture.max()
    border = _ring(picture, 0)
    paper = np.median(border)
    ink = darkest if 2 * paper > darkest + lightest else lightest
    contrast = lightest - darkest
    is_paper = np.abs(border - paper) <= EVEN * contrast
    is_ink = np.abs(border - ink) <= 0.25 * contrast
    two_greys = np.mean(is_paper | is_ink) >= 0.8 and is_paper.sum() > is_ink.sum()
    if not two_greys or abs(paper - ink) < 0.8 * contrast:
        return None
    for inset in range(1, min(picture.shape) // 8 + 1):
        if np.mean(np.abs(_ring(picture, inset) - ink) < 0.5 * contrast) > 0.95:
            return None  # the border is a frame around the paper
    return float(paper)


def _ring(picture: Array, inset: int) -> Array:
    """Return the pixels (n,) that lie a number of pixels inside the border."""
    height, width = picture.shape
    inner = picture[inset : height - inset, inset : width - inset]
    return np.concatenate([inner[0], inner[-1], inner[:, 0], inner[:, -1]])


def _background(picture: Array, contrast: float, paper: float | None) -> Array:
    """Return the light background (H, W) by a closing, which fills strokes and keeps wide shadows.

    A shadow goes on outside the picture. A stroke that touches the border ends there: the border
    counts as a stroke where it is as dark as ink. The darkest is ink if it differs enough
    (`contrast`) from its surroundings; otherwise it is a shadow. A stroke can be wider than what a
    closing fills; so if the grey of the paper is known, no background is darker.
    """
    coarse = shrunk(picture, 128)
    n = odd(0.4 * max(coarse.shape))
    padded = np.pad(coarse, n, mode="edge")
    outside = np.pad(np.zeros(coarse.shape, bool), n, constant_values=True)
    light = np.median(coarse) if paper is None else paper
    depth = light - coarse.min()
    if contrast > 0.3 * depth:
        padded[outside & (padded < light - 0.7 * depth)] = light
    closed = ndimage.grey_closing(padded, size=(n, n))[n:-n, n:-n]
    if paper is not None:
        closed = np.maximum(closed, paper - EVEN * depth)
    return enlarged(closed, picture.shape)
