"""The layers of the network: forward, the gradients derived by hand, and the one update rule.

Every layer keeps the same contract. `forward(x)` returns the layer's output and keeps what the way
back needs. `backward(dout)` takes the gradient of the loss with respect to that output, leaves the
gradients of the parameters in `dweights` and `dbias`, and returns `dx`, the gradient with respect
to the input. `update_params()` takes one step of gradient descent. Neither `x` nor `dout` is ever
written into. `docs/backprop.md` derives every formula; the shape letters are those of the package:

    N, C, H, W   images in the batch, channels, height, width
    F, k, s, p   filters, kernel size, stride, padding;  OH = (H + 2p - k)//s + 1, OW likewise
    D, M         inputs and units of a dense layer
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from handcnn.kernels.im2col import (
    correlate,
    kernels_and_bias,
    padded,
    tap_gradient,
    tap_matrix,
    windows_by_row,
)
from handcnn.kernels.products import descend, rows_times, sum_of_rows
from handcnn.types import Array, Shape


class Layer:
    """What every layer can do. A layer without parameters has nothing to update."""

    def forward(self, x: Array) -> Array:
        """Return the output for the batch `x`, keeping what `backward` needs."""
        raise NotImplementedError

    def backward(self, dout: Array) -> Array:
        """Return `dx` for the gradient `dout` of the loss with respect to the last output."""
        raise NotImplementedError

    def parameter_gradients(self, dout: Array) -> Array:
        """Do of `backward` what leaves gradients on the layer; for the first one it is enough."""
        return self.backward(dout)

    def update_params(self) -> None:
        """Take one step of gradient descent."""

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one output, without N, for one input of `input_shape`."""
        raise NotImplementedError

    def parameters(self) -> dict[str, Array]:
        """Return the layer's arrays by name: the arrays themselves, not copies."""
        return {}

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, from which an equal layer can be built."""
        return {}

    @staticmethod
    def parameter_shapes(config: Mapping[str, Any]) -> dict[str, Shape]:
        """Return the shape of every parameter of a layer with this `config`."""
        return {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class InputLayer(Layer):
    """The place where a batch enters the network: `x -> x`, `dout -> dout`, any shape."""

    def forward(self, x: Array) -> Array:
        """Return `x` itself."""
        return x

    def backward(self, dout: Array) -> Array:
        """Return `dout` itself."""
        return dout

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape`."""
        return input_shape


class ParameterLayer(Layer):
    """A layer with `weights` and `bias`: their initial values, their gradients, their update.

    Weights start normally distributed with standard deviation 0.01, biases at zero. Both may be
    changed in place or replaced by arrays of the same shape at any time; the layer computes in
    the dtype of its weights.
    """

    def __init__(
        self, learning_rate: float, rng: np.random.Generator | None, dtype: npt.DTypeLike
    ) -> None:
        rng = np.random.default_rng() if rng is None else rng
        self.learning_rate = learning_rate
        self._shapes = self.parameter_shapes(self.config())
        self.weights: Array = rng.normal(0, 0.01, self._shapes["weights"]).astype(dtype)
        self.bias: Array = np.zeros(self._shapes["bias"], dtype)
        self._dweights: Array | Factors | None = None
        self.dbias: Array | None = None
        self._x_shape: Shape = ()
        self._z_shape: Shape | None = None  # of the last forward pass
        self.left_out: Callable[[Any], object] | None = None  # that pass, where folding left it out

    def backward(self, dout: Array) -> Array:
        """Leave `dweights` and `dbias` on the layer and return `dx` in the shape of `x`."""
        return self.input_gradient(self.parameter_gradients(dout))

    def parameter_gradients(self, dout: Array) -> Array:
        """Leave `dweights` and `dbias` on the layer and return dz, which gives `dx`.

        This is all of `backward` that the first layer of a network needs: nobody reads the
        gradient with respect to the images.
        """
        raise NotImplementedError

    def input_gradient(self, dz: Array) -> Array:
        """Return `dx` for the dz that `parameter_gradients` returned."""
        raise NotImplementedError

    def update_params(self) -> None:
        """Take the documented step: every parameter minus learning rate times its gradient.

        Raises:
            RuntimeError: there are no gradients yet.
        """
        if self._dweights is None or self.dbias is None:
            raise RuntimeError(f"{self}: update_params before backward; call backward(dout) first")
        if isinstance(self._dweights, np.ndarray):
            descend(self.weights, self._dweights, self.learning_rate)
        else:
            self._dweights.descend(self.weights, self.learning_rate)
        self.bias -= self.learning_rate * self.dbias

    def parameters(self) -> dict[str, Array]:
        """Return `weights` and `bias` by name."""
        self._check_parameters()
        return {"weights": self.weights, "bias": self.bias}

    def _check_parameters(self) -> None:
        """Check what may have been assigned; anything but float32 and float64 becomes float64."""
        weights, bias = np.asarray(self.weights), np.asarray(self.bias)
        if weights.dtype not in (np.float32, np.float64):
            weights = weights.astype(np.float64)
        self.weights, self.bias = weights, bias.astype(weights.dtype, copy=False)
        for name, array in (("weights", self.weights), ("bias", self.bias)):
            if array.shape != self._shapes[name]:
                raise ValueError(
                    f"{self} expects {name} of shape {self._shapes[name]}, got {array.shape}; "
                    "assign an array of that shape"
                )

    def prepare(self, x_shape: Shape) -> Shape:
        """Check parameters and input, begin a forward pass, and return the shape of its output."""
        self._check_parameters()
        self._check_shape(x_shape)
        self.left_out = None
        self._x_shape = x_shape
        self._z_shape = (x_shape[0], *self.output_shape(x_shape[1:]))
        return self._z_shape

    def check_gradient(self, dout: Array) -> Array:
        """Return `dout` in the dtype of the layer if it fits the last forward pass."""
        if self._z_shape is None:
            raise RuntimeError(f"{self}: backward before forward; call forward(x) first")
        if np.shape(dout) != self._z_shape:
            raise ValueError(
                f"{self} expects dout of shape {self._z_shape}, the shape of its output, "
                f"got {np.shape(dout)}"
            )
        return np.asarray(dout, self.weights.dtype)

    def _check_shape(self, shape: tuple[int | str, ...]) -> None:
        raise NotImplementedError

    # The rest serves `handcnn.folding`, and is of no interest to whoever reads about gradients.

    @property
    def dweights(self) -> Array | None:
        """The gradient that the last `backward` left, in the shape of `weights`."""
        if self._dweights is not None and not isinstance(self._dweights, np.ndarray):
            self._dweights = self._dweights.compute()
        return self._dweights

    @dweights.setter
    def dweights(self, gradient: "Array | Factors | None") -> None:
        self._dweights = gradient

    def _catch_up(self) -> None:
        """Run the forward pass that folding left out, for a `backward` that needs it after all."""
        if self.left_out is not None:
            self.left_out(self)


