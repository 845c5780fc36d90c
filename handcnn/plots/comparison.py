"""Which run is better, and why? The curves of several runs over one another, named by letters."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from handcnn.plots.curves import (
    ACCURACY,
    LOSS,
    History,
    Measure,
    add_axes,
    scale_epochs,
    scale_values,
    zoom,
)
from handcnn.plots.figure import (
    DPI,
    GREY,
    HEADER,
    INK,
    MARGIN,
    PALE_INK,
    check_range,
    default_settings,
    fitted,
    new_figure,
    put_text,
    text_width,
)
from handcnn.training import best_epoch
from handcnn.types import Array

WIDTH, AXES_WIDTH, AXES_HEIGHT = 1600, 660, 470  # pixels
ROW = 26  # height of a line of the legend in pixels
MIN_DISTANCE = 17  # the smallest distance between the letters of two curves in pixels
# Colour-blind readers can tell them apart (Okabe and Ito, 2008); on a grey print, the letters do.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#222222", "#56B4E9")
STYLES = ("-", (0, (5, 2)))
MAX_RUNS = len(COLOURS) * len(STYLES)
REMARK = (
    "Validation after each epoch. Circles: the best epoch of each run, chosen by accuracy, whose "
    "weights are kept."
)


class Curve(NamedTuple):
    """A run to compare: what it is called in the legend, its history and its result on the test."""

    label: str
    history: History
    test_accuracy: float | None = None


@default_settings()
def plot_comparison(curves: Sequence[Curve], title: str = "") -> Figure:
    """Return the validation accuracy and loss of up to MAX_RUNS runs, side by side.

    Args:
        curves: the runs. Each history is as for `plot_accuracy`, with at least one epoch.
        title: what the runs have in common; the heading ends with it.
    """
    top = HEADER - 20
    bottom = top + AXES_HEIGHT + 90
    figure, background = new_figure(
        WIDTH,
        bottom + ROW * len(curves) + 20,
        f"{len(curves)} runs compared{title and f': {title}'}",
        REMARK,
    )
    for i, measure in enumerate((ACCURACY, LOSS)):
        left = MARGIN + 70 + i * (AXES_WIDTH + 120)
        box = (left, top, AXES_WIDTH, AXES_HEIGHT)
        axes = add_axes(figure, f"validation {measure.label}", box)
        _plot_measure(axes, measure, [curve.history for curve in curves])
    room = WIDTH - 2 * MARGIN - 420  # for a label
    names = [fitted(curve.label, room) for curve in curves]
    results_left = MARGIN + 110 + max(map(text_width, names))
    for i, (curve, name) in enumerate(zip(curves, names, strict=True)):
        y = bottom + i * ROW
        colour, style = _look(i)
        background.plot([MARGIN, MARGIN + 44], [y, y], color=colour, linestyle=style, linewidth=2)
        put_text(background, MARGIN + 56, y, chr(ord("A") + i), 11, INK, weight="bold")
        put_text(background, MARGIN + 80, y, name, 11, INK)
        put_text(background, results_left, y, _result(curve), 10, GREY)
    return figure


def _look(i: int) -> tuple[str, object]:
    """Return the colour and the line style of curve `i`."""
    return COLOURS[i % len(COLOURS)], STYLES[i // len(COLOURS)]


def _result(curve: Curve) -> str:
    row = best_epoch(curve.history)
    result = f"best {ACCURACY.show(100 * row['val_accuracy'])} in epoch {row['epoch']:.0f}"
    if curve.test_accuracy is not None:
        result += f", test {ACCURACY.show(100 * curve.test_accuracy)}"
    return result


def _plot_measure(axes: Axes, measure: Measure, histories: Sequence[History]) -> None:
    """Plot one column of all histories, each curve with its letter at its end."""
    column = f"val_{measure.name}"
    ends, limits = [], []
    for i, history in enumerate(histories):
        epochs = np.array([row["epoch"] for row in history])
        values = np.array([row[column] for row in history])
        check_range("epochs", epochs, 0, 100_000)
        check_range(f"values of {column}", values, 0, measure.largest)
        values = measure.factor * values
        colour, style = _look(i)
        axes.plot(epochs, values, color=colour, linestyle=style, linewidth=2)
        best = history.index(best_epoch(history))
        axes.plot(
            epochs[best], values[best], "o", markersize=9, color=colour, fillstyle="none",
            markeredgewidth=1.5,
        )  # fmt: skip
        ends.append((epochs[-1], values[-1]))
        limits.append(zoom(values, values[:0], values[:0], measure.smallest_span))
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    pad = 0.03 * (high - low)  # for the circles
    low, high = low - pad, high + pad
    scale_values(axes, low, high, min(high, measure.factor * measure.largest))
    scale_epochs(axes, np.arange(1, max(x for x, _ in ends) + 1))
    _put_letters(axes, ends, low, high)


def _put_letters(axes: Axes, ends: Sequence[tuple[float, float]], low: float, high: float) -> None:
    """Put A, B, ... behind the ends of the curves; those at the same epoch are moved apart."""
    pixels = AXES_HEIGHT / (high - low)
    for epoch in {x for x, _ in ends}:
        here = sorted((i for i, (x, _) in enumerate(ends) if x == epoch), key=lambda i: ends[i][1])
        heights = np.array([(ends[i][1] - low) * pixels for i in here])
        for i, height, place in zip(here, heights, moved_apart(heights), strict=True):
            axes.annotate(
                chr(ord("A") + i),
                ends[i],
                (14, (place - height) * 72 / DPI),
                textcoords="offset points",
                va="center",
                color=_look(i)[0],
                weight="bold",
                fontsize=11,
                arrowprops={"arrowstyle": "-", "color": PALE_INK, "linewidth": 0.8},
                bbox={
                    "boxstyle": "square,pad=0.05",
                    "facecolor": "white",
                    "linewidth": 0,
                    "alpha": 0.7,
                },
            )


def moved_apart(places: Array) -> Array:
    """Return ascending places, moved by as little as needed to be MIN_DISTANCE pixels apart."""
    moved = places.astype(float)
    for _ in range(1000):
        overlaps = np.maximum(MIN_DISTANCE - np.diff(moved), 0)
        if (overlaps < 0.5).all():
            break
        moved[:-1] -= overlaps / 2
        moved[1:] += overlaps / 2
    return moved
