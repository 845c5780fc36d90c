"""Which classes does the network confuse? A grid of counts, with the errors in colour."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from handcnn.plots.figure import (
    DPI,
    GREY,
    HEADER,
    INK,
    MARGIN,
    PALE,
    PALE_INK,
    check_range,
    colour_map,
    default_settings,
    fitted,
    new_figure,
    put_colour_bar,
    put_text,
    text_width,
)
from handcnn.text import exact_percent
from handcnn.types import Array

COLOUR_BAR = 200  # width in pixels
SHARE_WIDTH = 90  # width in pixels of a percentage with the space around it


@default_settings()
def plot_confusion_matrix(
    matrix: Array, title: str, names: Sequence[str] | None = None, *, run: str = ""
) -> Figure:
    """Return a grid of the counts in which colour shows the errors; the diagonal stays grey.

    The column on the right shows the recall of each true class, the row below the precision of
    each predicted class.

    Args:
        matrix: counts (K, K), a row for each true class, as from `training.confusion_matrix`.
        title: the data that were tested; the heading starts with it.
        names: the names of the classes, by default 0 to K-1.
        run: its network and options, shown below the heading.
    """
    check_range("counts", matrix, 0, 1_000_000)
    k = len(matrix)
    names = [fitted(str(name), 160) for name in (range(k) if names is None else names)]
    cell_width, cell_height = min(max(900 // k, 48), 150), min(max(560 // k, 30), 100)
    width, height = k * cell_width, k * cell_height
    longest = round(max(map(text_width, names)))
    left = MARGIN + 36 + max(longest, 80)  # right of the names, and of "precision"
    top = HEADER + 34 + (0 if longest <= cell_width else longest)
    right, total = int(np.trace(matrix)), int(matrix.sum())
    remark = (
        f"{right:,} of {total:,} right ({_share(right, total)}), {total - right:,} wrong. "
        "Recall: the share of a row that is right. Precision: of a column."
    )
    lines = max(text_width(line, 10) for line in (remark, run))
    besides = MARGIN + round(lines) + 40 + COLOUR_BAR + MARGIN
    figure, axes = new_figure(
        max(left + width + 100 + MARGIN, besides, 1100),
        top + height + (30 if cell_width >= SHARE_WIDTH else SHARE_WIDTH) + 24,
        f"{title}: confusion matrix",
        remark,
        run,
    )
    columns, rows = left + cell_width * np.arange(k + 1), top + cell_height * np.arange(k + 1)
    _put_cells(axes, columns, rows, matrix)
    _put_names(axes, columns, rows, names, upright=longest <= cell_width)
    _put_shares(axes, columns, rows, matrix)
    return figure


def _put_names(
    axes: Axes, columns: Array, rows: Array, names: Sequence[str], *, upright: bool
) -> None:
    """Put the names of the classes above the columns and left of the rows."""
    left, top, turn = columns[0], rows[0], 0 if upright else 90
    for name, x, y in zip(names, _middles(columns), _middles(rows), strict=True):
        put_text(axes, x, top - 10, name, ha="center", va="bottom", rotation=turn)
        put_text(axes, left - 12, y, name, ha="right")
    put_text(axes, columns.mean(), HEADER - 12, "predicted", colour=GREY, ha="center")
    put_text(axes, MARGIN, rows.mean(), "true", colour=GREY, rotation=90)


def _put_shares(axes: Axes, columns: Array, rows: Array, matrix: Array) -> None:
    """Put the recall to the right of each row and the precision below each column."""
    right, bottom = columns[-1] + 100, rows[-1] + 12
    turn = 0 if columns[1] - columns[0] >= SHARE_WIDTH else 90
    for i, (x, y) in enumerate(zip(_middles(columns), _middles(rows), strict=True)):
        recall = _share(matrix[i, i], matrix[i].sum())
        precision = _share(matrix[i, i], matrix[:, i].sum())
        put_text(axes, right, y, recall, 10, GREY, ha="right")
        put_text(axes, x, bottom, precision, 10, GREY, ha="center", va="top", rotation=turn)
    put_text(axes, right, rows[0] - 10, "recall", 10, GREY, ha="right", va="bottom")
    put_text(axes, columns[0] - 12, bottom, "precision", 10, GREY, ha="right", va="top")


def _put_cells(axes: Axes, columns: Array, rows: Array, matrix: Array) -> None:
    """Put the counts between the edges of columns and rows, and a colour bar for the errors."""
    diagonal = np.eye(len(matrix), dtype=bool)
    errors = np.where(diagonal, 0, matrix)
    worst = int(errors.max()) or 1
    colours = _error_colours(errors / worst)
    colours[diagonal] = to_rgb(PALE)
    axes.pcolormesh(columns, rows, colours, edgecolors="white", linewidth=1.5)
    width = columns[1] - columns[0]
    size = min(11, 0.85 * width / (0.64 * len(f"{matrix.max():,}")) * 72 / DPI)  # widest count fits
    for i, y in enumerate(_middles(rows)):
        for j, x in enumerate(_middles(columns)):
            colour = "white" if errors[i, j] > 0.7 * worst else INK if matrix[i, j] else PALE_INK
            put_text(axes, x, y, f"{matrix[i, j]:,}", size, colour, ha="center")
    if errors.any():
        ramp = _error_colours(np.linspace(0, 1, 101))
        x = axes.get_xlim()[1] - MARGIN - COLOUR_BAR
        put_colour_bar(axes, x, 46, COLOUR_BAR, ramp, ["0", f"{worst:,}"], "errors in a cell")


def _error_colours(shares: Array) -> Array:
    """Return colours for error counts as shares of the largest: white for 0, dark orange for 1."""
    colours = colour_map("Oranges", 0.85 * shares)
    colours[shares == 0] = 1
    return colours


def _middles(edges: Array) -> Array:
    return (edges[:-1] + edges[1:]) / 2


def _share(part: int, whole: int) -> str:
    """Return part / whole in per cent, or a dash if the whole is 0."""
    return exact_percent(part / whole) if whole else "\N{EN DASH}"