class Factors(Protocol):
    """A gradient still in factors, as `handcnn.folding` leaves it; most are never multiplied."""

    def compute(self) -> Array:
        """Return the gradient."""

    def descend(self, weights: Array, learning_rate: float) -> None:
        """Subtract learning rate times the gradient from `weights`, in place."""


class Conv2D(ParameterLayer):
    """Cross-correlation of every image with F kernels, zero padding, no activation.

        z[n,f,i,j] = bias[f] + sum over c,u,v of weights[f,c,u,v] * xpad[n,c,i*s+u,j*s+v]

    Args:
        in_channels: C.
        out_channels: F.
        kernel_size: k.
        stride: s.
        padding: p, rows and columns of zeros added on every side.
        learning_rate: step size of `update_params`.
        rng: source of the initial weights.
        dtype: of the parameters and all that is computed from them.

    Attributes:
        weights: (F, C, k, k), gradient in `dweights`.
        bias: (F, 1), gradient in `dbias`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        learning_rate: float = 0.001,
        *,
        rng: np.random.Generator | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self.in_channels = _checked_size("Conv2D", "in_channels", in_channels)
        self.out_channels = _checked_size("Conv2D", "out_channels", out_channels)
        self.kernel_size = _checked_size("Conv2D", "kernel_size", kernel_size)
        self.stride = _checked_size("Conv2D", "stride", stride)
        self.padding = _checked_size("Conv2D", "padding", padding, smallest=0)
        super().__init__(learning_rate, rng, dtype)

    def forward(self, x: Array) -> Array:
        """Return z (N, F, OH, OW) for images `x` (N, C, H, W)."""
        z_shape = self.prepare(np.shape(x))
        xpad = padded(batch_last(np.asarray(x, self.weights.dtype)), self.padding)
        self._windows = windows_by_row(xpad, self.kernel_size, self.stride, constant=1)
        z = correlate(tap_matrix(self.weights, self.bias), self._windows)
        return batch_first(z, z_shape)

    def parameter_gradients(self, dout: Array) -> Array:
        """Leave `dweights` and `dbias`; return dz (N, F, OH, OW), which is `dout`.

        dweights[f,c,u,v] = sum over n,i,j of dout[n,f,i,j] * xpad[n,c,i*s+u,j*s+v]: the input
        correlated with `dout`, without any rotation; dbias is the same for the tap that is always
        on.
        """
        self._catch_up()
        dz = self.check_gradient(dout)
        by_row = np.ascontiguousarray(batch_last(dz)).reshape(*dz.shape[1:3], -1)  # (F, OH, OW*N)
        dA = tap_gradient(by_row, self._windows)
        self.dweights, self.dbias = kernels_and_bias(dA, self.weights.shape)
        return dz

    def input_gradient(self, dz: Array) -> Array:
        """Return dx (N, C, H, W): `dz`, dilated by s, fully correlated with the rotated kernels.

        dx[n,c,y,x] = sum over f,u,v of wide[n,f,y+u,x+v] * weights[f,c,k-1-u,k-1-v], where `wide`
        is `dz` with s - 1 zeros between its entries and k - 1 - p around them.
        """
        (n, f, oh, ow), (_, _, h, w) = dz.shape, self._x_shape
        k, s, p = self.kernel_size, self.stride, self.padding
        wide = np.zeros((f, h + 2 * p + k - 1, w + 2 * p + k - 1, n), dz.dtype)
        wide[:, k - 1 : k - 1 + s * oh : s, k - 1 : k - 1 + s * ow : s] = batch_last(dz)
        wide = wide[:, p : p + h + k - 1, p : p + w + k - 1]
        rotated = self.weights[:, :, ::-1, ::-1].swapaxes(0, 1)  # (C, F, k, k)
        dx = correlate(tap_matrix(rotated), windows_by_row(wide, k, stride=1))
        return batch_first(dx, self._x_shape)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (F, OH, OW) for one image of shape (C, H, W)."""
        self._check_shape(("N", *input_shape))
        return self.out_channels, *self._positions(input_shape)

    def _positions(self, shape: Shape) -> Shape:
        """Return (OH, OW) for images whose last two axes are H and W."""
        k, s, p = self.kernel_size, self.stride, self.padding
        h, w = shape[-2:]
        return (h + 2 * p - k) // s + 1, (w + 2 * p - k) // s + 1

    def _check_shape(self, shape: tuple[int | str, ...]) -> None:
        c, k, p = self.in_channels, self.kernel_size, self.padding
        if len(shape) != 4 or shape[1] != c:
            raise ValueError(
                f"{self} expects x of shape (N, {c}, H, W), got {show_shape(shape)}; "
                f"{_channel_hint(shape, c)}"
            )
        if min(self._positions(cast(Shape, shape))) < 1:
            raise ValueError(
                f"{self} with padding {p} expects images of at least {k - 2 * p} x {k - 2 * p} "
                f"pixels, got {show_shape(shape)}; use a smaller kernel or more padding"
            )

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, from which an equal layer can be built."""
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "learning_rate": float(self.learning_rate),
        }

    @staticmethod
    def parameter_shapes(config: Mapping[str, Any]) -> dict[str, Shape]:
        """Return the shapes of `weights` (F, C, k, k) and `bias` (F, 1)."""
        f, c, k = config["out_channels"], config["in_channels"], config["kernel_size"]
        return {"weights": (f, c, k, k), "bias": (f, 1)}

    def __repr__(self) -> str:
        k = self.kernel_size
        return f"Conv2D({self.in_channels} -> {self.out_channels}, {k}x{k})"


def batch_last(x: Array) -> Array:
    """Return x (N, C, H, W) as (C, H, W, N): a view."""
    return x.transpose(1, 2, 3, 0)


def batch_first(x: Array, shape: Shape) -> Array:
    """Return x, (C, H, W, N) in memory, in the `shape` (N, C, H, W): a view."""
    n, c, h, w = shape
    return x.reshape(c, h, w, n).transpose(3, 0, 1, 2)


class DenseLayer(ParameterLayer):
    """The part that hidden and output layer share: `z = x W + b`, and the way back from dz.

    Args:
        input_size: D. A 4-D input (N, C, H, W) is flattened to (N, D) with D = C*H*W.
        output_size: M.
        learning_rate: step size of `update_params`.
        rng: source of the initial weights.
        dtype: of the parameters and all that is computed from them.

    Attributes:
        weights: (D, M), gradient in `dweights`.
        bias: (1, M), gradient in `dbias`.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        learning_rate: float = 0.001,
        *,
        rng: np.random.Generator | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self.input_size = _checked_size(type(self).__name__, "input_size", input_size)
        self.output_size = _checked_size(type(self).__name__, "output_size", output_size)
        super().__init__(learning_rate, rng, dtype)

    def forward(self, x: Array) -> Array:
        """Return a (N, M) for `x` (N, D) or (N, C, H, W)."""
        self.prepare(np.shape(x))
        self.keep_input(x)
        return self.activate(sum_of_rows(self._x.T, self.weights) + self.bias)

    def keep_input(self, x: Array) -> None:
        """Keep `x` for the way back, as (N, D)."""
        self.left_out = None
        self._x = np.asarray(x, self.weights.dtype).reshape(len(x), self.input_size)

    def parameter_gradients(self, dout: Array) -> Array:
        """Leave dweights = x^T dz and dbias = the column sums of dz; return dz (N, M)."""
        self._catch_up()
        dz = self.activation_gradient(self.check_gradient(dout))
        self.dweights = rows_times(self._x.T, dz)
        self.dbias = dz.sum(axis=0, keepdims=True)
        return dz

    def input_gradient(self, dz: Array) -> Array:
        """Return dx = dz W^T in the shape that `x` came in."""
        by_input = rows_times(self.weights, np.ascontiguousarray(dz.T))  # (D, N)
        return by_input.T.reshape(self._x_shape)

    def activate(self, z: Array) -> Array:
        """Return a (N, M), the activation of z, keeping what `activation_gradient` needs."""
        raise NotImplementedError

    def activation_gradient(self, dout: Array) -> Array:
        """Return dz (N, M) for the gradient `dout` that `backward` was given."""
        raise NotImplementedError

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (M,) for one input of shape (D,) or (C, H, W)."""
        self._check_shape(("N", *input_shape))
        return (self.output_size,)

    def _check_shape(self, shape: tuple[int | str, ...]) -> None:
        d = self.input_size
        if len(shape) not in (2, 4) or prod(cast(Shape, shape[1:])) != d:
            raise ValueError(
                f"{self} expects x of shape (N, {d}) or (N, C, H, W) with C*H*W = {d}, "
                f"got {show_shape(shape)}; {_dense_hint(shape, d)}"
            )

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, from which an equal layer can be built."""
        return {
            "input_size": self.input_size,
            "output_size": self.output_size,
            "learning_rate": float(self.learning_rate),
        }

    @staticmethod
    def parameter_shapes(config: Mapping[str, Any]) -> dict[str, Shape]:
        """Return the shapes of `weights` (D, M) and `bias` (1, M)."""
        d, m = config["input_size"], config["output_size"]
        return {"weights": (d, m), "bias": (1, m)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.input_size} -> {self.output_size})"


