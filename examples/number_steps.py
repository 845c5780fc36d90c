"""Draw how a number is read: the picture, its pieces, the candidates, and the best path.

    python -m examples.number_steps docs/numbers.png

The number is made of MNIST's validation digits, which touch. Below the picture, every piece has its
colour. Below the pieces stand the candidates, each under its first piece: the judge's odds that it
is a digit, as a logarithm, and a frame around those on the best path.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.numbers import compose, load_writers
from data import load_dataset
from handcnn.pictures import find_strokes
from handcnn.pictures.numbers.candidates import Row, candidates, sketch
from handcnn.pictures.numbers.judge import judge
from handcnn.pictures.numbers.layout import rows_in
from handcnn.pictures.numbers.path import best_path
from handcnn.types import Array

WRITER = 28  # of the number, whose digits all touch
LARGE = 9  # pixels of the drawing for each of the picture
COLUMN = 62  # width of a column of candidates
COLOURS = [(214, 76, 60), (66, 133, 190), (236, 170, 50), (96, 160, 90), (140, 90, 170)]
FRAME = (214, 76, 60)


def main(path: Path) -> None:
    """Save the drawing as a PNG."""
    images, _ = load_dataset("mnist").validation
    rng = np.random.default_rng(0)
    number = load_writers()[WRITER][:3]
    picture = compose(images[number], "touching", "level", rng)
    strokes = find_strokes(picture)
    ink = strokes.ink / np.median(strokes.ink[strokes.mask])
    (row, *_), _ = rows_in(ink, strokes.mask, None)
    drawn_row(255 - picture, row).save(path)


def drawn_row(picture: Array, row: Row) -> Image.Image:
    """Return the drawing of a picture (H, W) with one row."""
    found = candidates(row)
    images = [sketch(row, candidate) for candidate in found]
    odds = dict(zip(found, judge(images).odds, strict=True))
    digits = best_path(row, odds).digits
    height, width = row.pieces.shape
    most = max(sum(first == piece for first, _ in found) for piece in range(len(row.boxes)))
    sheet_width = max(2 * width * LARGE + 60, COLUMN * len(row.boxes) + 40)
    sheet = Image.new("RGB", (sheet_width, height * LARGE + 60 + (COLUMN + 22) * most), "white")
    top, left = row.corner
    sheet.paste(enlarged(picture[top : top + height, left : left + width]), (20, 20))
    sheet.paste(enlarged(in_colours(row)), (40 + width * LARGE, 20))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    next_y = dict.fromkeys(range(len(row.boxes)), height * LARGE + 50)
    for (first, end), image in zip(found, images, strict=True):
        x, y = 20 + COLUMN * first, next_y[first]
        next_y[first] += COLUMN + 22
        sheet.paste(Image.fromarray(255 - image).resize((56, 56)), (x, y))
        text = f"{first}-{end - 1}  {odds[first, end]:+.1f}"
        draw.text((x, y + 58), text, "black", font)
        if (first, end) in digits:
            draw.rectangle((x - 3, y - 3, x + 58, y + 76), None, FRAME, 3)
    return sheet


def in_colours(row: Row) -> Array:
    """Return the pieces of a row in colours (h, w, 3) uint8, on white."""
    colours = np.array([*COLOURS, (255, 255, 255)], np.uint8)
    numbers = np.where(row.pieces < 0, len(COLOURS), row.pieces % len(COLOURS))
    coloured: Array = colours[numbers]
    return coloured


def enlarged(picture: Array) -> Image.Image:
    """Return a picture (h, w) or (h, w, 3) with larger pixels."""
    height, width = picture.shape[:2]
    size = (width * LARGE, height * LARGE)
    return Image.fromarray(picture).resize(size, Image.Resampling.NEAREST).convert("RGB")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m examples.number_steps FILE.png")
    main(Path(sys.argv[1]))
