"""Checks of arguments and arrays. Each message says what was expected, what came, and the fix.

A message begins with `layer`: a layer, or the name of its class.
"""

from math import inf, prod
from typing import cast

import numpy as np
import numpy.typing as npt

from handcnn.types import Array, Shape

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


def check_size(layer: object, name: str, value: int, smallest: int = 1) -> int:
    """Return a constructor argument as an int if it is a whole number of at least `smallest`."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < smallest:
        raise ValueError(
            f"{layer} expects {name} to be a whole number of at least {smallest}, got {value!r}"
        )
    return int(value)


def check_learning_rate(layer: object, rate: float) -> float:
    """Return the learning rate if it is a finite number of at least 0."""
    is_number = isinstance(rate, int | float | np.integer | np.floating)
    if not is_number or isinstance(rate, bool) or not 0 <= float(rate) < inf:
        raise ValueError(
            f"{layer} expects learning_rate to be a finite number of at least 0, got {rate!r}"
        )
    return rate


def check_dtype(layer: object, dtype: npt.DTypeLike) -> None:
    """Raise a ValueError unless the dtype is float32 or float64."""
    if np.dtype(dtype) not in DTYPES:
        raise ValueError(
            f"{layer} expects dtype float32 or float64, got {np.dtype(dtype)}; "
            "omit dtype to get float32"
        )


def check_parameter(layer: object, name: str, value: npt.ArrayLike, shape: Shape) -> Array:
    """Return a parameter as an array if it has the right shape and is float32 or float64."""
    array = np.asarray(value)
    if array.shape != shape:
        raise ValueError(
            f"{layer} expects {name} of shape {shape}, got {array.shape}; "
            "assign an array of that shape"
        )
    if array.dtype not in DTYPES:
        raise ValueError(
            f"{layer} expects {name} of dtype float32 or float64, got {array.dtype}; "
            "convert the array with .astype(numpy.float32)"
        )
    return array


def check_real(layer: object, x: npt.ArrayLike) -> Array:
    """Return `x` as an array if its numbers are real; a cast would drop imaginary parts."""
    array = np.asarray(x)
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{layer} expects x of real numbers, got {array.dtype}; "
            "convert the array with .astype(numpy.float32)"
        )
    return array


def show_shape(shape: tuple[int | str, ...]) -> str:
    """Return a shape as Python prints it, but with letters such as N unquoted."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def channel_hint(shape: tuple[int | str, ...], C: int) -> str:
    """Return advice on how to turn an array of this shape into (N, C, H, W)."""
    if len(shape) == 2 and C == 1:
        return "one image becomes x[None, None], flat images x.reshape(-1, 1, H, W)"
    if len(shape) == 2:
        return f"reshape flat images with x.reshape(-1, {C}, H, W)"
    if len(shape) == 3 and C == 1:
        return "add the channel axis with x[:, None]"
    if len(shape) == 3 and shape[0] == C:
        return "add the batch axis with x[None]"
    if len(shape) == 4 and shape[3] == C:
        return "move the channels to the front with x.transpose(0, 3, 1, 2)"
    return f"the second axis, the channels, must have size {C}"


def dense_hint(shape: tuple[int | str, ...], D: int) -> str:
    """Return advice on how to turn an array of this shape into (N, D)."""
    if shape == (D,):
        return "add the batch axis with x[None]"
    if len(shape) > 1 and prod(cast(Shape, shape[1:])) == D:
        return f"flatten it with x.reshape(len(x), {D})"
    return "set input_size to the size of one input, or change the input"
