"""Does the network learn? Accuracy and loss by epoch, with the best epoch and the test result."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from handcnn.plots.figure import (
    DPI,
    GREY,
    HEADER,
    INK,
    MARGIN,
    PALE,
    TEST,
    TRAINING,
    VALIDATION,
    check_range,
    default_settings,
    new_figure,
    put_text,
)
from handcnn.text import exact_percent
from handcnn.training import best_epoch
from handcnn.types import Array

History = Sequence[Mapping[str, float]]

WIDTH, HEIGHT = 1210, 780  # of the figure, in pixels
REMARK = (
    "Training is the mean over an epoch; validation follows it. The legend gives the last epoch. "
    "Dashed: the best epoch, whose weights are kept."
)
INSIDE = (
    "Line: training, a tenth of an epoch each; dots: its epochs, the last one in the legend. "
    "Dashed: the best epoch, whose weights are kept."
)
SHORT_RUN = 12  # epochs; the curve of a longer one needs no points inside them
PARTS = 10  # of an epoch, a point for each
HARDER = (
    "Training images are distorted and harder to read than those of validation, so training may "
    "lie {} validation."
)


class Measure(NamedTuple):
    """What differs between the two plots."""

    name: str  # its column in the history; for validation, with val_ in front
    column: int  # of the steps
    label: str  # of the y axis
    factor: float  # from the history to the y axis
    show: Callable[[float], str]  # a value of the y axis as text
    smallest_span: float  # of the y axis, so that noise does not fill it
    largest: float  # the largest value allowed in the history
    worse: str  # where a worse value lies


ACCURACY = Measure(
    "accuracy", 1, "accuracy (%)", 100, lambda y: exact_percent(y / 100), 0.5, 1, "below"
)
LOSS = Measure("loss", 0, "loss (mean cross-entropy)", 1, "{:.4f}".format, 0.02, 1000, "above")


def plot_accuracy(
    history: History,
    title: str,
    test_accuracy: float | None = None,
    *,
    run: str = "",
    distorted: bool = False,
    steps: Array | None = None,
) -> Figure:
    """Return a plot of the training and validation accuracy of every epoch, in per cent.

    Args:
        history: a row per epoch, at least one, with `epoch`, `val_loss` and, as fractions,
            `accuracy` and `val_accuracy`.
        title: the training data; the heading starts with it.
        test_accuracy: shown at the best epoch, whose weights were tested.
        run: its network and options, shown below the heading.
        distorted: whether training saw distorted images; the plot then says what that means.
        steps: the loss and the accuracy of every step (S, 2). If there are few epochs, the training
            is drawn inside them, too.
    """
    return _plot(history, ACCURACY, title, test_accuracy, run, distorted, steps)


def plot_loss(
    history: History,
    title: str,
    test_loss: float | None = None,
    *,
    run: str = "",
    distorted: bool = False,
    steps: Array | None = None,
) -> Figure:
    """Return a plot of the training and validation loss (mean cross-entropy) of every epoch.

    The marked epoch is that of `plot_accuracy`, chosen by accuracy. Its weights were saved.

    Args:
        history: as for `plot_accuracy`, with `loss`.
        title: the training data; the heading starts with it.
        test_loss: shown at the best epoch, whose weights were tested.
        run: as for `plot_accuracy`.
        distorted: as for `plot_accuracy`.
        steps: as for `plot_accuracy`.
    """
    return _plot(history, LOSS, title, test_loss, run, distorted, steps)


@default_settings()
def _plot(
    history: History,
    measure: Measure,
    title: str,
    test_result: float | None,
    run: str,
    distorted: bool,
    steps: Array | None,
) -> Figure:
    """Return one measure by epoch, with the best epoch and the test result marked."""
    show, tests = measure.show, [] if test_result is None else [test_result]
    columns = [[row[name] for row in history] for name in (measure.name, f"val_{measure.name}")]
    check_range(f"values of {measure.name}", sum(columns, tests), 0, measure.largest)
    epochs = np.array([row["epoch"] for row in history])
    check_range("epochs", epochs, 0, 100_000)
    training, validation, test = (measure.factor * np.array(v) for v in (*columns, tests))
    best = history.index(best_epoch(history))
    inside = epochs[:0]
    if steps is not None and len(history) <= SHORT_RUN:
        at, inside = inside_epochs(measure.factor * steps[:, measure.column], len(history))

    remark = INSIDE if len(inside) else REMARK
    figure, background = new_figure(WIDTH, HEIGHT, f"{title}: {measure.name}", remark, run)
    if distorted:
        put_text(background, MARGIN, 106 if run else 90, HARDER.format(measure.worse), 10, GREY)
    left, top = MARGIN + 70, HEADER + 45  # room for the legend
    axes = add_axes(figure, measure.label, (left, top, WIDTH - left - MARGIN, HEIGHT - top - 100))
    if len(inside):
        axes.plot(at, inside, color=TRAINING, linewidth=2, label="_inside")
    line = "none" if len(inside) else "-"
    _plot_curve(axes, epochs, training, TRAINING, f"training {show(training[-1])}", line)
    _plot_curve(axes, epochs, validation, VALIDATION, f"validation {show(validation[-1])}")
    axes.axvline(epochs[best], color=GREY, linewidth=1, linestyle=(0, (4, 4)), zorder=1)
    label = f"best epoch ({epochs[best]:.0f}) {show(validation[best])}"
    _mark(axes, epochs[best], validation[best], "o", 14, "none", VALIDATION, label)
    for value in test:
        _mark(axes, epochs[best], value, "D", 7, TEST, "white", f"test {show(value)}")
    _add_legend(axes)
    scale_epochs(axes, epochs, left=0 if len(inside) else None)
    curve = inside if len(inside) else training
    low, high = zoom(curve, validation, test, measure.smallest_span)
    scale_values(axes, low, high, min(high, measure.factor * measure.largest))

    starts = {"training": training[0], "validation": validation[0]}
    outside = [f"{name} {show(y)}" for name, y in starts.items() if not low <= y <= high]
    if outside:
        note = f"Outside the axis in epoch {epochs[0]:.0f}: {', '.join(outside)}"
        put_text(background, MARGIN + 70, HEIGHT - 24, note, 10, GREY)
    return figure


def inside_epochs(values: Array, epochs: int) -> tuple[Array, Array]:
    """Return where each part of an epoch ends, in epochs, and the mean of the values in it."""
    per_epoch = len(values) // epochs
    ends = np.unique(np.linspace(0, per_epoch, PARTS + 1).round().astype(int))[1:]
    starts = np.concatenate([[0], ends[:-1]])
    sums = np.add.reduceat(values.reshape(epochs, per_epoch), starts, axis=1)
    at = np.arange(epochs)[:, None] + ends / per_epoch
    return at.ravel(), (sums / (ends - starts)).ravel()


def add_axes(figure: Figure, label: str, box: tuple[float, float, float, float]) -> Axes:
    """Return axes with a light grid in a box: left, top, width and height in pixels."""
    (all_width, all_height), (left, top, width, height) = figure.get_size_inches() * DPI, box
    bottom = all_height - top - height
    place = (left / all_width, bottom / all_height, width / all_width, height / all_height)
    axes = figure.add_axes(place)
    axes.set_facecolor("white")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.grid(axis="y", color=PALE, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=11, colors=INK, pad=6)
    axes.set_xlabel("epoch", fontsize=11, color=INK, labelpad=8)
    axes.set_ylabel(label, fontsize=11, color=INK, labelpad=8)
    return axes


def _plot_curve(
    axes: Axes, epochs: Array, values: Array, colour: str, label: str, line: str = "-"
) -> None:
    dots = "o" if len(epochs) <= 40 else ""
    axes.plot(
        epochs, values, color=colour, linewidth=2, linestyle=line, marker=dots, markersize=5,
        label=label,
    )  # fmt: skip


def _mark(
    axes: Axes, x: float, y: float, marker: str, size: int, face: str, edge: str, label: str
) -> None:
    axes.plot(
        x, y, marker, markersize=size, markerfacecolor=face, markeredgecolor=edge,
        markeredgewidth=1.5, label=label, zorder=4,
    )  # fmt: skip


def _add_legend(axes: Axes) -> None:
    """Put the legend in a row above the axes, with some space for a curve that leaves them."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.024, 1), ncols=4, frameon=False, fontsize=11,
        labelcolor=INK, borderaxespad=1.2, columnspacing=2.2, handlelength=1.6,
    )  # fmt: skip


