"""Shared types: arrays of numbers, and their shapes."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
UInt8 = npt.NDArray[np.uint8]  # grey values or labels
Shape = tuple[int, ...]
