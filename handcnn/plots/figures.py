"""The five pictures of a run: two curves, the confusion matrix, the worst mistakes, the filters.

Each `draw_*` function returns a Figure and each `plot_*` function writes that figure as a PNG. The
only module that imports matplotlib, and it does so without pyplot: no window, no global state, no
style of the user's is changed. The same input gives the same bytes. Every picture is laid out in
pixels on a page whose y axis points down; the numbers behind them are in files beside them.
"""

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from handcnn.layers import Conv2D, Layer
from handcnn.network import Network
from handcnn.storage.files import atomic_write
from handcnn.training import best_epoch
from handcnn.types import Array

History = Sequence[Mapping[str, float]]

DPI = 110
MARGIN = 40  # pixels, left and right of everything
HEADER = 120  # pixels from the top of the page to the top of the drawing
CURVES_WIDTH, CURVES_HEIGHT = 1210, 750

# Colours that stay apart for colour-blind readers (Okabe and Ito, 2008).
TRAINING, VALIDATION, TEST = "#0072B2", "#D55E00", "#009E73"
INK, GREY, PALE_INK, PALE = "#222222", "#666666", "#999999", "#E6E6E6"


def plot_accuracy(
    path: str | os.PathLike[str], history: History, title: str, test_accuracy: float | None = None
) -> None:
    """Write `draw_accuracy` to `path`."""
    _write(path, draw_accuracy(history, title, test_accuracy))


def plot_loss(
    path: str | os.PathLike[str], history: History, title: str, test_loss: float | None = None
) -> None:
    """Write `draw_loss` to `path`."""
    _write(path, draw_loss(history, title, test_loss))


def plot_confusion_matrix(
    path: str | os.PathLike[str], matrix: Array, title: str, names: Sequence[str] | None = None
) -> None:
    """Write `draw_confusion_matrix` to `path`."""
    _write(path, draw_confusion_matrix(matrix, title, names))


def plot_mistakes(
    path: str | os.PathLike[str],
    images: Array,
    labels: Array,
    probabilities: Array,
    title: str,
    count: int = 24,
) -> None:
    """Write `draw_mistakes` to `path`."""
    _write(path, draw_mistakes(images, labels, probabilities, title, count))


def plot_filters(path: str | os.PathLike[str], net: Network, image: Array, title: str) -> None:
    """Write `draw_filters` to `path`."""
    _write(path, draw_filters(net, image, title))


# Curves ------------------------------------------------------------------------------------------


def draw_accuracy(history: History, title: str, test_accuracy: float | None = None) -> Figure:
    """Return the accuracy of every epoch in per cent, on the training and the validation images.

    Args:
        history: a row per epoch, at least one, with `epoch`, `val_loss` and, as fractions,
            `accuracy` and `val_accuracy`.
        title: what was trained on; it opens the heading.
        test_accuracy: drawn at the best epoch, whose weights were tested.
    """
    test = None if test_accuracy is None else 100 * test_accuracy
    return _draw_curves(history, "accuracy", f"{title}: accuracy", test, percent=True)


def draw_loss(history: History, title: str, test_loss: float | None = None) -> Figure:
    """Return the mean cross-entropy of every epoch, on the training and the validation images.

    The marked epoch is the one of `draw_accuracy`, chosen by accuracy: its weights were kept.

    Args:
        history: as for `draw_accuracy`, and with `loss`.
        title: what was trained on; it opens the heading.
        test_loss: drawn at the best epoch, whose weights were tested.
    """
    return _draw_curves(history, "loss", f"{title}: loss", test_loss, percent=False)


