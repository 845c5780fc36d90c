"""Read numbers: all digits of a picture, row by row."""

from handcnn.pictures.numbers.reader import Digit, Reading, probabilities, read_digits

__all__ = ["Digit", "Reading", "probabilities", "read_digits"]
