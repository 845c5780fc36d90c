"""Cut out the sheet of paper, or the panel of a screen, on which the digit lies.

Otherwise the desk or page around it would be taken for the background, or its edge for a stroke. A
sheet is light on a dark desk; a panel can be dark on a light page, such as the pad of a drawing
program, a blackboard on a wall, or an image with a dark background in a plot.
"""

import numpy as np
from scipy import ndimage

from handcnn.pictures.operations import (
    EIGHT_NEIGHBOURS,
    Box,
    bounding_box,
    enlarged,
    otsu,
    shrunk,
    size,
)
from handcnn.types import Array

SIDE = 128  # pixels of the picture in which sheets are sought
STEP = 0.4  # share of the light: a shadow takes away less, a desk more


def without_desk(picture: Array) -> tuple[Box, Array]:
    """Return the sheet or panel (h, w) if there is one on something else, else the whole picture.

    Its rows and columns in the picture come first. The parts of the desk that remain in the corners
    of a rotated sheet get the grey of the paper.
    """
    is_small = max(picture.shape) < SIDE  # an image of a digit alone
    for negative in () if is_small else (False, True):
        sheet = _sheet_in(picture, negative)
        if sheet is not None:
            inner, paper = sheet
            kept = enlarged(inner, picture.shape) > 0.5
            box = bounding_box(kept)
            nearest = ndimage.distance_transform_edt(
                ~(inner & paper), return_distances=False, return_indices=True
            )
            coarse = shrunk(picture, SIDE)
            paper_everywhere = enlarged(coarse[tuple(nearest)], picture.shape)
            return box, np.where(kept, picture, paper_everywhere)[box]
    return tuple(slice(0, n) for n in picture.shape), picture


def _sheet_in(picture: Array, negative: bool) -> tuple[Array, Array] | None:
    """Return two masks of the reduced picture if a light sheet lies on something dark in it.

    The first is the sheet without its edge, the second its paper without the writing.

    Args:
        picture: grey values from 0 to 255.
        negative: whether to look for a dark panel on something light instead.
    """
    coarse = shrunk(255 - picture if negative else picture, SIDE)
    threshold = otsu(coarse)
    light = coarse > threshold
    if light.all() or not light.any():
        return None
    dark, paper = coarse[~light].mean(), coarse[light].mean()
    step = paper - dark
    light = _largest_region(coarse > dark + 0.35 * step)  # with the shadows on the paper
    sheet = ndimage.binary_fill_holes(light)
    inner = ndimage.binary_erosion(sheet, EIGHT_NEIGHBOURS, 2)
    border = np.concatenate([sheet[0], sheet[-1], sheet[:, 0], sheet[:, -1]]).mean()
    is_whole = border < 0.02
    is_shadow = step < (0.25 if is_whole else STEP) * (255 - dark if negative else paper)
    if is_shadow or border > 0.8 or (negative and not is_whole) or not _is_sheet(sheet, light):
        return None
    # On a sheet that is whole, also faint writing is enough.
    written = inner & (coarse < (paper - 0.1 * step if is_whole else threshold))
    if not (_is_written(sheet, written) and _is_on_desk(coarse, sheet, light, step)):
        return None
    if not (is_whole or _is_dark_as_ink(coarse, sheet, light, written)):
        return None
    return inner, light


def _largest_region(mask: Array) -> Array:
    labels, _ = ndimage.label(mask)
    region: Array = labels == np.bincount(labels[mask]).argmax()
    return region


def _surroundings(sheet: Array) -> Array:
    """Return a ring around the sheet, at some distance from its edge, which may be blurred."""
    near, far = (ndimage.binary_dilation(sheet, EIGHT_NEIGHBOURS, n) for n in (1, 3))
    ring: Array = far & ~near
    return ring


def _is_sheet(sheet: Array, light: Array) -> bool:
    """Return whether a region, of which a part is light, has the shape of a sheet."""
    sides = size(bounding_box(sheet))
    is_large = sheet.sum() >= 0.1 * sheet.size
    is_wide = min(sides) >= 0.5 * max(sides)
    is_mostly_paper = light.sum() >= 0.6 * sheet.sum()  # with less ink
    return bool(
        _surroundings(sheet).any()
        and is_large
        and is_wide
        and is_mostly_paper
        and has_four_corners(sheet)
    )


def _is_written(sheet: Array, written: Array) -> bool:
    """Return whether there is a digit: a thick stroke has four corners, too, but is even."""
    if not written.any():
        return False
    return max(size(bounding_box(written))) >= 0.1 * max(size(bounding_box(sheet)))


def _is_on_desk(coarse: Array, sheet: Array, light: Array, step: float) -> bool:
    """Return whether the surroundings of the sheet are far darker than its edge."""
    return bool(_beside(coarse, sheet) <= _edge(coarse, sheet, light) - 0.5 * step)


def _is_dark_as_ink(coarse: Array, sheet: Array, light: Array, written: Array) -> bool:
    """Return whether the surroundings of the sheet are nearly as dark as ink, unlike a shadow."""
    edge, ink = _edge(coarse, sheet, light), coarse[written].min()
    return bool(_beside(coarse, sheet) <= ink + 0.3 * (edge - ink))


def _beside(coarse: Array, sheet: Array) -> float:
    """Return the grey of most of the surroundings of the sheet."""
    return float(np.percentile(coarse[_surroundings(sheet)], 80))


def _edge(coarse: Array, sheet: Array, light: Array) -> float:
    """Return the grey of the paper near the edge of the sheet."""
    rim = light & ~ndimage.binary_erosion(sheet, EIGHT_NEIGHBOURS, 4, border_value=1)
    return float(np.median(coarse[rim]))


def has_four_corners(mask: Array) -> bool:
    """Return whether a mask (H, W) is roughly a quadrilateral and fills its convex hull.

    A sheet has this shape from every camera angle. A thick 0 is rounder.
    """
    pixels, angles = np.argwhere(mask), np.radians(np.arange(0, 360, 5))
    outermost = pixels[(pixels @ [np.sin(angles), np.cos(angles)]).argmax(axis=0)]  # (n, 2)
    y, x = (outermost - outermost[:, None]).transpose(2, 0, 1)  # (n, n), from each to each
    # Twice the signed area of every triangle. Its sign depends on the side of the first edge.
    triangles = y[:, :, None] * x[:, None] - x[:, :, None] * y[:, None]
    i = np.arange(1, len(outermost))
    hull = abs(triangles[0, i - 1, i].sum())
    quadrilateral = np.ptp(triangles, axis=2).max()  # the two largest triangles on one diagonal
    return bool(quadrilateral >= 0.9 * hull and 2 * mask.sum() >= 0.95 * hull)
