"""What does it get wrong? The images it misread with the highest probability."""

import numpy as np
from matplotlib.figure import Figure

from handcnn.formatting import percent
from handcnn.plots.page import (
    GREY,
    HEADER,
    INK,
    MARGIN,
    VALIDATION,
    check_range,
    default_settings,
    greys,
    new_page,
    put_text,
    put_tile,
)
from handcnn.types import Array

COLUMNS, TILE, PITCH, ROW_HEIGHT = 8, 140, 160, 216  # pixels, but for the first


@default_settings()
def draw_mistakes(
    images: Array, labels: Array, probabilities: Array, title: str, count: int = 24
) -> Figure:
    """Return the worst mistakes: the images given to a wrong class with the highest probability.

    Args:
        images: (N, H, W), uint8 in 0..255 or floats in 0..1.
        labels: true classes (N,).
        probabilities: the network's answer to every image, (N, K).
        title: what was tested; it opens the heading.
        count: how many mistakes to show at most.
    """
    check_range("probabilities", probabilities, 0, 1 + 2e-7)  # as float32 rounds
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    remark = (
        f"Misread: {len(wrong):,} of {len(labels):,} images. Shown by confidence: {len(shown):,}."
    )
    figure, page = new_page(
        MARGIN + COLUMNS * PITCH - (PITCH - TILE) + MARGIN,
        HEADER + max(-(-len(shown) // COLUMNS) * ROW_HEIGHT, 40),
        f"{title}: worst mistakes",
        remark if len(wrong) else f"None: all {len(labels):,} images were read correctly.",
    )
    for position, i in enumerate(shown):
        row, column = divmod(position, COLUMNS)
        x, y = MARGIN + column * PITCH, HEADER + row * ROW_HEIGHT
        put_tile(page, x, y, TILE, greys(images[i]))
        put_text(page, x, y + TILE + 14, f"true {labels[i]}", 10, INK)
        put_text(page, x, y + TILE + 34, f"predicted {predicted[i]}", 10, VALIDATION)
        put_text(page, x, y + TILE + 54, percent(confidence[i]), 9, GREY)
    return figure
