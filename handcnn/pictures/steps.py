"""Draw how a picture becomes an image like those of MNIST: a strip with a picture for each step."""

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from handcnn.pictures.contact_sheet import GAP, PALE, SIDE, load_font
from handcnn.pictures.digit import digit_among
from handcnn.pictures.ink import ink_in
from handcnn.pictures.paper import without_desk
from handcnn.pictures.preparing import examine_picture, find_strokes, grey_values
from handcnn.storage.files import atomic_write
from handcnn.types import Array

CAPTION = 24  # height of the text below a picture, in pixels


def steps_of(grey: npt.ArrayLike) -> list[tuple[str, Array]]:
    """Return the steps from a grey picture (H, W) to 28x28: a caption and a picture for each.

    All pictures have values from 0 to 255.

    Raises:
        HandcnnError: the picture is blank, or a value is NaN or infinite.
    """
    picture = grey_values(grey)
    _, sheet = without_desk(picture)
    raw, _ = ink_in(sheet)
    strokes = find_strokes(grey)
    ink, mask = strokes.ink[strokes.sheet], strokes.mask[strokes.sheet]
    brightest = np.percentile(ink[mask], 90)
    return [
        ("the picture", picture),
        ("the sheet", sheet),
        ("the ink", 255 * np.clip(raw / brightest, 0, 1)),
        ("without lines", 255 * np.clip(ink / brightest, 0, 1)),
        ("the strokes", 255 * mask),
        ("the digit", 255 * digit_among(mask)),
        ("as MNIST has it", examine_picture(grey).image),
    ]


def save_steps(path: str | os.PathLike[str], pictures: Sequence[npt.ArrayLike]) -> None:
    """Write the steps of one or more grey pictures to a PNG, a row for each picture.

    Raises:
        HandcnnError: as `steps_of`.
        OSError: the file cannot be written.
    """
    rows = [steps_of(picture) for picture in pictures]
    height, width = SIDE + CAPTION + GAP, SIDE + GAP
    strip = Image.new("RGB", (GAP + len(rows[0]) * width, GAP + len(rows) * height), "white")
    draw = ImageDraw.Draw(strip)
    for row, steps in enumerate(rows):
        for column, (caption, picture) in enumerate(steps):
            x, y = GAP + column * width, GAP + row * height
            draw.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), PALE)
            strip.paste(_fitted(picture), (x, y))
            draw.text((x, y + SIDE + 6), caption, "black", load_font(13))
    with atomic_write(path) as file:
        strip.save(file, format="PNG")


def _fitted(picture: Array) -> Image.Image:
    """Return the picture with its longer side as long as a tile's."""
    image = Image.fromarray(picture.astype(np.uint8))
    factor = SIDE / max(image.size)
    method = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BOX
    return image.resize(
        (max(1, int(image.width * factor)), max(1, int(image.height * factor))), method
    )
