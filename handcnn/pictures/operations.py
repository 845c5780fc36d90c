"""Operations on grey pictures and masks (H, W), shared by all steps of the preparation."""

from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from handcnn.types import Array, Shape

EIGHT_NEIGHBOURS = np.ones((3, 3), bool)

Box = tuple[slice, ...]  # rows, columns


def resized(
    picture: Array, shape: Shape, method: Image.Resampling = Image.Resampling.BICUBIC
) -> Array:
    """Return the picture resized to `shape` (H, W) without aliasing, float32."""
    image = Image.fromarray(picture.astype(np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), method))


def scaled(shape: Shape, factor: float) -> Shape:
    """Return a shape multiplied by a factor, with at least one pixel in each direction."""
    return tuple(max(1, round(n * factor)) for n in shape)


def shrunk(picture: Array, side: int) -> Array:
    """Return the picture reduced by averaging, so that its longer side is at most `side` pixels."""
    factor = min(1.0, side / max(picture.shape))
    return resized(picture, scaled(picture.shape, factor), Image.Resampling.BOX)


def enlarged(coarse: Array, shape: Shape) -> Array:
    """Return a result computed on a shrunk picture, enlarged to `shape` (H, W)."""
    return resized(coarse, shape, Image.Resampling.BILINEAR)


def bounding_box(mask: Array) -> Box:
    """Return the rows and columns that contain all of a mask with at least one True."""
    box: Box = ndimage.find_objects(mask.astype(np.uint8))[0]
    return box


def size(box: Box) -> tuple[int, int]:
    """Return the height and width of a box."""
    height, width = (s.stop - s.start for s in box)
    return height, width


def odd(length: float) -> int:
    """Return an odd whole number near `length`: a filter of this size has a middle."""
    return int(length) // 2 * 2 + 1


def otsu(values: Array) -> Any:
    """Return the threshold that divides the values into the two most different groups.

    N. Otsu, "A threshold selection method from gray-level histograms", 1979.
    """
    span = (values.min() - 0.01, values.max())  # never empty, even if all values are equal
    counts, edges = np.histogram(values, 256, span)
    n, total = counts.cumsum(), (counts * edges[:-1]).cumsum()
    variance = (total[-1] * n - total * n[-1]) ** 2 / np.maximum(n * (n[-1] - n), 1)
    return edges[variance.argmax() + 1]
