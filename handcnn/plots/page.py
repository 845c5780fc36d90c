"""What the pictures share: a page measured in pixels, what is put on it, its colours, its file.

The y axis of a page points down, like the lines of a text.
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
from matplotlib.patches import Rectangle

from handcnn.errors import HandcnnError
from handcnn.storage.files import atomic_write
from handcnn.types import Array

DPI = 110
MARGIN = 40  # pixels, left and right of everything
HEADER = 120  # pixels from the top of the page to the top of the drawing

# Colours that colour-blind readers can tell apart (Okabe and Ito, 2008).
TRAINING, VALIDATION, TEST = "#0072B2", "#D55E00", "#009E73"
INK, GREY, PALE_INK, PALE = "#222222", "#666666", "#999999", "#E6E6E6"


@contextmanager
def default_settings() -> Iterator[None]:
    """Let matplotlib forget its user's settings meanwhile, so that pictures are the same for all.

    This decorates whatever draws. Settings are global: another thread that draws sees it, too.
    """
    defaults = dict(matplotlib.rcParamsDefault)
    del defaults["backend"]  # rc_context would not restore it, and no picture depends on it
    with matplotlib.rc_context(defaults):
        yield


@default_settings()
def save_figure(path: str | os.PathLike[str], figure: Figure) -> None:
    """Write a figure as PNG, completely or not at all. The same figure gives the same bytes."""
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})


def new_page(width: int, height: int, heading: str, remark: str) -> tuple[Figure, Axes]:
    """Return a white figure with its heading, and axes over all of it that count pixels."""
    figure = Figure((width / DPI, height / DPI), DPI, facecolor="white")
    FigureCanvasAgg(figure)
    page = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    page.set_axis_off()
    put_text(page, MARGIN, 38, heading, 15, INK, weight="bold")
    put_text(page, MARGIN, 68, remark, 10, GREY)
    return figure, page


def put_text(
    page: Axes, x: float, y: float, text: str, size: float = 11, colour: str = INK, **style: Any
) -> None:
    """Write a text, by default to the right of `x` and vertically centred on `y`."""
    style.setdefault("va", "center")
    page.text(x, y, text, fontsize=size, color=colour, parse_math=False, **style)


def put_tile(page: Axes, x: float, y: float, side: float, picture: Array) -> None:
    """Put a small picture (H, W, 3) into a framed square of the page; its pixels stay sharp."""
    page.imshow(picture, extent=(x, x + side, y + side, y), aspect="auto", interpolation="nearest")
    page.add_patch(Rectangle((x, y), side, side, fill=False, edgecolor=PALE, linewidth=0.8))


def put_colour_bar(
    page: Axes, x: float, y: float, width: float, ramp: Array, ticks: Sequence[str], label: str
) -> None:
    """Put a colour bar on the page: its label above, evenly spaced ticks below."""
    page.imshow(ramp[None], extent=(x, x + width, y + 12, y), aspect="auto")
    put_text(page, x, y - 12, label, 9, GREY)
    for place, tick in zip(np.linspace(0, 1, len(ticks)), ticks, strict=True):
        ha = {0.0: "left", 1.0: "right"}.get(float(place), "center")
        put_text(page, x + place * width, y + 24, tick, 9, GREY, ha=ha)


def check_range(name: str, values: npt.ArrayLike, low: float, high: float) -> None:
    """Refuse what no picture can show.

    Raises:
        HandcnnError: one of the values is not a number from `low` to `high`.
    """
    values = np.asarray(values, np.float64)
    outside = values[~((values >= low) & (values <= high))]
    if outside.size:
        raise HandcnnError(
            f"the {name} to draw must be numbers from {low:.7g} to {high:.7g}, got {outside[0]:g}"
        )


def ink(image: Array) -> Array:
    """Return an image with values in 0..1, as the network sees it."""
    return image / np.float32(255) if image.dtype.kind in "ui" else image


def greys(image: Array) -> Array:
    """Return an image (H, W) as dark ink on light paper (H, W, 3)."""
    return np.repeat(0.95 * (1 - np.clip(ink(image), 0, 1))[..., None], 3, axis=2)


def colour_map(name: str, values: Array) -> Array:
    """Return the colours (..., 3) of one of matplotlib's maps for values (...) in 0..1."""
    colours: Array = matplotlib.colormaps[name](values)[..., :3]
    return colours
