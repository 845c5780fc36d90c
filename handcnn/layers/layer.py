"""The base classes of the layers: the contract between a layer and the network.

`forward(x)` returns the output and keeps what `backward` needs. `backward(dout)` takes the gradient
of the loss with respect to that output, stores the gradient of every parameter on the layer
(`dweights` for `weights`), and returns `dx`, the gradient with respect to the input.
`update_params()` takes one SGD step.

A layer never writes into `x` or `dout`. `forward` keeps `x` itself, not a copy, unless it has to
convert the dtype. So do not change `x` before `backward`.
"""

from collections.abc import Mapping
from math import prod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from handcnn.kernels.products import sgd_update
from handcnn.layers.checks import (
    DTYPES,
    check_dtype,
    check_learning_rate,
    check_parameter,
    check_real,
)
from handcnn.types import Array, Shape

STANDARD_DEVIATION = 0.01  # of the initial weights


class Layer:
    """A layer without parameters. A subclass needs only `forward` and `backward`."""

    arguments: ClassVar[tuple[str, ...]] = ()  # constructor arguments, stored under these names
    x: Array  # the input of the last `forward`

    def forward(self, x: Array) -> Array:
        """Return the output for the batch `x`; keep what `backward` needs."""
        raise NotImplementedError

    def backward(self, dout: Array) -> Array:
        """Return `dx` for the gradient `dout` of the loss with respect to the last output."""
        raise NotImplementedError

    def backward_parameters(self, dout: Array) -> None:
        """Compute only the parameter gradients; the first layer needs no dx."""
        self.backward(dout)

    def update_params(self) -> None:
        """Take one SGD step. Here there are no parameters, so it does nothing."""

    def parameters(self) -> dict[str, Array]:
        """Return the parameters by name: the arrays themselves, not copies."""
        return {}

    def gradients(self) -> dict[str, Array]:
        """Return the gradients stored by `backward`, under the names of their parameters."""
        return {}

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one output, without N, for one input; by default the same shape."""
        return input_shape

    def multiplications(self, output_shape: Shape) -> int:
        """Return roughly how many multiplications one output of this shape takes."""
        positions = prod(output_shape[1:])  # each parameter is used at each of them
        return positions * sum(array.size for array in self.parameters().values())

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain Python values, to build an equal layer."""
        values = {name: getattr(self, name) for name in self.arguments}
        return {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in values.items()
        }

    @staticmethod
    def parameter_shapes(config: Mapping[str, Any]) -> dict[str, Shape]:
        """Return the shape of every parameter of a layer with this `config`."""
        return {}

    def check_input(self, x: Array) -> Array:
        """Return the batch `x` as float32 or float64; raise a ValueError if it does not fit.

        A layer without parameters keeps float32 and float64. Other dtypes become float32.
        """
        self.check_shape(np.shape(x))
        x = check_real(self, x)
        return x if x.dtype in DTYPES else x.astype(np.float32)

    def check_shape(self, x_shape: tuple[int | str, ...]) -> None:
        """Raise a ValueError if a batch of this shape does not fit; N may be the string "N"."""

    def check_dout(self, dout: Array) -> Array:
        """Return `dout` in the dtype of x; raise an error unless it has the last output's shape."""
        if not hasattr(self, "x"):
            raise RuntimeError(f"{self}: backward before forward; call forward(x) first")
        shape = (len(self.x), *self.output_shape(self.x.shape[1:]))
        if np.shape(dout) != shape:
            raise ValueError(
                f"{self} expects dout of shape {shape}, the shape of its output, "
                f"got {np.shape(dout)}"
            )
        return np.asarray(dout, self.x.dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class ParameterLayer(Layer):
    """A layer with parameters: their initial values, checks and update.

    A subclass names its parameters in `parameter_shapes`, and its `backward` stores the gradient of
    each under the same name with a d in front. Initial `weights` are normally distributed with
    standard deviation 0.01; all other parameters start at zero. Parameters may be changed in place
    or replaced by arrays of the same shape at any time. The layer computes in the dtype of the
    first parameter.
    """

    weights: Array
    bias: Array
    dweights: Array
    dbias: Array

    def __init__(
        self, learning_rate: float, rng: np.random.Generator | None, dtype: npt.DTypeLike
    ) -> None:
        check_dtype(self, dtype)
        rng = np.random.default_rng(rng)  # of a number, too
        self.learning_rate = check_learning_rate(type(self).__name__, learning_rate)
        self._shapes = self.parameter_shapes(self.config())
        for name, shape in self._shapes.items():
            is_random = name == "weights"
            initial = rng.normal(0, STANDARD_DEVIATION, shape) if is_random else np.zeros(shape)
            setattr(self, name, initial.astype(dtype))

    def update_params(self) -> None:
        """Take one SGD step: every parameter -= learning_rate * its gradient.

        Raises:
            RuntimeError: there are no gradients yet.
        """
        gradients = self.gradients()
        for name, parameter in self.parameters().items():
            sgd_update(parameter, gradients[name], self.learning_rate)

    def parameters(self) -> dict[str, Array]:
        """Return the parameters by name: the arrays themselves, not copies.

        Raises:
            ValueError: a parameter was replaced by an array of another shape, or of a dtype other
                than float32 and float64.
        """
        arrays = {
            name: check_parameter(self, name, getattr(self, name), shape)
            for name, shape in self._shapes.items()
        }
        dtype = next(iter(arrays.values())).dtype
        for name, array in arrays.items():
            setattr(self, name, array.astype(dtype, copy=False))
        return {name: getattr(self, name) for name in arrays}

    def gradients(self) -> dict[str, Array]:
        """Return the gradients stored by `backward`, under the names of their parameters.

        Raises:
            RuntimeError: `backward` was not called yet.
        """
        try:
            return {name: getattr(self, f"d{name}") for name in self._shapes}
        except AttributeError:
            raise RuntimeError(
                f"{self}: there are no gradients before backward; call backward(dout) first"
            ) from None

    def check_input(self, x: Array) -> Array:
        """Return the batch `x` in the dtype of the layer; raise a ValueError if it does not fit."""
        self.check_shape(np.shape(x))
        first = next(iter(self.parameters().values()))
        return check_real(self, x).astype(first.dtype, copy=False)