def _draw_curves(
    history: History, key: str, heading: str, test: float | None, *, percent: bool
) -> Figure:
    """Return training and validation `key` by epoch, the best epoch and the test result marked."""
    show = "{:.2f} %".format if percent else "{:.4f}".format
    epochs = np.array([row["epoch"] for row in history])
    training, validation = (
        np.array([row[name] for row in history]) * (100 if percent else 1)
        for name in (key, f"val_{key}")
    )
    best = history.index(best_epoch(history))
    remark = (
        "Training is the mean while still learning, validation comes after each epoch. "
        "Legend: the last epoch. Weights kept: the best epoch."
    )
    figure, page = _page(CURVES_WIDTH, CURVES_HEIGHT, heading, remark)
    axes = _curve_axes(figure, f"{key} (%)" if percent else f"{key} (mean cross-entropy)")
    _curve(axes, epochs, training, TRAINING, f"training {show(training[-1])}")
    _curve(axes, epochs, validation, VALIDATION, f"validation {show(validation[-1])}")
    axes.axvline(epochs[best], color=GREY, linewidth=1, linestyle=(0, (4, 4)), zorder=1)
    label = f"best epoch ({epochs[best]:.0f}) {show(validation[best])}"
    _mark(axes, epochs[best], validation[best], "o", 14, "none", VALIDATION, label)
    if test is not None:
        _mark(axes, epochs[best], test, "D", 7, TEST, "white", f"test {show(test)}")
    _legend(axes)
    _scale_epochs(axes, epochs)
    low, high = _zoom(training, validation, test, smallest_span=0.5 if percent else 0.02)
    _scale_values(axes, low, high, top=100 if percent else high)
    starts = {"training": training[0], "validation": validation[0]}
    outside = [f"{name} {show(y)}" for name, y in starts.items() if not low <= y <= high]
    if outside:
        note = f"Outside the axis in epoch {epochs[0]:.0f}: {', '.join(outside)}"
        _text(page, MARGIN + 70, CURVES_HEIGHT - 24, note, 10, GREY)
    return figure


def _curve_axes(figure: Figure, label: str) -> Axes:
    """Return axes under the header, with room for a legend, a light grid and little else."""
    left, top, right, bottom = MARGIN + 70, HEADER + 10, MARGIN, 100
    width, height = CURVES_WIDTH - left - right, CURVES_HEIGHT - top - bottom
    axes = figure.add_axes(
        (left / CURVES_WIDTH, bottom / CURVES_HEIGHT, width / CURVES_WIDTH, height / CURVES_HEIGHT)
    )
    axes.set_facecolor("white")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.grid(axis="y", color=PALE, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=11, colors=INK, pad=6)
    axes.set_xlabel("epoch", fontsize=11, color=INK, labelpad=8)
    axes.set_ylabel(label, fontsize=11, color=INK, labelpad=8)
    return axes


def _curve(axes: Axes, epochs: Array, values: Array, colour: str, label: str) -> None:
    dots = "o" if len(epochs) <= 40 else ""
    axes.plot(epochs, values, color=colour, linewidth=2, marker=dots, markersize=5, label=label)


def _mark(
    axes: Axes, x: float, y: float, marker: str, size: int, face: str, edge: str, label: str
) -> None:
    axes.plot(
        x, y, marker, markersize=size, markerfacecolor=face, markeredgecolor=edge,
        markeredgewidth=1.5, label=label, zorder=4,
    )  # fmt: skip


