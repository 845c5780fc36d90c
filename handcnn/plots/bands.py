"""What do the later layers compute? A band for each: its maps, its units, or its probabilities."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from handcnn.layers import InputLayer, Layer, MaxPool2D, OutputLayer, ReLU
from handcnn.plots.figure import (
    GREY,
    INK,
    MARGIN,
    PALE,
    fitted,
    put_text,
    put_tile,
    scaled,
    signed_colours,
)
from handcnn.text import percent
from handcnn.types import Array

MAX_MAPS = 16  # the most maps in a band
MAP, MAP_PITCH = 56, 62  # the side of a map, and the distance from map to map, in pixels
UNITS, MAX_UNIT_ROWS = 64, 4  # units of a dense layer per row; the most rows
UNIT = 14  # the height of a unit in pixels
BARS = 40  # the height in pixels of a bar for probability 1
MAX_NAMES = 20  # the most classes whose names fit below their bars
GAP = 26  # pixels between two bands


class Band(NamedTuple):
    """A layer, and its output for one image."""

    label: str
    output: Array  # maps (C, H, W), or units (M,)
    is_answer: bool = False  # whether the units are class probabilities

    @property
    def shown(self) -> int:
        """How many maps or units are shown."""
        most = MAX_MAPS if self.output.ndim == 3 else UNITS * MAX_UNIT_ROWS
        return min(len(self.output), most)

    @property
    def height(self) -> int:
        """The height in pixels, including the gap to the next band."""
        if self.is_answer:
            return BARS + 16 + GAP
        inside = MAP if self.output.ndim == 3 else -(-self.shown // UNITS) * UNIT
        return max(inside, 34) + GAP


def bands_of(layers: Sequence[Layer], outputs: Sequence[Array]) -> list[Band]:
    """Return a band for each layer; a pooling and a ReLU next to each other share one."""
    bands: list[Band] = []
    before: Layer | None = None
    for layer, output in zip(layers, outputs, strict=True):
        label = str(layer)
        if isinstance(layer, MaxPool2D | ReLU) and isinstance(before, MaxPool2D | ReLU):
            label = f"{bands.pop().label}, {label}"
        if not isinstance(layer, InputLayer):
            values = output if output.ndim == 3 else output.ravel()
            bands.append(Band(label, values, isinstance(layer, OutputLayer)))
        before = layer
    return bands


def put_band(
    axes: Axes, x: float, y: float, width: float, band: Band, names: Sequence[str] | None
) -> None:
    """Put a band into the figure: its label at the left, its maps, units or bars from `x` on."""
    count = len(band.output)
    label = band.label.replace("->", "\N{RIGHTWARDS ARROW}")
    put_text(axes, MARGIN, y + 7, fitted(label, x - MARGIN - 6, 9), 9, INK)
    note = str(band.output.shape).replace(",)", ")")
    if band.shown < count:
        note += f": {band.shown} of {count:,}"
    if band.is_answer:
        answer = int(band.output.argmax())
        name = str(answer) if names is None else fitted(names[answer], 90, 9)
        note = f"{name}, {percent(band.output[answer])}"
        _put_bars(axes, x, y, width, band.output, names)
    elif band.output.ndim == 3:
        for i, values in enumerate(band.output[: band.shown]):
            put_tile(axes, x + i * MAP_PITCH, y, MAP, signed_colours(scaled(values)))
    else:
        _put_units(axes, x, y, width, band.output[: band.shown])
    put_text(axes, MARGIN, y + 25, note, 9, GREY)


def _put_units(axes: Axes, x: float, y: float, width: float, values: Array) -> None:
    """Put a cell for each unit, row by row."""
    rows = -(-len(values) // UNITS)
    cells = np.ones((rows * UNITS, 3))  # the cells after the last unit stay white
    cells[: len(values)] = signed_colours(scaled(values))
    columns, lines = x + width * np.linspace(0, 1, UNITS + 1), y + UNIT * np.arange(rows + 1)
    colours = cells.reshape(rows, UNITS, 3)
    axes.pcolormesh(columns, lines, colours, edgecolors="white", linewidth=1)


def _put_bars(
    axes: Axes, x: float, y: float, width: float, values: Array, names: Sequence[str] | None
) -> None:
    """Put a bar for each class, with its name below."""
    slot, bottom = width / len(values), y + BARS
    axes.add_patch(Rectangle((x, bottom), width, 1, color=PALE, linewidth=0))
    for i, value in enumerate(values):
        left, side = x + i * slot, min(max(slot - 2, 1), MAP)
        bar = (left + (slot - side) / 2, bottom - BARS * value)
        axes.add_patch(Rectangle(bar, side, BARS * value, color=GREY, linewidth=0))
        if len(values) <= MAX_NAMES:
            name = str(i) if names is None else fitted(names[i], slot - 14, 9)
            put_text(axes, left + slot / 2, bottom + 12, name, 9, GREY, ha="center")
