"""Turn any picture of a digit into a 28x28 image like those of MNIST."""

from handcnn.pictures.contact_sheet import Tile, save_sheet
from handcnn.pictures.numbers import Digit, Reading, probabilities, read_digits
from handcnn.pictures.preparing import (
    Prepared,
    Strokes,
    examine_picture,
    find_strokes,
    prepare_picture,
    to_batch,
)
from handcnn.pictures.reading import load_picture, picture_size
from handcnn.pictures.steps import save_steps

__all__ = [
    "Digit",
    "Prepared",
    "Reading",
    "Strokes",
    "Tile",
    "examine_picture",
    "find_strokes",
    "load_picture",
    "picture_size",
    "prepare_picture",
    "probabilities",
    "read_digits",
    "save_sheet",
    "save_steps",
    "to_batch",
]
