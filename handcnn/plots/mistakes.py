"""What does the network get wrong? The images it misread with the highest probability."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from handcnn.plots.figure import (
    GREY,
    HEADER,
    INK,
    MARGIN,
    VALIDATION,
    check_range,
    default_settings,
    fitted,
    greys,
    new_figure,
    put_text,
    put_tile,
    text_width,
)
from handcnn.text import percent
from handcnn.training import SHOWN_MISTAKES, worst_mistakes
from handcnn.types import Array

COLUMNS = 8
TILE, PITCH, ROW_HEIGHT = 140, 170, 216  # pixels


@default_settings()
def plot_mistakes(
    images: Array,
    labels: Array,
    probabilities: Array,
    title: str,
    names: Sequence[str] | None = None,
    *,
    count: int = SHOWN_MISTAKES,
    run: str = "",
) -> Figure:
    """Return a plot of the images that were assigned to a wrong class with the highest probability.

    Args:
        images: (N, H, W), uint8 in 0..255 or floats in 0..1.
        labels: true classes (N,).
        probabilities: the network's output for every image, (N, K).
        title: the data that were tested; the heading starts with it.
        names: the names of the classes, by default 0 to K-1.
        count: the largest number of mistakes to show.
        run: its network and options, shown below the heading.
    """
    check_range("probabilities", probabilities, 0, 1 + 2e-7)  # float32 may round above 1
    names = [str(i) for i in range(probabilities.shape[1])] if names is None else names
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.count_nonzero(predicted != labels)
    shown = worst_mistakes(labels, probabilities, count)
    remark = (
        f"Misread: {wrong:,} of {len(labels):,} images, numbered from 0. "
        f"Shown by confidence: {len(shown):,}."
    )
    figure, axes = new_figure(
        MARGIN + COLUMNS * PITCH - (PITCH - TILE) + MARGIN,
        HEADER + max(-(-len(shown) // COLUMNS) * ROW_HEIGHT, 40),
        f"{title}: worst mistakes",
        remark if wrong else f"None: all {len(labels):,} images were read correctly.",
        run,
    )
    for position, i in enumerate(shown):
        row, column = divmod(position, COLUMNS)
        x, y = MARGIN + column * PITCH, HEADER + row * ROW_HEIGHT
        put_tile(axes, x, y, TILE, greys(images[i]))
        for word, label, line, colour in (
            ("true ", labels[i], 14, INK),
            ("predicted ", predicted[i], 34, VALIDATION),
        ):
            name = fitted(names[label], PITCH - 6 - text_width(word, 10), 10)
            put_text(axes, x, y + TILE + line, f"{word}{name}", 10, colour)
        put_text(axes, x, y + TILE + 54, f"{percent(confidence[i])}, image {i:,}", 9, GREY)
    return figure
