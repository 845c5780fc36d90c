"""Many prepared pictures in one PNG: what the network saw, and its answers."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from handcnn.pictures.drawing import FIELD
from handcnn.storage.files import atomic_write
from handcnn.text import one_line, shortened
from handcnn.types import Array

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

MAX_COLUMNS = 10
SIDE = 6 * FIELD  # of a tile, in pixels
GAP = 28  # pixels between the tiles with their texts
NAME, ANSWER, REMARK, BOTTOM = SIDE + 8, SIDE + 28, SIDE + 54, SIDE + 70  # y of the texts
WHITE, PALE, GREY, BLACK = 255, 235, 110, 0


class Tile(NamedTuple):
    """One picture on a sheet."""

    name: str
    picture: Array | None = None  # (28, 28), bright on 0; None if it could not be read
    answer: str = ""
    probability: str = ""
    several: bool = False  # whether there seem to be several digits
    doubt: str = ""  # why it looks like no digit, or ""


def save_sheet(path: str | os.PathLike[str], tiles: Sequence[Tile]) -> None:
    """Write one or more tiles to a PNG, up to ten in a row, each with its texts below.

    Raises:
        OSError: the file cannot be written.
    """
    rows = -(-len(tiles) // MAX_COLUMNS)
    columns = -(-len(tiles) // rows)
    width = SIDE + GAP
    height = (BOTTOM if any(tile.several or tile.doubt for tile in tiles) else REMARK) + GAP
    sheet = Image.new("L", (GAP + columns * width, GAP + rows * height), WHITE)
    for i, tile in enumerate(tiles):
        sheet.paste(_drawn(tile), (GAP + i % columns * width, GAP + i // columns * height))
    with atomic_write(path) as file:
        sheet.save(file, format="PNG")


def _drawn(tile: Tile) -> Image.Image:
    """Return a tile with its texts below."""
    image = Image.new("L", (SIDE, BOTTOM), WHITE)
    draw = ImageDraw.Draw(image)
    small, large = _font(13), _font(18)
    draw.text((0, NAME), _fitted(tile.name, small, SIDE), GREY, small)
    if tile.picture is None:
        draw.rectangle((0, 0, SIDE, SIDE - 1), PALE)
        draw.text((SIDE // 2 - 40, SIDE // 2 - 9), "not readable", GREY, small)
        return image
    image.paste(Image.fromarray(tile.picture).resize((SIDE, SIDE), Image.Resampling.NEAREST))
    room = int(SIDE - small.getlength(tile.probability))
    draw.text((room, ANSWER + 4), tile.probability, GREY, small)
    draw.text((0, ANSWER), _fitted(tile.answer, large, room - 8), BLACK, large)
    if tile.doubt or tile.several:
        draw.text((0, REMARK), "no strokes?" if tile.doubt else "several digits?", BLACK, small)
    return image


def _font(size: int) -> Font:
    """Return Pillow's default font, which covers ASCII."""
    try:
        return ImageFont.load_default(size)
    except ImportError:  # Pillow without FreeType has only one small font
        return ImageFont.load_default()


def _fitted(text: str, font: Font, width: int) -> str:
    """Return the text in ASCII, escaped; its middle is left out if it is wider than `width`."""
    text = one_line(text).encode("ascii", "backslashreplace").decode()
    return shortened(text, lambda shown: font.getlength(shown) <= width, "...")
