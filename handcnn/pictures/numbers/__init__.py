"""Read numbers: all digits of a picture, row by row."""

from handcnn.pictures.numbers.reader import (
    DOUBTFUL,
    NO_PROBABILITIES,
    Digit,
    Reading,
    probabilities,
    read_digits,
    read_picture,
    runners_up,
)

__all__ = [
    "DOUBTFUL",
    "NO_PROBABILITIES",
    "Digit",
    "Reading",
    "probabilities",
    "read_digits",
    "read_picture",
    "runners_up",
]
