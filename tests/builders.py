"""Geometries, layers, networks and batches for the tests of the core.

Parameters are filled with numbers large enough to matter. Initial biases are zero, which would hide
mistakes.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pytest
import reference
from hypothesis import strategies as st
from threadpoolctl import OpenBLASController, threadpool_limits

from handcnn import (
    Conv2D,
    HiddenLayer,
    InputLayer,
    MaxPool2D,
    Network,
    OutputLayer,
    ReLU,
    loss_gradient,
)
from handcnn.layers import Layer, ParameterLayer
from handcnn.types import Array, Shape

# What is said of a damaged picture, or of another format.
NO_PICTURE = (
    "is not a complete PNG, JPEG, GIF, WebP, BMP, TIFF, PPM, AVIF or HEIC picture; "
    "save it again as PNG or JPEG"
)


class Geometry(NamedTuple):
    """A batch, a convolution, and the dense layers behind it, in the letters of handcnn."""

    N: int = 2
    C: int = 1
    H: int = 6
    W: int = 5
    F: int = 3
    k: int = 3
    s: int = 1
    p: int = 0
    M: int = 3
    K: int = 3

    @property
    def image_shape(self) -> Shape:
        """(C, H, W)."""
        return self.C, self.H, self.W

    @property
    def output_shape(self) -> Shape:
        """(F, OH, OW)."""
        OH, OW = ((size + 2 * self.p - self.k) // self.s + 1 for size in (self.H, self.W))
        return self.F, OH, OW

    @property
    def fusable(self) -> "Geometry":
        """The same geometry with the smallest batch for which fusing is cheaper."""
        return self._replace(N=self.C * self.k * self.k + 2)


SMALL = Geometry(p=1, M=4)
GEOMETRIES = {
    "documented, small": SMALL,
    "square, N=1": Geometry(N=1, H=12, W=12, F=2, p=1),
    "plain": Geometry(N=1, H=5, F=1),
    "one pixel": Geometry(N=1, H=1, W=1, F=1, k=1),
    "one unit": Geometry(H=5, W=3, p=1, M=1),
    "one filter": Geometry(C=2, H=3, F=1, k=2, p=1),
    "H < W, three channels": Geometry(C=3, H=5, W=7, F=4, p=1),
    "H > W, four channels": Geometry(N=1, C=4, H=7, W=4, F=2),
    "ten classes": Geometry(C=3, H=5, W=6, F=2, M=4, K=10),
    "stride 2, remainder in W": Geometry(C=2, H=7, W=6, F=2, s=2),
    "stride 2, remainder in H": Geometry(N=1, C=2, H=6, W=7, s=2, p=1, K=2),
    "stride 3, remainders 1 and 2": Geometry(C=2, H=8, W=9, F=2, s=3, p=1),
    "stride beyond the kernel": Geometry(N=1, H=10, W=8, F=2, k=2, s=3),
    "pixels in no window": Geometry(H=9, W=7, F=4, k=2, s=3),
    "stride 2, padding 3": Geometry(C=2, H=4, W=3, F=2, s=2, p=3),
    "stride 3, padding 3": Geometry(H=8, W=6, F=2, k=2, s=3, p=3, K=4),
    "padding as large as the kernel": Geometry(N=1, H=4, F=2, k=2, p=2),
    "1x1": Geometry(C=3, H=4, F=2, k=1),
    "1x1, stride 2": Geometry(C=3, H=4, F=2, k=1, s=2),
    "1x1, padding 2": Geometry(N=1, C=2, H=3, W=4, F=2, k=1, p=2),
    "1x1, stride 2, padding 2": Geometry(C=2, H=3, W=4, k=1, s=2, p=2),
    "kernel as large as the image": Geometry(C=2, H=4, W=4, k=4),
    "kernel as large as the padded image": Geometry(N=1, C=2, H=3, W=3, F=2, k=7, p=2),
    "the same with padding and stride 3": Geometry(N=1, H=2, W=2, F=2, k=8, s=3, p=3),
    "even kernel": Geometry(H=6, W=4, F=2, k=4, p=1),
    "5x5, one row of output": Geometry(C=2, H=5, W=8, F=2, k=5),
    "5x5, padding 4": Geometry(N=1, C=2, H=4, W=5, F=2, k=5, p=4),
    "4x4, stride 3, remainders 1 and 2": Geometry(C=2, H=8, W=9, F=2, k=4, s=3),
    "5x5, stride 2": Geometry(N=1, C=2, H=7, W=7, F=2, k=5, s=2, p=2),
}
every_geometry = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES.keys())

POOLINGS: dict[str, tuple[Shape, int, int]] = {  # the shape of x, the size and the stride
    "usual": ((2, 3, 6, 4), 2, 2),
    "N=1, H < W": ((1, 2, 4, 8), 2, 2),
    "remainders 1 and 1": ((2, 1, 7, 5), 2, 2),
    "remainders 2 and 0": ((2, 2, 8, 6), 3, 3),
    "overlapping": ((2, 2, 5, 6), 3, 1),
    "overlapping, remainder": ((1, 3, 7, 8), 3, 2),
    "gaps": ((2, 1, 7, 9), 2, 3),
    "stride beyond the image": ((2, 1, 4, 5), 3, 7),
    "as large as the image": ((2, 3, 4, 4), 4, 4),
    "as high as the image": ((1, 2, 3, 7), 3, 3),
    "size 1": ((2, 2, 3, 4), 1, 1),
    "size 1, stride 2": ((2, 2, 5, 4), 1, 2),
    "one pixel": ((1, 1, 1, 1), 1, 1),
    "no images": ((0, 2, 4, 6), 2, 2),
}

# Layers for inputs of this shape, on which tests/test_layers.py tests what holds for every layer.
# Add an example of each new layer here.
EXAMPLE_SHAPE = (2, 2, 4, 5)
EXAMPLES: dict[str, Layer] = {
    "Conv2D": Conv2D(2, 3, 3, 2, 1),
    "Conv2D 1x1": Conv2D(2, 3, 1),
    "HiddenLayer": HiddenLayer(40, 3),
    "OutputLayer": OutputLayer(40, 3),
    "ReLU": ReLU(),
    "MaxPool2D": MaxPool2D(2),
    "MaxPool2D, overlapping": MaxPool2D(3, 1),
    "MaxPool2D, with gaps": MaxPool2D(1, 3),
}


def remade(layer: Layer, **extras: Any) -> Layer:
    """Return a new layer with the same arguments; one with parameters takes rng= and dtype=."""
    extras = extras if isinstance(layer, ParameterLayer) else {}
    return type(layer)(**layer.config(), **extras)


@st.composite
def geometries(draw: st.DrawFn, largest: int = 7) -> Geometry:
    """Draw a small geometry with images of at most `largest` x `largest` pixels."""
    k, s, p = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(0, 3))
    H, W = (draw(st.integers(max(1, k - 2 * p), largest)) for _ in "HW")
    N, C, F, M = (draw(st.integers(1, 3)) for _ in "NCFM")
    return Geometry(N, C, H, W, F, k, s, p, M, K=draw(st.integers(2, 4)))


def random(shape: Shape, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


Made = TypeVar("Made", bound=Network | Layer)


def filled(made: Made, seed: int = 0, scale: float = 1.0) -> Made:
    """Return the layer or the network with parameters of order `scale`."""
    rng = np.random.default_rng(seed)
    for parameter in made.parameters().values():
        parameter[...] = scale * rng.standard_normal(parameter.shape)
    return made


def filled_network(layers: Sequence[Layer], seed: int = 0) -> Network:
    return filled(Network(layers), seed, 0.3)


# Learning rates of layers 1 to 3 of `network`, all different, so that a mix-up is noticed.
RATES = (0.01, 0.02, 0.005)


def network(
    geometry: Geometry = SMALL,
    dtype: npt.DTypeLike = np.float64,
    conv: type[Conv2D] = Conv2D,
    hidden: type[HiddenLayer] = HiddenLayer,
    seed: int = 0,
) -> Network:
    """Return InputLayer -> Conv2D -> HiddenLayer -> OutputLayer, or subclasses of these."""
    _, C, _, _, F, k, s, p, M, K = geometry
    layers = [
        InputLayer(),
        conv(C, F, k, s, p, RATES[0], dtype=dtype),
        hidden(prod(geometry.output_shape), M, RATES[1], dtype=dtype),
        OutputLayer(M, K, RATES[2], dtype=dtype),
    ]
    return filled(Network(layers, geometry.image_shape), seed, 0.3)


def trained(net: Network) -> list[ParameterLayer]:
    """Return the layers with parameters."""
    return [layer for layer in net.layers if isinstance(layer, ParameterLayer)]


def batch(geometry: Geometry = SMALL, seed: int = 1) -> tuple[Array, Array]:
    """Return images (N, C, H, W) and one-hot labels (N, K)."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((geometry.N, *geometry.image_shape))
    return x, np.eye(geometry.K)[rng.integers(geometry.K, size=geometry.N)]