class HiddenLayer(DenseLayer):
    """Dense layer with ReLU: `z = x W + b`, `a = max(0, z)`. Arguments as in `DenseLayer`."""

    def activate(self, z: Array) -> Array:
        """Return a = max(0, z)."""
        self._active = z > 0
        return np.maximum(z, 0)

    def activation_gradient(self, dout: Array) -> Array:
        """Return dz = dout * (z > 0)."""
        return dout * self._active


class OutputLayer(DenseLayer):
    """Dense layer with softmax: `z = x W + b`, `a = softmax(z)`. Arguments as in `DenseLayer`.

    `backward` takes the gradient with respect to *z*: for softmax under cross-entropy that is
    what `loss_gradient` gives, so the softmax has no backward pass of its own.
    """

    def activate(self, z: Array) -> Array:
        """Return a = softmax(z): probabilities, each row summing to 1."""
        exp = np.exp(z - z.max(axis=1, keepdims=True))  # the maximum cancels; exp cannot overflow
        a: Array = exp / exp.sum(axis=1, keepdims=True)
        return a

    def activation_gradient(self, dout: Array) -> Array:
        """Return dz, which is what `dout` is already."""
        return dout


# By their names, as a saved architecture lists them.
LAYERS: dict[str, type[Layer]] = {
    layer.__name__: layer for layer in (InputLayer, Conv2D, HiddenLayer, OutputLayer)
}


