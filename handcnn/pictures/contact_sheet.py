"""Many prepared pictures in one PNG: what the network saw, and its answers.

A number has a large tile for its picture, with a box around each digit, and a small one for each of
its digits.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from handcnn.pictures.drawing import FIELD
from handcnn.storage.files import atomic_write
from handcnn.text import one_line, shortened
from handcnn.types import Array

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

MAX_COLUMNS = 10
SIDE = 6 * FIELD  # of a tile, in pixels
GAP = 28  # pixels between the tiles with their texts
NUMBER_TILE_SIDE = 4 * SIDE + 3 * GAP  # longer side of the tile of a number
NAME, ANSWER, REMARK, TEXTS = 8, 28, 52, 68  # y of the texts below a picture, and their height
PALE, GREY, RED = (235,) * 3, (110,) * 3, (220, 60, 30)


class Tile(NamedTuple):
    """One picture on a sheet."""

    name: str
    picture: Array | None = None  # (28, 28), bright on 0; None if it could not be read
    answer: str = ""
    probability: str = ""
    boxes: Sequence[tuple[int, int, int, int]] = ()  # of digits in a picture (h, w) of any size
    doubt: str = ""  # why it looks like no digit, or ""

    @property
    def size(self) -> tuple[int, int]:
        """The width and height of its picture on the sheet, in pixels."""
        if not self.boxes or self.picture is None:
            return SIDE, SIDE
        height, width = self.picture.shape
        factor = NUMBER_TILE_SIDE / max(height, width)
        return max(1, round(width * factor)), max(1, round(height * factor))


def save_sheet(path: str | os.PathLike[str], tiles: Sequence[Tile]) -> None:
    """Write one or more tiles to a PNG, up to ten in a row, each with its texts below.

    Raises:
        OSError: the file cannot be written.
    """
    x = y = lower = right = GAP
    columns = -(-len(tiles) // -(-len(tiles) // MAX_COLUMNS))  # in rows of about the same length
    places = []
    for tile in tiles:
        width, height = tile.size
        if x + width > columns * (SIDE + GAP) or (tile.boxes and x > GAP):
            x, y = GAP, lower
        places.append((x, y))
        lower = max(lower, y + height + TEXTS + GAP)
        right = max(right, x + max(width, SIDE) + GAP)
        x += MAX_COLUMNS * SIDE if tile.boxes else width + GAP  # nothing beside a number
    sheet = Image.new("RGB", (right, lower), "white")
    for tile, place in zip(tiles, places, strict=True):
        sheet.paste(_drawn(tile), place)
    with atomic_write(path) as file:
        sheet.save(file, format="PNG")


def _drawn(tile: Tile) -> Image.Image:
    """Return a tile with its texts below."""
    width, height = tile.size
    room = max(width, SIDE)
    image = Image.new("RGB", (room, height + TEXTS), "white")
    draw = ImageDraw.Draw(image)
    small, large = load_font(13), load_font(18)
    draw.text((0, height + NAME), _fitted(tile.name, small, room), GREY, small)
    if tile.picture is None:
        draw.rectangle((0, 0, SIDE, SIDE - 1), PALE)
        draw.text((SIDE // 2 - 40, SIDE // 2 - 9), "not readable", GREY, small)
        return image
    method = Image.Resampling.BILINEAR if tile.boxes else Image.Resampling.NEAREST
    image.paste(Image.fromarray(tile.picture.astype(np.uint8)).resize((width, height), method))
    factor = width / tile.picture.shape[1]
    for box in tile.boxes:
        left, top, right, bottom = (factor * edge for edge in box)
        draw.rectangle((left - 2, top - 2, right + 1, bottom + 1), None, RED, 2)
    room = int(room - small.getlength(tile.probability))
    draw.text((room, height + ANSWER + 4), tile.probability, GREY, small)
    draw.text((0, height + ANSWER), _fitted(tile.answer, large, room - 8), "black", large)
    if tile.doubt:
        draw.text((0, height + REMARK), "no strokes?", "black", small)
    return image


def load_font(size: int) -> Font:
    """Return Pillow's default font, which covers ASCII."""
    try:
        return ImageFont.load_default(size)
    except ImportError:  # Pillow without FreeType has only one small font
        return ImageFont.load_default()


def _fitted(text: str, font: Font, width: int) -> str:
    """Return the text in ASCII, escaped; its middle is left out if it is wider than `width`."""
    text = one_line(text).encode("ascii", "backslashreplace").decode()
    return shortened(text, lambda shown: font.getlength(shown) <= width, "...")
