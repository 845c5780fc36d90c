"""The types that every room shares: an array of numbers, and the shape of one."""

from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