def _legend(axes: Axes) -> None:
    """Put the legend in a row above the axes, where it cannot hide a curve."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.01, 1), ncols=4, frameon=False, fontsize=11,
        labelcolor=INK, borderaxespad=0.3, columnspacing=2.2, handlelength=1.6,
    )  # fmt: skip


def _scale_epochs(axes: Axes, epochs: Array) -> None:
    """Fit the x axis to the epochs, with ticks at whole epochs and at the first one."""
    first, last = epochs[0], epochs[-1]
    pad = max(0.03 * (last - first), 0.2)
    axes.set_xlim(first - pad, last + pad)
    ticks = epochs
    if len(epochs) > 15:
        locator = MaxNLocator(12, integer=True, steps=[1, 2, 5, 10])
        round_ticks = np.asarray(locator.tick_values(first, last))
        apart = round_ticks >= first + (round_ticks[1] - round_ticks[0]) / 2
        ticks = np.append(first, round_ticks[apart & (round_ticks <= last)])
    axes.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])


def _zoom(
    training: Array, validation: Array, test: float | None, smallest_span: float
) -> tuple[float, float]:
    """Return the limits of a y axis that shows what matters of the values.

    The training value of the first epoch is a mean over weights that were still nearly random. If
    the first twentieth of a run, or that one value of a short run, would take more than half of
    the axis, the zoom leaves it out.
    """
    tested = [] if test is None else [test]
    values = np.concatenate([training, validation, tested])
    skip = len(training) // 20
    later = np.concatenate([training[max(skip, 1) :], validation[skip:], tested])
    if len(training) > 2 and np.ptp(values) > 2 * np.ptp(later):
        values = later
    low, span = values.min(), np.ptp(values)
    pad = max(0.08 * span, (smallest_span - span) / 2)
    return float(low - pad), float(low + span + pad)


def _scale_values(axes: Axes, low: float, high: float, top: float) -> None:
    """Set the limits of the y axis, without ticks where no value can be: below 0, above `top`."""
    ticks = np.asarray(MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(low, high))
    axes.set_yticks(ticks[(ticks >= max(low, 0)) & (ticks <= min(high, top))])
    axes.set_ylim(low, high)
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)


# Confusion matrix --------------------------------------------------------------------------------


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
    figure, page = _page(
        max(left + width + 90 + MARGIN, 1000),
        top + height + MARGIN,
        f"{title}: confusion matrix",
        f"{right:,} of {total:,} right ({_percent(right, total)}), {total - right:,} wrong.",
    )
    columns, rows = left + cell_width * np.arange(k + 1), top + cell_height * np.arange(k + 1)
    _cells(page, columns, rows, matrix)
    recalls = [_percent(matrix[i, i], matrix[i].sum()) for i in range(k)]
    for i, (name, recall) in enumerate(zip(names, recalls, strict=True)):
        x, y = columns[i] + cell_width / 2, rows[i] + cell_height / 2
        _text(page, x, top - 10, name, ha="center", va="bottom", rotation=0 if upright else 90)
        _text(page, left - 12, y, name, ha="right")
        _text(page, left + width + 90, y, recall, colour=GREY, ha="right")
    _text(page, left + width + 90, top - 10, "recall", colour=GREY, ha="right", va="bottom")
    _text(page, left + width / 2, HEADER - 12, "predicted", colour=GREY, ha="center")
    _text(page, MARGIN, top + height / 2, "true", colour=GREY, rotation=90)
    return figure


def _cells(page: Axes, columns: Array, rows: Array, matrix: Array) -> None:
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
        _text(page, x, y, str(matrix[i, j]), size, colour, ha="center")
    if errors.any():
        ramp = _error_colours(np.linspace(0, 1, 101))
        x = page.get_xlim()[1] - MARGIN - 200
        _colour_bar(page, x, 46, 200, ramp, ["0", str(worst)], "errors in a cell")


def _error_colours(shares: Array) -> Array:
    """Return colours for shares of the worst cell: white for none, dark orange for 1."""
    colours: Array = matplotlib.colormaps["Oranges"](0.85 * shares)[..., :3]
    colours[shares == 0] = 1
    return colours


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "-"


# Mistakes ----------------------------------------------------------------------------------------


def draw_mistakes(
    images: Array, labels: Array, probabilities: Array, title: str, count: int = 24
) -> Figure:
    """Return the worst mistakes: the images given to a wrong class with the highest probability.

    Args:
        images: (N, H, W), uint8 in 0..255 or floats in 0..1.
        labels: true classes (N,).
        probabilities: what the network said of each image, (N, K).
        title: what was tested; it opens the heading.
        count: of the mistakes shown, if there are so many.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    columns, tile, pitch, row_height = 8, 140, 160, 200
    remark = (
        f"Wrong answers: {len(wrong):,} of {len(labels):,}. "
        f"Shown: {len(shown)}, those given with most confidence."
    )
    figure, page = _page(
        MARGIN + columns * pitch - (pitch - tile) + MARGIN,
        HEADER + max(-(-len(shown) // columns) * row_height, 40),
        f"{title}: worst mistakes",
        remark if len(wrong) else f"None: all {len(labels):,} images were read correctly.",
    )
    for position, i in enumerate(shown):
        x = MARGIN + position % columns * pitch
        y = HEADER + position // columns * row_height
        _tile(page, x, y, tile, _greys(images[i]))
        _text(page, x, y + tile + 14, f"true {labels[i]}", 10, INK)
        answer = f"predicted {predicted[i]}, {100 * confidence[i]:.1f} %"
        _text(page, x, y + tile + 34, answer, 9, VALIDATION)
    return figure


# Filters -----------------------------------------------------------------------------------------


def draw_filters(net: Network, image: Array, title: str) -> Figure:
    """Return the kernels of the first Conv2D, each beside what it makes of one image.

    Both are signed, so their colours are centred on zero. The kernels share one scale; every
    response has its own, because what matters there is the pattern.

    Args:
        net: any network; without a Conv2D the picture says so.
        image: one input, (H, W) or (C, H, W), uint8 in 0..255 or floats in 0..1.
        title: what was trained on; it opens the heading.
    """
    index = next((i for i, layer in enumerate(net.layers) if isinstance(layer, Conv2D)), None)
    if index is None:
        return _page(1000, HEADER, f"{title}: filters", "This network has no Conv2D.")[0]
    kernels = net.layers[index].parameters()["weights"]  # (F, C, k, k)
    channels = kernels.shape[1]
    kernels = kernels.mean(axis=1)  # (F, k, k)
    responses = _responses(net.layers[: index + 1], channels, image)  # (F, OH, OW)
    remark = "Left of each pair the kernel, right of it what it makes of the image."
    if channels > 1:
        remark += f" Kernels are shown as means over their {channels} channels."
    columns, tile, gap, pitch, row_height = 6, 84, 4, 194, 108
    left = MARGIN + 200
    figure, page = _page(
        left + columns * pitch - (pitch - 2 * tile - gap) + MARGIN,
        HEADER + max(-(-len(kernels) // columns) * row_height, 330),
        f"{title}: filters of {net.layers[index]}",
        remark,
    )
    limit = _largest(kernels)
    for f, (kernel, response) in enumerate(zip(kernels, responses, strict=True)):
        x, y = left + f % columns * pitch, HEADER + f // columns * row_height
        _text(page, x, y - 9, str(f), 9, GREY)
        _tile(page, x, y, tile, _signed_colours(kernel / limit))
        _tile(page, x + tile + gap, y, tile, _signed_colours(response / _largest(response)))
    _text(page, MARGIN, HEADER - 9, "image", 9, GREY)
    _tile(
        page, MARGIN, HEADER, 140, _greys(_ink(image).reshape(-1, *image.shape[-2:]).mean(axis=0))
    )
    ramp = _signed_colours(np.linspace(-1, 1, 101))
    ticks = [f"{-limit:.2g}", "0", f"{limit:.2g}"]
    _colour_bar(page, MARGIN, HEADER + 200, 140, ramp, ticks, "kernel")
    _colour_bar(page, MARGIN, HEADER + 270, 140, ramp, ["-", "0", "+"], "response, own scale")
    return figure


def _responses(layers: Sequence[Layer], channels: int, image: Array) -> Array:
    """Return what the layers, the last of them a Conv2D, make of one image: (F, OH, OW)."""
    x = np.broadcast_to(_ink(image), (1, channels, *image.shape[-2:]))
    for layer in layers:
        x = copy.copy(layer).forward(x)  # a copy: the layer may be waiting for its backward
    return x.reshape(x.shape[1:])


# What they share ---------------------------------------------------------------------------------


def _page(width: int, height: int, heading: str, remark: str) -> tuple[Figure, Axes]:
    """Return a white figure with its heading, and axes over all of it that count pixels."""
    figure = Figure((width / DPI, height / DPI), DPI, facecolor="white")
    FigureCanvasAgg(figure)
    page = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    page.set_axis_off()
    _text(page, MARGIN, 38, heading, 15, INK, weight="bold")
    _text(page, MARGIN, 68, remark, 10, GREY)
    return figure, page


def _text(
    page: Axes, x: float, y: float, text: str, size: float = 11, colour: str = INK, **style: Any
) -> None:
    style.setdefault("va", "center")
    page.text(x, y, text, fontsize=size, color=colour, parse_math=False, **style)


def _tile(page: Axes, x: float, y: float, side: float, picture: Array) -> None:
    """Put a small picture (H, W, 3) into a square of the page, its pixels kept sharp."""
    page.imshow(picture, extent=(x, x + side, y + side, y), aspect="auto", interpolation="nearest")


def _colour_bar(
    page: Axes, x: float, y: float, width: float, ramp: Array, ticks: Sequence[str], label: str
) -> None:
    """Put a colour bar on the page: its label above, the ticks evenly below."""
    page.imshow(ramp[None], extent=(x, x + width, y + 12, y), aspect="auto")
    _text(page, x, y - 12, label, 9, GREY)
    for place, tick in zip(np.linspace(0, 1, len(ticks)), ticks, strict=True):
        ha = {0.0: "left", 1.0: "right"}.get(float(place), "center")
        _text(page, x + place * width, y + 24, tick, 9, GREY, ha=ha)


def _ink(image: Array) -> Array:
    """Return an image with values in 0..1, as the network sees it."""
    return image / np.float32(255) if image.dtype.kind in "ui" else image


def _greys(image: Array) -> Array:
    """Return an image (H, W) as dark ink on light paper (H, W, 3)."""
    return np.repeat(0.95 * (1 - _ink(image))[..., None], 3, axis=2)


def _signed_colours(values: Array) -> Array:
    """Return colours for values in -1..1: blue, white for 0, red. Shape (...) gives (..., 3)."""
    colours: Array = matplotlib.colormaps["RdBu_r"](0.5 + 0.5 * values)[..., :3]
    return colours


def _largest(values: Array) -> float:
    """Return the largest absolute value, or 1 where all are zero."""
    return float(np.abs(values).max()) or 1.0


def _write(path: str | os.PathLike[str], figure: Figure) -> None:
    """Write a figure as PNG, completely or not at all."""
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