def _checked_size(layer: str, name: str, value: int, smallest: int = 1) -> int:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < smallest:
        raise ValueError(
            f"{layer} expects {name} to be a whole number of at least {smallest}, got {value!r}"
        )
    return int(value)


def show_shape(shape: tuple[int | str, ...]) -> str:
    """Return a shape as Python prints it, but with letters such as N unquoted."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _channel_hint(shape: tuple[int | str, ...], c: int) -> str:
    """Say how an array of this shape most likely becomes (N, C, H, W)."""
    if len(shape) == 2 and c == 1:
        return "one image becomes x[None, None], flat images x.reshape(-1, 1, H, W)"
    if len(shape) == 2:
        return f"reshape flat images with x.reshape(-1, {c}, H, W)"
    if len(shape) == 3 and c == 1:
        return "add the channel axis with x[:, None]"
    if len(shape) == 3 and shape[0] == c:
        return "add the batch axis with x[None]"
    if len(shape) == 4 and shape[3] == c:
        return "move the channels to the front with x.transpose(0, 3, 1, 2)"
    return f"the second axis must hold the channels, of which there are {c}"


def _dense_hint(shape: tuple[int | str, ...], d: int) -> str:
    """Say how an array of this shape most likely becomes (N, D)."""
    if shape == (d,):
        return "add the batch axis with x[None]"
    if len(shape) > 1 and prod(cast(Shape, shape[1:])) == d:
        return f"flatten it with x.reshape(len(x), {d})"
    return "build the layer for the size of its input, or give inputs of the size of the layer"
