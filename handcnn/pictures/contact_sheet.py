"""Many prepared pictures in one PNG: what the network saw of each, and what it answered."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from handcnn.pictures.drawing import FIELD
from handcnn.storage.files import atomic_write
from handcnn.text import one_line
from handcnn.types import Array

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

MOST_COLUMNS = 10
SIDE = 6 * FIELD  # of a tile, pixels
GAP = 28  # around the tiles and their texts, pixels
LINES = (  # below a tile: where each starts, and its size
    (SIDE + 8, 13),
    (SIDE + 28, 18),
    (SIDE + 54, 13),
)
WHITE, PALE, GREY, BLACK = 255, 235, 110, 0


class Tile(NamedTuple):
    """What a sheet shows of one picture."""

    name: str
    picture: Array | None  # (28, 28), bright on 0; None if it could not be read
    answer: str = ""
    remark: str = ""


def save_sheet(path: str | os.PathLike[str], tiles: Sequence[Tile]) -> None:
    """Write at least one tile as one PNG, up to ten in a row, each with its texts below.

    Raises:
        OSError: the file cannot be written.
    """
    rows = -(-len(tiles) // MOST_COLUMNS)
    columns = -(-len(tiles) // rows)
    used = LINES if any(tile.remark for tile in tiles) else LINES[:2]
    width, height = SIDE + GAP, used[-1][0] + used[-1][1] + GAP
    sheet = Image.new("L", (columns * width + GAP, rows * height + GAP), WHITE)
    for i, tile in enumerate(tiles):
        sheet.paste(_drawn(tile), (GAP + i % columns * width, GAP + i // columns * height))
    with atomic_write(path) as file:
        sheet.save(file, format="PNG")


def _drawn(tile: Tile) -> Image.Image:
    """Return a tile with its texts below."""
    image = Image.new("L", (SIDE, LINES[-1][0] + LINES[-1][1] + 4), WHITE)
    draw = ImageDraw.Draw(image)
    if tile.picture is None:
        draw.rectangle((0, 0, SIDE - 1, SIDE - 1), PALE)
        text, font = "not readable", _font(15)
        draw.text(((SIDE - font.getlength(text)) // 2, SIDE // 2 - 10), text, GREY, font)
    else:
        image.paste(Image.fromarray(tile.picture).resize((SIDE, SIDE), Image.Resampling.NEAREST))
    texts = ((tile.name, GREY), (tile.answer, BLACK), (tile.remark, BLACK))
    for (y, size), (text, grey) in zip(LINES, texts, strict=True):
        font = _font(size)
        draw.text((0, y), _shortened(text, font), grey, font)
    return image


def _font(size: int) -> Font:
    """Return Pillow's own font; it has the letters of ASCII."""
    try:
        return ImageFont.load_default(size)
    except ImportError:  # a Pillow built without FreeType has one small font
        return ImageFont.load_default()


def _shortened(text: str, font: Font) -> str:
    """Return the text in ASCII, escaped, its middle left out if it is wider than a tile."""
    text = one_line(text).encode("ascii", "backslashreplace").decode()
    shown, kept = text, len(text) // 2
    while font.getlength(shown) > SIDE:
        kept -= 1
        shown = f"{text[:kept]}...{text[-kept:]}"
    return shown