def literal_step(net: Network, x: Array, y: Array) -> Array:
    """Take a training step with three calls: forward, backward, update_params."""
    y_pred = net.forward(x)
    net.backward(loss_gradient(y_pred, y))
    net.update_params()
    return y_pred


def step_by_loops(
    parameters: Mapping[str, Array], x: Array, y: Array, geometry: Geometry
) -> tuple[Array, dict[str, Array], dict[str, Array]]:
    """Return y_pred, gradients and updated parameters of a step of `network`, by the loops."""
    s, p = geometry.s, geometry.p
    gradients = reference.network_gradients(parameters, x, y, s, p)
    updated = {
        name: reference.updated(array, gradients[name], RATES[int(name[5]) - 1])
        for name, array in parameters.items()
    }
    return reference.network_forward(parameters, x, s, p), gradients, updated


def copies(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array.copy() for name, array in arrays.items()}


def close(found: Array, expected: Any, rounding: float = 1e-10, message: str = "") -> None:
    """Compare shapes and values. The default tolerance suits float64; 0 requires equal values."""
    assert found.shape == np.shape(expected), message
    np.testing.assert_allclose(found, expected, rtol=rounding, atol=rounding, err_msg=message)


def compare(
    found: Mapping[str, Array], expected: Mapping[str, Array], rounding: float = 1e-10
) -> None:
    """Compare arrays by name, with their dtypes."""
    assert found.keys() == expected.keys()
    for name, array in found.items():
        assert array.dtype == expected[name].dtype, name
        close(array, expected[name], rounding, name)


def slopes_agree(gradient: Array, f: Callable[[], float], array: Array) -> None:
    """Compare a gradient with the central differences of `f`, which reads `array`."""
    slopes = reference.central_difference(f, array)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-7)


def refused(action: Callable[[], object], error: type[Exception] = ValueError) -> str:
    """Return the message of the error that the action raises."""
    with pytest.raises(error) as caught:
        action()
    return str(caught.value)


def set_blas_threads(count: int) -> None:
    """Set the number of BLAS threads without making this thread the controlling one.

    threadpoolctl obeys the first thread that set a limit, as long as that thread lives. If this
    were the main thread, tests could not see the limits that handcnn sets in other threads. Old
    versions of threadpoolctl obey every thread.
    """
    forget = getattr(OpenBLASController, "clear_controlling_thread", lambda force: None)
    forget(force=True)
    threadpool_limits(count, "blas")
    forget(force=True)
