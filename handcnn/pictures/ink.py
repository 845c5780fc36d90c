"""Find the ink: how much each pixel differs from the paper around it, and which are strokes.

A scan has an even background. A photograph has shadows, ruled lines and noise.
"""

import numpy as np
from scipy import ndimage

from handcnn.errors import HandcnnError
from handcnn.pictures.operations import EIGHT_NEIGHBOURS, enlarged, odd, shrunk
from handcnn.pictures.pen import MAX_WIDTH, Pen, find_pen
from handcnn.types import Array

BLANK = (
    "the picture is blank: no stroke stands out from the background; "
    "draw one digit, dark on light or light on dark"
)
MIN_CONTRAST = 5  # grey levels (of 255); fainter marks are not strokes
WIDE = 0.05  # share of the picture: no pen on a photographed sheet is wider
WEAK = 0.3  # of the pen's contrast: thin parts of a stroke are fainter than crossings
EVEN = 0.15  # share of the contrast by which paper may vary


def ink_in(picture: Array) -> tuple[Array, Pen | None]:
    """Return how much each pixel (H, W) differs from its background in the direction of ink.

    The pen comes second; it is None if there is no stroke with two edges.
    """
    coarse = shrunk(picture, 64)
    paper = _paper_around(coarse)
    pen = find_pen(picture, paper, (coarse.min() + coarse.max()) / 2)
    # On even paper, a thin frame must not hide a thick digit. In uneven light, a shadow is wide.
    width = MAX_WIDTH if pen is None else pen.width(0.5 if paper is None else 0.8)
    if pen is not None and pen.is_light:
        ink: Array = picture + _background(-picture, width, paper and -paper)
    else:
        background = _background(picture, width, paper)
        # A shadow darkens ink and paper by the same factor.
        ink = (background - picture) / np.maximum(background / max(background.max(), 1), 0.2)
    noise_width = max(picture.shape) / (400 if paper is not None else 300)
    smooth: Array = ndimage.gaussian_filter(np.maximum(ink, 0), noise_width)
    return smooth, pen


def strokes_in(ink: Array, pen: Pen | None) -> Array:
    """Return a mask (H, W) of the strokes: strong ink, and the weak ink that is connected to it.

    Raises:
        HandcnnError: there is no stroke.
    """
    weak, strong = thresholds(ink, pen)
    assert pen is not None
    if pen.width(0.8) < WIDE and max(ink.shape) > 200:  # a photograph
        paper, noise = _noise(ink)
        weak, strong = (
            np.clip(paper + factor * noise, level, most * level)
            for factor, level, most in ((4, weak, 2), (6, strong, 1.4))
        )
    grown = ndimage.binary_propagation(ink > strong, EIGHT_NEIGHBOURS, ink > weak)
    labels, _ = ndimage.label(grown, EIGHT_NEIGHBOURS)
    area = np.bincount(labels.ravel())
    dots = area < 0.5 * (pen.width() * max(ink.shape)) ** 2
    kept: Array = grown & ~dots[labels]
    if not kept.any():
        raise HandcnnError(BLANK)
    return kept


def _noise(ink: Array) -> tuple[Array, Array]:
    """Return the typical ink (H, W) of the paper around each pixel, and its standard deviation."""
    coarse = shrunk(ink, 64)
    window = odd(0.4 * max(coarse.shape))
    paper = enlarged(ndimage.median_filter(coarse, window), ink.shape)
    deviation = ndimage.median_filter(shrunk(np.abs(ink - paper), 64), window)
    return paper, 1.25 * enlarged(deviation, ink.shape)


def thresholds(ink: Array, pen: Pen | None) -> tuple[float, float]:
    """Return from where on ink (H, W) may be a stroke, and from where on it surely is one.

    Raises:
        HandcnnError: there is no stroke.
    """
    lowest, low = np.percentile(ink, (2, 25))  # at least a quarter of a picture is paper
    noise = (low - lowest) / 1.4  # one standard deviation
    paper = low + 0.7 * noise
    middles = np.zeros(0) if pen is None else ink[pen.middles_in(ink.shape)]
    middles = middles[middles > max(MIN_CONTRAST, paper + 6 * noise)]
    if not len(middles) or ink.max() < paper + 12 * noise:
        raise HandcnnError(BLANK)
    contrast = np.percentile(middles, 75)
    return max(paper + 4 * noise, WEAK * contrast), max(paper + 6 * noise, 0.5 * contrast)


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


def _background(picture: Array, pen_width: float, paper: float | None) -> Array:
    """Return the light background (H, W), by a closing, which fills strokes and keeps wide shadows.

    A shadow continues outside the picture. Some strokes and blots are wider than the pen: the
    closing fills three times its width.
    """
    coarse = shrunk(picture, 200)
    n = odd(min(3 * pen_width + 0.03, 0.4) * max(coarse.shape))
    padded = np.pad(coarse, n, mode="edge")
    closed = ndimage.grey_closing(padded, size=(n, n))[n:-n, n:-n]
    if paper is not None and pen_width > WIDE:
        closed = np.maximum(closed, paper - EVEN * (paper - coarse.min()))
    return enlarged(closed, picture.shape)