def scale_epochs(axes: Axes, epochs: Array, left: float | None = None) -> None:
    """Fit the x axis to the epochs, with ticks at whole epochs and at the first one.

    It begins at the first epoch, or at `left`.
    """
    first, last = epochs[0], epochs[-1]
    left = first if left is None else left
    pad = max(0.03 * (last - first), 0.2)
    axes.set_xlim(left - pad, last + pad)
    ticks = epochs
    if len(epochs) > 15:
        locator = MaxNLocator(12, integer=True, steps=[1, 2, 5, 10])
        round_ticks = np.asarray(locator.tick_values(first, last))
        apart = round_ticks >= first + (round_ticks[1] - round_ticks[0]) / 2
        ticks = np.append(first, round_ticks[apart & (round_ticks <= last)])
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])


def zoom(
    training: Array, validation: Array, test: Array, smallest_span: float
) -> tuple[float, float]:
    """Return limits of the y axis that leave out outliers of the first epochs.

    The training value of the first epoch is a mean over weights that were still nearly random. If
    the first twentieth of a run, or that one value of a short run, would take more than half of
    the axis, it is left out.
    """
    values = np.concatenate([training, validation, test])
    skip = max(len(training) // 20, 1)
    later = np.concatenate([training[skip:], validation[len(validation) // 20 :], test])
    if len(training) > 2 and np.ptp(values) > 2 * np.ptp(later):
        values = later
    low, span = values.min(), np.ptp(values)
    pad = max(0.08 * span, (smallest_span - span) / 2)
    return float(low - pad), float(low + span + pad)


def scale_values(axes: Axes, low: float, high: float, top: float) -> None:
    """Set the limits of the y axis, without ticks at impossible values: below 0, above `top`."""
    ticks = np.asarray(MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(low, high))
    axes.set_yticks(ticks[(ticks >= max(low, 0)) & (ticks <= top)])
    axes.set_ylim(low, high)
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)
