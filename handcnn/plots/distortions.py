"""What does an augmentation do? Images, each above what became of it."""

import numpy as np
from matplotlib.figure import Figure

from handcnn.plots.page import GREY, HEADER, MARGIN, greys, new_page, put_text, put_tile
from handcnn.types import Array

COLUMNS, TILE, GAP = 8, 104, 8  # images in a row; sides of the tiles and what is between, pixels
LABEL = 92  # pixels left of the rows, for their names


def draw_distortions(originals: Array, distorted: Array, title: str) -> Figure:
    """Return pairs of images, eight pairs in a row: the original above, its distorted copy below.

    Args:
        originals: (N, H, W), uint8 in 0..255 or floats in 0..1.
        distorted: the same images after the augmentation, in the same order.
        title: the heading.
    """
    rows = -(-len(originals) // COLUMNS)
    pitch = 2 * (TILE + GAP) + 20
    figure, page = new_page(
        MARGIN + LABEL + COLUMNS * (TILE + GAP) - GAP + MARGIN,
        HEADER + rows * pitch,
        title,
        "In every epoch each image is turned, scaled, sheared, moved and bent a little, at random.",
    )
    for i, pair in enumerate(zip(originals, distorted, strict=True)):
        row, column = divmod(i, COLUMNS)
        for below, image in enumerate(pair):
            x = MARGIN + LABEL + column * (TILE + GAP)
            y = HEADER - 20 + row * pitch + below * (TILE + GAP)
            put_tile(page, x, y, TILE, greys(np.asarray(image)))
            if column == 0:
                name = ("original", "distorted")[below]
                put_text(page, MARGIN, y + TILE / 2, name, 10, GREY)
    return figure
