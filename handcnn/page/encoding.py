"""Arrays as text, for JSON: base64 of their bytes.

Signed values are scaled to whole numbers from -127 to 127; 0 stays 0, so that it keeps its colour.
"""

import base64

import numpy as np

from handcnn.types import Array

LEVELS = 127  # of each sign


def levels(values: Array, axis: tuple[int, ...] | None = None) -> Array:
    """Return signed values as int8, scaled so that the largest along the axes is 127 or -127."""
    largest = np.abs(values).max(axis or None, keepdims=True)
    return np.rint(values * (LEVELS / np.where(largest == 0, 1, largest))).astype(np.int8)


def base64_text(array: Array) -> str:
    """Return the bytes of an array as base64 text."""
    return base64.b64encode(array.tobytes()).decode()
