"""Turn any picture into a 28x28 image: of a digit, as MNIST draws it; of anything else, whole."""

from handcnn.pictures.contact_sheet import Tile, save_sheet
from handcnn.pictures.numbers import (
    Digit,
    Reading,
    probabilities,
    read_digits,
    read_picture,
)
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
from handcnn.pictures.whole import preparation_of_arrays, prepare, prepare_whole

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
    "preparation_of_arrays",
    "prepare",
    "prepare_picture",
    "prepare_whole",
    "probabilities",
    "read_digits",
    "read_picture",
    "save_sheet",
    "save_steps",
    "to_batch",
]
