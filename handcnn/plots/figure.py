"""Shared by all plots: a figure measured in pixels, its elements, its colours, its file.

Everything is placed in pixels from the upper left corner of the figure; y points down.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Rectangle

from handcnn.errors import HandcnnError
from handcnn.storage.files import atomic_write
from handcnn.text import one_line, shortened
from handcnn.types import Array

DPI = 110
MARGIN = 40  # pixels, left and right of everything
HEADER = 132  # pixels from the top of the figure to the plot below its heading

# Colours that colour-blind readers can tell apart (Okabe and Ito, 2008).
TRAINING, VALIDATION, TEST = "#0072B2", "#D55E00", "#009E73"
INK, GREY, PALE_INK, PALE = "#222222", "#666666", "#999999", "#E6E6E6"


@contextmanager
def default_settings() -> Iterator[None]:
    """Draw with matplotlib's default settings, so that plots do not depend on the user's.

    It decorates every function that plots. The settings are global, so other threads that plot see
    them, too.
    """
    defaults = dict(matplotlib.rcParamsDefault)
    del defaults["backend"]  # rc_context would not restore it, and no plot depends on it
    with matplotlib.rc_context(defaults):
        yield


@default_settings()
def save_figure(path: str | os.PathLike[str], figure: Figure) -> None:
    """Write a figure as PNG, completely or not at all. The same figure gives the same bytes."""
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})


def new_figure(
    width: int, height: int, heading: str, remark: str, run: str = ""
) -> tuple[Figure, Axes]:
    """Return a white figure with a heading, and axes over all of it whose unit is the pixel.

    Below the heading stand the network and options of the run, if given, and a remark.
    """
    figure = Figure((width / DPI, height / DPI), DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    put_text(axes, MARGIN, 38, heading, 15, INK, weight="bold")
    put_text(axes, MARGIN, 62, fitted(run, width - 2 * MARGIN, 10), 10, INK)
    put_text(axes, MARGIN, 84 if run else 68, remark, 10, GREY)
    return figure, axes


def put_text(
    axes: Axes, x: float, y: float, text: str, size: float = 11, colour: str = INK, **style: Any
) -> None:
    """Draw a text, by default to the right of `x` and vertically centred on `y`."""
    style.setdefault("va", "center")
    axes.text(x, y, drawable(text), fontsize=size, color=colour, parse_math=False, **style)


def drawable(text: str) -> str:
    """Return a text on one line, with characters that the font lacks escaped."""
    has = _font().get_char_index
    return "".join(
        letter if has(ord(letter)) else letter.encode("unicode_escape").decode()
        for letter in one_line(text)
    )


def text_width(text: str, size: float = 11) -> float:
    """Return the width of a text in pixels."""
    font = _font()
    font.set_size(size, DPI)
    font.set_text(drawable(text))
    return float(font.get_width_height()[0]) / 64  # its unit is 1/64 pixel


def fitted(text: str, width: float, size: float = 11) -> str:
    """Return a text of at most `width` pixels; if it is too wide, its middle is left out."""
    dots = "\N{HORIZONTAL ELLIPSIS}"
    return shortened(drawable(text), lambda shown: text_width(shown, size) <= width, dots)


def _font() -> FT2Font:
    return get_font(findfont("DejaVu Sans"))


def put_tile(axes: Axes, x: float, y: float, side: float, image: Array) -> None:
    """Put a small image (H, W, 3) into a framed square; its pixels stay sharp."""
    axes.imshow(image, extent=(x, x + side, y + side, y), aspect="auto", interpolation="nearest")
    axes.add_patch(Rectangle((x, y), side, side, fill=False, edgecolor=PALE, linewidth=0.8))


def put_colour_bar(
    axes: Axes, x: float, y: float, width: float, ramp: Array, ticks: Sequence[str], label: str
) -> None:
    """Put a colour bar into the figure: its label above, evenly spaced ticks below."""
    axes.imshow(ramp[None], extent=(x, x + width, y + 12, y), aspect="auto")
    put_text(axes, x, y - 12, label, 9, GREY)
    for place, tick in zip(np.linspace(0, 1, len(ticks)), ticks, strict=True):
        ha = {0.0: "left", 1.0: "right"}.get(float(place), "center")
        put_text(axes, x + place * width, y + 24, tick, 9, GREY, ha=ha)


def check_range(name: str, values: npt.ArrayLike, low: float, high: float) -> None:
    """Refuse values that cannot be plotted.

    Raises:
        HandcnnError: one of the values is not a number from `low` to `high`.
    """
    values = np.asarray(values, np.float64)
    outside = values[~((values >= low) & (values <= high))]
    if outside.size:
        raise HandcnnError(
            f"the {name} to plot must be numbers from {low:.7g} to {high:.7g}, got {outside[0]:g}"
        )


def ink(image: Array) -> Array:
    """Return an image with values in 0..1, the input of a network."""
    return image / np.float32(255) if image.dtype.kind in "ui" else image


def greys(image: Array) -> Array:
    """Return an image (H, W) as dark ink on light paper (H, W, 3)."""
    return np.repeat(0.95 * (1 - np.clip(ink(image), 0, 1))[..., None], 3, axis=2)


def scaled(values: Array) -> Array:
    """Return values divided by the largest absolute one, so that they lie in -1..1."""
    return values / (float(np.abs(values).max()) or 1.0)


def signed_colours(values: Array) -> Array:
    """Return colours (..., 3) for values (...) in -1..1: blue, white for 0, red."""
    return colour_map("RdBu_r", 0.5 + 0.5 * values)


def colour_map(name: str, values: Array) -> Array:
    """Return the colours (..., 3) of one of matplotlib's maps for values (...) in 0..1."""
    colours: Array = matplotlib.colormaps[name](values)[..., :3]
    return colours
