"""Many prepared pictures in one PNG: what the network saw."""

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from handcnn.pictures.drawing import FIELD
from handcnn.storage.files import atomic_write
from handcnn.types import Array


def save_sheet(path: str | os.PathLike[str], pictures: Sequence[Array]) -> None:
    """Write prepared pictures (28, 28) as one PNG, ten in a row, each pixel as a square of 6x6.

    Raises:
        OSError: the file cannot be written.
    """
    columns = min(len(pictures), 10)
    rows = -(-len(pictures) // columns)
    pitch = FIELD + 2  # a thin grey line around each
    sheet = np.full((rows * pitch, columns * pitch), 96, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * pitch + 1, i % columns * pitch + 1
        sheet[y : y + FIELD, x : x + FIELD] = picture
    with atomic_write(path) as file:
        Image.fromarray(sheet.repeat(6, axis=0).repeat(6, axis=1)).save(file, format="PNG")
