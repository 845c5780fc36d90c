"""Find the ink: how much each pixel differs from the paper around it, and which are strokes.

A scan has an even background. A photograph has shadows, ruled lines and noise.
"""

import numpy as np
from scipy import ndimage

from handcnn.errors import HandcnnError
from handcnn.pictures.operations import enlarged, odd, otsu, shrunk
from handcnn.types import Array

MIN_CONTRAST = 5  # grey levels (of 255); fainter marks are not strokes
EVEN = 0.15  # share of the contrast by which paper may vary


def ink_in(picture: Array) -> Array:
    """Return how much each pixel (H, W) differs from its background in the direction of ink.

    Paper surrounds the digit. If the border does not show it, ink is dark or light, whichever a
    median filter removes, since strokes are narrower than the space between them. This also works
    in shadows.
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
        # A shadow darkens ink and paper by the same factor.
        ink = (background - picture) / np.maximum(background / max(background.max(), 1), 0.2)
    noise_width = max(picture.shape) / 400
    smooth: Array = ndimage.gaussian_filter(np.maximum(ink, 0), noise_width)
    return smooth


def strokes_in(ink: Array) -> Array:
    """Return a mask (H, W) of the strokes, by Otsu's threshold above the noise.

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
    """Return the grey of the paper if the border is almost only evenly lit paper, or ink on it.

    Otherwise return None. Drawings have such a border, even with thick strokes and a narrow margin.
    The border of a photograph can also be a shadow, a desk or a frame.
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
    """Return the pixels (n,) of the ring that lies `inset` pixels inside the border."""
    height, width = picture.shape
    inner = picture[inset : height - inset, inset : width - inset]
    return np.concatenate([inner[0], inner[-1], inner[:, 0], inner[:, -1]])


def _background(picture: Array, contrast: float, paper: float | None) -> Array:
    """Return the light background (H, W), by a closing, which fills strokes and keeps wide shadows.

    A shadow continues outside the picture, but a stroke ends at the border: border pixels as dark
    as ink count as a stroke. The darkest pixels are ink if they differ enough (`contrast`) from
    their surroundings; otherwise they are a shadow. Strokes can be too wide for the closing. So if
    the grey of the paper is known, the background is not allowed to be darker.
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
