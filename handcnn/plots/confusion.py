"""Which classes does it confuse? The counts of a test in a grid, its errors coloured."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from handcnn.plots.page import (
    DPI,
    GREY,
    HEADER,
    INK,
    MARGIN,
    PALE,
    PALE_INK,
    colour_map,
    new_page,
    put_colour_bar,
    put_text,
)
from handcnn.types import Array


def draw_confusion_matrix(matrix: Array, title: str, names: Sequence[str] | None = None) -> Figure:
    """Return the counts in a grid whose colour shows the errors; the diagonal stays neutral.

    Args:
        matrix: counts (K, K), a row for each true class, as `training.confusion_matrix` gives.
        title: what was tested; it opens the heading.
        names: of the classes, 0 to K-1 without them.
    """
    k = len(matrix)
    names = [str(i) for i in range(k)] if names is None else names
    right, total = int(np.trace(matrix)), int(matrix.sum())
    longest = 9 * max(map(len, names))  # pixels, about
    cell_width, cell_height = min(max(900 // k, 48), 150), min(max(580 // k, 30), 100)
    upright = longest <= cell_width
    left, top = MARGIN + 40 + longest, HEADER + 40 + (0 if upright else longest)
    width, height = k * cell_width, k * cell_height
    figure, page = new_page(
        max(left + width + 90 + MARGIN, 1000),
        top + height + MARGIN,
        f"{title}: confusion matrix",
        f"{right:,} of {total:,} right ({_percent(right, total)}), {total - right:,} wrong.",
    )
    columns, rows = left + cell_width * np.arange(k + 1), top + cell_height * np.arange(k + 1)
    _put_cells(page, columns, rows, matrix)
    recalls = [_percent(matrix[i, i], matrix[i].sum()) for i in range(k)]
    for i, (name, recall) in enumerate(zip(names, recalls, strict=True)):
        x, y = columns[i] + cell_width / 2, rows[i] + cell_height / 2
        put_text(page, x, top - 10, name, ha="center", va="bottom", rotation=0 if upright else 90)
        put_text(page, left - 12, y, name, ha="right")
        put_text(page, left + width + 90, y, recall, colour=GREY, ha="right")
    put_text(page, left + width + 90, top - 10, "recall", colour=GREY, ha="right", va="bottom")
    put_text(page, left + width / 2, HEADER - 12, "predicted", colour=GREY, ha="center")
    put_text(page, MARGIN, top + height / 2, "true", colour=GREY, rotation=90)
    return figure


def _put_cells(page: Axes, columns: Array, rows: Array, matrix: Array) -> None:
    """Put the counts between the given columns and rows, with a colour bar for the errors."""
    diagonal = np.eye(len(matrix), dtype=bool)
    errors = np.where(diagonal, 0, matrix)
    worst = int(errors.max()) or 1
    colours = _error_colours(errors / worst)
    colours[diagonal] = to_rgb(PALE)
    page.pcolormesh(columns, rows, colours, edgecolors="white", linewidth=1.5)
    width = columns[1] - columns[0]
    size = min(11, 0.85 * width / (0.64 * len(str(matrix.max()))) * 72 / DPI)  # the widest fits
    for i, j in np.ndindex(matrix.shape):
        colour = "white" if errors[i, j] > 0.7 * worst else INK if matrix[i, j] else PALE_INK
        x, y = columns[j : j + 2].mean(), rows[i : i + 2].mean()
        put_text(page, x, y, str(matrix[i, j]), size, colour, ha="center")
    if errors.any():
        ramp = _error_colours(np.linspace(0, 1, 101))
        x = page.get_xlim()[1] - MARGIN - 200
        put_colour_bar(page, x, 46, 200, ramp, ["0", str(worst)], "errors in a cell")


def _error_colours(shares: Array) -> Array:
    """Return colours for shares of the worst cell: white for none, dark orange for 1."""
    colours = colour_map("Oranges", 0.85 * shares)
    colours[shares == 0] = 1
    return colours


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "-"
