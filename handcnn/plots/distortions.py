"""What does an augmentation do? Images, each above its distorted copy."""

import numpy as np
from matplotlib.figure import Figure

from handcnn.plots.figure import GREY, HEADER, MARGIN, greys, new_figure, put_text, put_tile
from handcnn.types import Array

COLUMNS, TILE, GAP = 8, 104, 8  # images per row; side of a tile and gap between tiles, in pixels
LABEL = 92  # pixels for the names of the rows


def plot_distortions(originals: Array, distorted: Array, title: str) -> Figure:
    """Return a plot of pairs, eight in a row: the original above, its distorted copy below.

    Args:
        originals: (N, H, W), uint8 in 0..255 or floats in 0..1.
        distorted: the same images after the augmentation, in the same order.
        title: the heading.
    """
    rows = -(-len(originals) // COLUMNS)
    pitch = 2 * (TILE + GAP) + 20
    figure, axes = new_figure(
        MARGIN + LABEL + COLUMNS * (TILE + GAP) - GAP + MARGIN,
        HEADER + rows * pitch,
        title,
        "In every epoch each image is turned, scaled, sheared, moved and bent a little, at random. "
        "Some 1s and 7s get strokes.",
    )
    for i, pair in enumerate(zip(originals, distorted, strict=True)):
        row, column = divmod(i, COLUMNS)
        for below, image in enumerate(pair):
            x = MARGIN + LABEL + column * (TILE + GAP)
            y = HEADER - 20 + row * pitch + below * (TILE + GAP)
            put_tile(axes, x, y, TILE, greys(np.asarray(image)))
            if column == 0:
                name = ("original", "distorted")[below]
                put_text(axes, MARGIN, y + TILE / 2, name, 10, GREY)
    return figure
