"""Cut out a sheet of paper that lies on a dark desk.

Otherwise the desk would be taken for the background, or its edge for a stroke.
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


def without_desk(picture: Array) -> tuple[Box, Array]:
    """Return the sheet of light paper (h, w) if there is one on something dark, else the picture.

    Its rows and columns in the picture come first.

    The parts of the desk that remain in the corners of a rotated sheet get the grey of the paper.
    """
    whole = tuple(slice(0, n) for n in picture.shape)
    coarse = shrunk(picture, 128)
    threshold = otsu(coarse)
    light = coarse > threshold
    if light.all() or not light.any():
        return whole, picture
    dark, paper = coarse[~light].mean(), coarse[light].mean()
    step = paper - dark
    light = _largest_region(coarse > dark + 0.35 * step)  # with the shadows on the paper
    sheet = ndimage.binary_fill_holes(light)
    inner = ndimage.binary_erosion(sheet, EIGHT_NEIGHBOURS, 2)
    written = inner & (coarse < threshold)
    if not (_is_sheet(sheet, light, written) and _is_on_desk(coarse, sheet, light, written, step)):
        return whole, picture
    nearest = ndimage.distance_transform_edt(
        ~(inner & light), return_distances=False, return_indices=True
    )
    kept = enlarged(inner, picture.shape) > 0.5
    paper_everywhere = enlarged(coarse[tuple(nearest)], picture.shape)
    box = bounding_box(kept)
    return box, np.where(kept, picture, paper_everywhere)[box]


def _largest_region(mask: Array) -> Array:
    labels, _ = ndimage.label(mask)
    region: Array = labels == np.bincount(labels[mask]).argmax()
    return region


def _surroundings(sheet: Array) -> Array:
    """Return a ring around the sheet, at some distance from its edge, which may be blurred."""
    near, far = (ndimage.binary_dilation(sheet, EIGHT_NEIGHBOURS, n) for n in (1, 3))
    ring: Array = far & ~near
    return ring


def _is_sheet(sheet: Array, light: Array, written: Array) -> bool:
    """Return whether a region, with its light part and its writing, is a sheet with a digit."""
    border = np.concatenate([sheet[0], sheet[-1], sheet[:, 0], sheet[:, -1]])
    ends_in_the_picture = _surroundings(sheet).any() and border.mean() <= 0.8
    is_large = sheet.sum() >= 0.2 * sheet.size
    is_mostly_paper = light.sum() >= 0.75 * sheet.sum()  # with little ink
    if not (ends_in_the_picture and is_large and is_mostly_paper and written.any()):
        return False
    writing_is_large = max(size(bounding_box(written))) >= 0.1 * max(size(bounding_box(sheet)))
    return bool(writing_is_large and _has_four_corners(sheet))


def _is_on_desk(coarse: Array, sheet: Array, light: Array, written: Array, step: float) -> bool:
    """Return whether the surroundings of the sheet are nearly as dark as ink, unlike a shadow."""
    beside = np.percentile(coarse[_surroundings(sheet)], 80)
    rim = light & ~ndimage.binary_erosion(sheet, EIGHT_NEIGHBOURS, 4, border_value=1)
    edge, ink = np.median(coarse[rim]), coarse[written].min()
    dark_as_ink = beside <= ink + 0.3 * (edge - ink)
    far_below_the_edge = beside <= edge - 0.5 * step
    return bool(dark_as_ink and far_below_the_edge)


def _has_four_corners(mask: Array) -> bool:
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
