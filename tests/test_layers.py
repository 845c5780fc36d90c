"""The layers: values, gradients, updates, dtypes, what they leave alone, and what they say.

Values and gradients of ReLU and MaxPool2D are in test_pooling.py.

Oracles: `reference`, loops written from the documented formulas; central differences under a
random dout; cases worked by hand on paper.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference
from builders import (
    GEOMETRIES,
    Geometry,
    close,
    compare,
    filled,
    filled_network,
    random,
    refused,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from handcnn import (
    Conv2D,
    HiddenLayer,
    InputLayer,
    MaxPool2D,
    OutputLayer,
    ReLU,
    loss_function,
    loss_gradient,
)
from handcnn.gradient_check import check_gradients
from handcnn.layers import DenseLayer, Layer, ParameterLayer
from handcnn.types import Array, Shape

Make = Callable[..., ParameterLayer]  # a constructor that takes rng= and dtype=
MakeAny = Callable[..., Layer]
NAMES = ("weights", "bias")


# --- values and gradients ------------------------------------------------------------------------


def convolution(geometry: Geometry, dtype: npt.DTypeLike = np.float64) -> Conv2D:
    _, c, _, _, f, k, s, p, *_ = geometry
    return Conv2D(c, f, k, s, p, dtype=dtype)


def dense(layer_class: type[DenseLayer], x_shape: Shape, units: int) -> DenseLayer:
    return layer_class(int(np.prod(x_shape[1:])), units, dtype=np.float64)


DENSE = {  # the shape of x, and M
    "one number": ((1, 1), 1),
    "N=1": ((1, 7), 3),
    "flat": ((5, 6), 4),
    "one unit": ((4, 3), 1),
    "4-D": ((3, 2, 3, 4), 5),
    "4-D, N=1": ((1, 3, 1, 2), 2),
    "4-D, more units than inputs": ((2, 1, 2, 2), 9),
}
CASES: dict[str, tuple[ParameterLayer, Shape]] = {
    **{
        f"Conv2D, {name}": (convolution(geometry), (geometry.n, *geometry.image_shape))
        for name, geometry in GEOMETRIES.items()
    },
    **{
        f"{layer_class.__name__}, {name}": (dense(layer_class, x_shape, units), x_shape)
        for name, (x_shape, units) in DENSE.items()
        for layer_class in (HiddenLayer, OutputLayer)
    },
}
every_case = pytest.mark.parametrize(("layer", "x_shape"), CASES.values(), ids=CASES.keys())


def by_loops(layer: ParameterLayer, x: Array, rate: float) -> tuple[Array, dict[str, Array]]:
    """Return a random dout, and what the loops make of it."""
    W, b = layer.weights.astype(np.float64), layer.bias.astype(np.float64)
    if isinstance(layer, Conv2D):
        s, p = layer.stride, layer.padding
        out = reference.conv_forward(x, W, b, s, p)
        dout = random(out.shape, 4)
        dx, dweights, dbias = reference.conv_backward(x, W, s, p, dout)
    else:
        flat = reference.flatten(x)
        z = reference.dense_forward(flat, W, b)
        dout = dz = random(z.shape, 4)
        out = reference.softmax(z)
        if isinstance(layer, HiddenLayer):
            out, dz = reference.relu(z), reference.relu_backward(z, dout)
        dx, dweights, dbias = reference.dense_backward(flat, W, dz)
        dx = reference.unflatten(dx, x.shape)
    return dout, {
        "out": out,
        "dx": dx,
        "dweights": dweights,
        "dbias": dbias,
        "weights": reference.updated(W, dweights, rate),
        "bias": reference.updated(b, dbias, rate),
    }


def compare_with_loops(layer: ParameterLayer, x_shape: Shape) -> None:
    filled(layer)
    layer.learning_rate = 0.3
    x = random(x_shape, 3)
    dout, expected = by_loops(layer, x, 0.3)
    found = {"out": layer.forward(x), "dx": layer.backward(dout)}
    gradients = {"dweights": layer.dweights, "dbias": layer.dbias}
    layer.update_params()
    compare(found | gradients | layer.parameters(), expected)


@every_case
def test_layers_agree_with_the_loops(layer: ParameterLayer, x_shape: Shape) -> None:
    compare_with_loops(layer, x_shape)


@settings(max_examples=40)
@given(
    st.sampled_from([HiddenLayer, OutputLayer]),
    st.tuples(*[st.integers(1, 4)] * 4) | st.tuples(st.integers(1, 6), st.integers(1, 9)),
    st.integers(1, 6),
)
def test_any_dense_layer_agrees_with_the_loops(
    layer_class: type[DenseLayer], x_shape: Shape, units: int
) -> None:
    compare_with_loops(dense(layer_class, x_shape, units), x_shape)


@every_case
def test_layers_agree_with_central_differences(layer: ParameterLayer, x_shape: Shape) -> None:
    """Slopes of sum(output * dout): with dout = 1 many mistakes would pass.

    The output layer takes the gradient by z, so its output here is z, without the softmax.
    """
    filled(layer)
    x = random(x_shape, 3)

    def output() -> Array:
        if isinstance(layer, OutputLayer):
            return x.reshape(len(x), -1) @ layer.weights + layer.bias
        return layer.forward(x)

    dout = random(layer.forward(x).shape, 4)
    dx = layer.backward(dout)
    gradients = dx, layer.dweights, layer.dbias
    for array, gradient in zip((x, layer.weights, layer.bias), gradients, strict=True):
        slopes = reference.central_difference(lambda: float((output() * dout).sum()), array)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-7)


def test_convolution_worked_by_hand() -> None:
    layer = Conv2D(1, 1, 2, dtype=np.float64)
    layer.weights = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    layer.bias = np.array([[10.0]])
    x = np.array([[[[1.0, 0.0, 2.0], [0.0, 3.0, 0.0], [4.0, 0.0, 5.0]]]])
    # [1 0 2]      [1 2]     1*1 + 4*3      2*2 + 3*3           13 13
    # [0 3 0] with [3 4]  =  2*3 + 3*4      1*3 + 4*5        =  18 23, and 10 more from the bias
    # [4 0 5]
    np.testing.assert_array_equal(layer.forward(x), [[[[23, 23], [28, 33]]]])

    dx = layer.backward(np.array([[[[1.0, 0.0], [2.0, -1.0]]]]))
    # dweights[u,v] = 1*x[u,v] + 2*x[u+1,v] - 1*x[u+1,v+1]:
    #   [0,0] 1 + 0 - 3    [0,1] 0 + 6 - 0    [1,0] 0 + 8 - 0    [1,1] 3 + 0 - 5
    np.testing.assert_array_equal(layer.dweights, [[[[-2, 6], [8, -2]]]])
    np.testing.assert_array_equal(layer.dbias, [[2]])
    # dx: the kernel once at (0, 0), twice at (1, 0), minus once at (1, 1)
    #   1 2 0     0 0 0     0 0 0       1  2  0
    #   3 4 0  +  2 4 0  -  0 1 2   =   5  7 -2
    #   0 0 0     6 8 0     0 3 4       6  5 -4
    np.testing.assert_array_equal(dx, [[[[1, 2, 0], [5, 7, -2], [6, 5, -4]]]])

    layer.learning_rate = 0.5
    layer.update_params()
    np.testing.assert_array_equal(layer.weights, [[[[2, -1], [-1, 5]]]])
    np.testing.assert_array_equal(layer.bias, [[9]])


def test_hidden_layer_is_silent_at_zero() -> None:
    """Where z is exactly 0: the mask is z > 0, so nothing flows back."""
    layer = HiddenLayer(2, 1, dtype=np.float64)
    layer.weights, layer.bias = np.array([[1.0], [-1.0]]), np.array([[0.0]])
    np.testing.assert_array_equal(layer.forward(np.array([[3.0, 3.0]])), [[0]])
    np.testing.assert_array_equal(layer.backward(np.array([[5.0]])), [[0, 0]])
    np.testing.assert_array_equal(layer.dweights, [[0], [0]])
    np.testing.assert_array_equal(layer.dbias, [[0]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_takes_logits_of_any_size(dtype: npt.DTypeLike) -> None:
    layer = OutputLayer(1, 3, dtype=dtype)
    layer.weights = np.array([[1, 1, -1]], dtype)
    x = np.array([[1e30], [-1e30], [3e4], [0]], dtype)
    # equal logits share; a logit far below the largest gets nothing
    close(layer.forward(x), [[1 / 2, 1 / 2, 0], [0, 0, 1], [1 / 2, 1 / 2, 0], [1 / 3] * 3], 1e-6)


def test_softmax_does_not_change_when_all_logits_move_together() -> None:
    layer = filled(OutputLayer(4, 5, dtype=np.float64))
    x = random((3, 4), 5)
    before = layer.forward(x)
    layer.bias = layer.bias + 100
    close(layer.forward(x), before)
    close(layer.forward(x).sum(axis=1), np.ones(3), 1e-12)


def test_input_layer_passes_everything_on() -> None:
    layer = InputLayer()
    x, dout = random((2, 1, 3, 3), 1), random((2, 1, 3, 3), 2)
    assert layer.forward(x) is x
    assert layer.backward(dout) is dout
    layer.update_params()
    assert layer.parameters() == layer.gradients() == {}


# --- the contract of every layer -----------------------------------------------------------------

LAYERS: dict[str, Make] = {
    "Conv2D": lambda **extras: Conv2D(2, 3, 3, 2, 1, **extras),
    "Conv2D 1x1": lambda **extras: Conv2D(2, 3, 1, **extras),
    "HiddenLayer": lambda **extras: HiddenLayer(40, 3, **extras),
    "OutputLayer": lambda **extras: OutputLayer(40, 3, **extras),
}
PLAIN: dict[str, MakeAny] = {  # without parameters, so that x decides the dtype
    "ReLU": lambda **_: ReLU(),
    "MaxPool2D": lambda **_: MaxPool2D(2),
    "MaxPool2D, overlapping": lambda **_: MaxPool2D(3, 1),
    "MaxPool2D, with gaps": lambda **_: MaxPool2D(1, 3),
}
ALL: dict[str, MakeAny] = {**LAYERS, **PLAIN}
X_SHAPE = (2, 2, 4, 5)
X = random(X_SHAPE, 1)
every_layer = pytest.mark.parametrize("make", ALL.values(), ids=ALL.keys())
every_plain_layer = pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN.keys())
every_parameter_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def passed(layer: Layer, x: Array = X, seed: int = 2) -> dict[str, Array]:
    """Run forward and backward; return copies of all results."""
    out = layer.forward(x)
    dx = layer.backward(random(out.shape, seed))
    gradients = {f"d{name}": array for name, array in layer.gradients().items()}
    return {name: array.copy() for name, array in {"out": out, "dx": dx, **gradients}.items()}


@every_parameter_layer
@every_dtype
@pytest.mark.parametrize("given_dtype", [np.float32, np.float64, np.uint8])
def test_everything_has_the_dtype_of_the_layer(
    make: Make, dtype: npt.DTypeLike, given_dtype: npt.DTypeLike
) -> None:
    layer = make(dtype=dtype)
    out = layer.forward(np.abs(X).astype(given_dtype))
    dx = layer.backward(np.abs(random(out.shape, 2)).astype(given_dtype))
    layer.learning_rate = np.float64(0.1)
    layer.update_params()
    arrays = (out, dx, layer.dweights, layer.dbias, layer.weights, layer.bias)
    assert [array.dtype for array in arrays] == [dtype] * 6


@every_parameter_layer
def test_float32_is_the_default_and_bytes_are_not_scaled(make: Make) -> None:
    layer = make()
    assert layer.weights.dtype == layer.bias.dtype == np.float32
    x = np.random.default_rng(0).integers(0, 256, X_SHAPE, np.uint8)
    np.testing.assert_array_equal(layer.forward(x), layer.forward(x.astype(np.float32)))


@every_plain_layer
@pytest.mark.parametrize(
    ("given_dtype", "dtype"),
    [("f4", "f4"), ("f8", "f8"), ("u1", "f4"), ("i8", "f4"), ("?", "f4"), ("f2", "f4")],
)
def test_layers_without_parameters_compute_in_the_dtype_of_x(
    make: MakeAny, given_dtype: str, dtype: str
) -> None:
    """What is neither float32 nor float64 becomes float32, as in layers with parameters.

    Seen to fail where bytes stayed bytes: the gradient 0.5 came back as 0.
    """
    layer, x = make(), np.round(3 * np.abs(X)).astype(given_dtype)
    out = layer.forward(x)
    np.testing.assert_array_equal(out, layer.forward(x.astype(dtype)))
    dx, in_float64 = layer.backward(np.full(out.shape, 0.5)), make()
    in_float64.forward(x.astype("f8"))
    np.testing.assert_array_equal(dx, in_float64.backward(np.full(out.shape, 0.5)))
    assert dx.any()
    assert [out.dtype, dx.dtype] == [dtype, dtype]


@every_layer
@every_dtype
def test_x_and_dout_are_never_written_into(make: MakeAny, dtype: npt.DTypeLike) -> None:
    layer, x = make(dtype=dtype), X.astype(dtype)
    dout = random(layer.forward(x).shape, 2).astype(dtype)
    kept = x.copy(), dout.copy()
    x.flags.writeable = dout.flags.writeable = False  # NumPy raises on any attempt
    layer.forward(x)
    layer.backward(dout)
    layer.update_params()
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(dout, kept[1])


@every_layer
def test_forward_keeps_x_itself_unless_its_dtype_was_converted(
    make: MakeAny,
) -> None:
    layer, x = make(dtype=np.float64), X.copy()
    layer.forward(x)
    assert layer.x is x
    layer.forward(x.astype(int))
    assert layer.x.dtype == (np.float64 if layer.parameters() else np.float32)


@every_parameter_layer
def test_backward_parameters_leaves_the_gradients_of_backward(make: Make) -> None:
    layer = make(dtype=np.float64)
    expected = passed(layer)
    dout = random(layer.forward(X).shape, 2)
    layer.dweights = layer.dbias = np.zeros(0)
    layer.backward_parameters(dout)
    close(layer.dweights, expected["dweights"])
    close(layer.dbias, expected["dbias"])


@every_layer
def test_results_are_the_callers_own(make: MakeAny) -> None:
    """What one pass returned is still there after the next: no buffer is handed out twice.

    And the caller may write into it. Seen to fail where MaxPool2D returned the z that its backward
    compares with.
    """
    layer = make(dtype=np.float64)
    out = layer.forward(X)
    dx = layer.backward(random(out.shape, 2))
    kept = out.copy(), dx.copy()
    passed(layer, random(X_SHAPE, 3), seed=4)
    np.testing.assert_array_equal(out, kept[0])
    np.testing.assert_array_equal(dx, kept[1])
    layer.forward(X)[...] = 9
    np.testing.assert_array_equal(layer.backward(random(out.shape, 2)), kept[1])


@every_layer
def test_backward_belongs_to_the_last_forward(make: MakeAny) -> None:
    layer = make(dtype=np.float64)
    expected = passed(layer)
    layer.forward(random((5, *X_SHAPE[1:]), 3))
    out = layer.forward(X)
    for _ in range(2):  # gradients are assigned, not accumulated
        np.testing.assert_array_equal(layer.backward(random(out.shape, 2)), expected["dx"])
        for name, gradient in layer.gradients().items():
            np.testing.assert_array_equal(gradient, expected[f"d{name}"])


@every_layer
@pytest.mark.parametrize(
    "rearrange",
    [
        np.asfortranarray,
        lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
        lambda array: array[::-1].copy()[::-1],
    ],
    ids=["Fortran order", "every other number", "backwards"],
)
def test_arrays_may_lie_in_memory_as_they_like(
    make: MakeAny, rearrange: Callable[[Array], Array]
) -> None:
    layer = filled(make(dtype=np.float64))
    expected = passed(layer)
    if isinstance(layer, ParameterLayer):
        layer.weights = rearrange(layer.weights)
    out = layer.forward(rearrange(X))
    dx = layer.backward(rearrange(random(out.shape, 2)))
    gradients = layer.gradients()
    compare({"out": out, "dx": dx} | {f"d{name}": a for name, a in gradients.items()}, expected)
    updated = {name: a - 0.001 * gradients[name] for name, a in layer.parameters().items()}
    layer.update_params()
    compare(layer.parameters(), updated)


@every_parameter_layer
def test_edits_in_place_and_assigned_arrays_are_seen(make: Make) -> None:
    edited, assigned, fresh = (make(dtype=np.float64) for _ in range(3))
    passed(edited)
    passed(assigned)
    filled(fresh)
    edited.weights[...], edited.bias[...] = fresh.weights, fresh.bias
    assigned.weights, assigned.bias = fresh.weights, fresh.bias
    expected = passed(fresh)
    compare(passed(edited), expected)
    compare(passed(assigned), expected)
    assert assigned.weights is fresh.weights


@every_parameter_layer
@pytest.mark.parametrize("convert", [np.copy, np.ndarray.tolist])
def test_a_float32_layer_given_float64_numbers_computes_in_float64(
    make: Make, convert: Callable[[Array], Any]
) -> None:
    layer, exact = make(), filled(make(dtype=np.float64))
    layer.weights, layer.bias = convert(exact.weights), convert(exact.bias)
    found, expected = passed(layer), passed(exact)
    layer.update_params()
    exact.update_params()
    compare(found | layer.parameters(), expected | exact.parameters(), rounding=0)


@every_parameter_layer
def test_update_reads_the_learning_rate_and_the_gradients_as_they_are(make: Make) -> None:
    layer = make(dtype=np.float64)
    assert layer.learning_rate == 0.001
    passed(layer)
    layer.dweights[...] = 2.0
    layer.dbias = np.full_like(layer.bias, 3.0)
    for rate in (0.5, 0.5, 0.0, np.float32(0.25)):  # as often as one likes
        layer.learning_rate = float(rate)
        expected = layer.weights - rate * 2.0, layer.bias - rate * 3.0
        layer.update_params()
        np.testing.assert_array_equal(layer.weights, expected[0])
        np.testing.assert_array_equal(layer.bias, expected[1])


@every_parameter_layer
@pytest.mark.parametrize("name", NAMES)
def test_nan_in_a_parameter_shows_in_the_output(make: Make, name: str) -> None:
    layer = filled(make(dtype=np.float64))
    getattr(layer, name).flat[-1] = np.nan
    assert np.isnan(layer.forward(X)).any()


@every_layer
@every_dtype
@pytest.mark.parametrize("place", [(0, 0, 0, 0), (1, 1, 3, 3)])
def test_nan_in_x_shows_in_the_output(make: MakeAny, dtype: npt.DTypeLike, place: Shape) -> None:
    """Of its own image and of no other."""
    layer, x = make(dtype=dtype), X.astype(dtype)
    x[place] = np.nan
    found = np.isnan(layer.forward(x)).reshape(len(x), -1).any(axis=1)
    assert found.tolist() == [n == place[0] for n in range(len(x))]


# --- construction --------------------------------------------------------------------------------


@every_parameter_layer
def test_initial_values(make: Make) -> None:
    layer, same, other = (make(rng=np.random.default_rng(seed)) for seed in (7, 7, 8))
    np.testing.assert_array_equal(layer.weights, same.weights)
    assert (layer.weights != other.weights).any()
    assert (make().weights != make().weights).any()
    assert not layer.bias.any()


def test_initial_weights_have_the_documented_distribution() -> None:
    """Of 200,000 normal numbers, mean and deviation are known to within 4 standard errors."""
    weights = HiddenLayer(2000, 100, rng=np.random.default_rng(0), dtype=np.float64).weights
    assert abs(weights.mean()) < 4 * 0.01 / weights.size**0.5
    assert abs(weights.std() - 0.01) < 4 * 0.01 / (2 * weights.size) ** 0.5
    assert abs((np.abs(weights) < 0.01).mean() - 0.6827) < 0.005  # normal rather than uniform


@pytest.mark.parametrize(
    ("layer_class", "documented"),
    [
        (InputLayer, ""),
        (Conv2D, "in_channels out_channels kernel_size stride=1 padding=0 learning_rate=0.001"),
        (HiddenLayer, "input_size output_size learning_rate=0.001"),
        (OutputLayer, "input_size output_size learning_rate=0.001"),
        (ReLU, ""),
        (MaxPool2D, "size stride=None"),
    ],
)
def test_constructors_take_the_documented_arguments_in_order(
    layer_class: type[Layer], documented: str
) -> None:
    parameters = inspect.signature(layer_class).parameters.values()
    names = [
        p.name if p.default is p.empty else f"{p.name}={p.default}"
        for p in parameters
        if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    assert " ".join(names) == documented
    extras = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    has_parameters = issubclass(layer_class, ParameterLayer)
    assert extras == ({"rng": None, "dtype": np.float32} if has_parameters else {})


def test_documented_arguments_make_documented_shapes() -> None:
    conv, plain = Conv2D(1, 2, 3, 2, 4, 0.5), Conv2D(*np.array([2, 5, 3]))
    hidden, output = HiddenLayer(7, 4, 0.25), OutputLayer(4, 3, 0.25)
    assert conv.forward(np.zeros((1, 1, 8, 9))).shape == (1, 2, 7, 8)  # (8 + 8 - 3)//2 + 1
    assert plain.forward(np.zeros((1, 2, 9, 8))).shape == (1, 5, 7, 6)  # stride 1, no padding
    assert (plain.weights.shape, plain.bias.shape) == ((5, 2, 3, 3), (5, 1))
    assert (hidden.weights.shape, hidden.bias.shape) == ((7, 4), (1, 4))
    assert (output.weights.shape, output.bias.shape) == ((4, 3), (1, 3))
    rates = [layer.learning_rate for layer in (conv, plain, hidden, output)]
    assert rates == [0.5, 0.001, 0.25, 0.25]


def test_documented_code_runs_unchanged() -> None:
    """The documented training loop over a plain list of layers, against the loops."""
    conv = Conv2D(1, 2, 3, padding=1)
    layers = [InputLayer(), conv, HiddenLayer(2 * 4 * 5, 6), OutputLayer(6, 3)]
    expected: dict[str, Array] = {}
    for i, layer in enumerate(layers[1:], start=1):
        assert isinstance(layer, ParameterLayer)
        layer.weights, layer.bias = (0.3 * random(getattr(layer, n).shape, i) for n in NAMES)
        layer.learning_rate = 0.02
        expected |= {f"layer{i}.{name}": getattr(layer, name).copy() for name in NAMES}
    x, y = random((4, 1, 4, 5), 5), np.eye(3)[[0, 2, 1, 2]]

    losses = []
    for _ in range(3):
        out = x
        for layer in layers:
            out = layer.forward(out)
        losses.append(loss_function(out, y))
        dout = loss_gradient(out, y)
        for layer in reversed(layers):
            dout = layer.backward(dout)
        for layer in layers:
            layer.update_params()

        y_pred = reference.network_forward(expected, x, 1, 1)
        assert abs(losses[-1] - reference.mean_cross_entropy(y_pred, y)) < 1e-10
        gradients = reference.network_gradients(expected, x, y, 1, 1)
        expected = {n: reference.updated(a, gradients[n], 0.02) for n, a in expected.items()}
        compare({n: getattr(layers[int(n[5])], n[7:]) for n in expected}, expected)
    assert losses[0] > losses[1] > losses[2]
    assert dout.shape == x.shape


# --- layers of the reader's own ------------------------------------------------------------------


class Square(Layer):
    """All that a layer without parameters needs."""

    def forward(self, x: Array) -> Array:
        self.x = x
        return x * x

    def backward(self, dout: Array) -> Array:
        return 2 * self.x * dout


class Affine(ParameterLayer):
    """x * gamma + beta, one pair of numbers for each channel: no parameter is called weights."""

    def __init__(self, channels: int) -> None:
        self.channels = channels
        super().__init__(0.01, None, np.float64)
        self.gamma: Array
        self.beta: Array

    arguments = ("channels",)

    def forward(self, x: Array) -> Array:
        self.x = self.check_input(x)
        return self.x * self.gamma + self.beta

    def backward(self, dout: Array) -> Array:
        dz = self.check_dout(dout)
        self.dgamma = (dz * self.x).sum(axis=(0, 2, 3))[:, None, None]
        self.dbeta = dz.sum(axis=(0, 2, 3))[:, None, None]
        return dz * self.gamma

    def check_shape(self, x_shape: tuple[int | str, ...]) -> None:
        assert x_shape[1] == self.channels

    @staticmethod
    def parameter_shapes(config: Mapping[str, Any]) -> dict[str, Shape]:
        return dict.fromkeys(("gamma", "beta"), (config["channels"], 1, 1))


@pytest.mark.parametrize(
    "own",
    [
        Square,
        lambda: Affine(3),
    ],
    ids=["Square", "Affine"],
)
def test_a_layer_of_ones_own_trains_like_any_other(own: Callable[[], Layer]) -> None:
    net = filled_network(
        [Conv2D(1, 3, 3, dtype=np.float64), own(), OutputLayer(3 * 4 * 3, 3, dtype=np.float64)]
    )
    x, y = random((5, 1, 6, 5), 1), np.eye(3)[[0, 1, 2, 0, 1]]
    assert all(check.passed for check in check_gradients(net, x, y, np.random.default_rng(0)))
    losses = [loss_function(net.train_step(x, y), y) for _ in range(50)]
    assert losses[-1] < 0.9 * losses[0]
    changed = net.with_parameters({name: a / 2 for name, a in net.parameters().items()})
    assert str(changed) == str(net)
    assert (changed.predict_proba(x) != net.predict_proba(x)).any()


# --- what is said when something is wrong --------------------------------------------------------

ONE, THREE, DENSE_40 = Conv2D(1, 32, 3), Conv2D(3, 8, 5), HiddenLayer(40, 3)


@pytest.mark.parametrize(
    ("layer", "shape", "fix"),
    [
        (ONE, (64, 28, 28), "add the channel axis with x[:, None]"),
        (ONE, (9, 784), "one image becomes x[None, None], flat images x.reshape(-1, 1, H, W)"),
        (THREE, (64, 2352), "reshape flat images with x.reshape(-1, 3, H, W)"),
        (THREE, (3, 28, 28), "add the batch axis with x[None]"),
        (THREE, (9, 28, 28, 3), "move the channels to the front with x.transpose(0, 3, 1, 2)"),
        (THREE, (9, 1, 28, 28), "the second axis must hold the channels, of which there are 3"),
        (THREE, (7,), "the second axis must hold the channels, of which there are 3"),
        (
            DENSE_40,
            (2, 2, 4, 6),
            "build the layer for the size of its input, or give inputs of the size of the layer",
        ),
        (DENSE_40, (2, 5, 8), "flatten it with x.reshape(len(x), 40)"),
        (OutputLayer(40, 3), (40,), "add the batch axis with x[None]"),
    ],
)
def test_x_of_a_wrong_shape(layer: Layer, shape: Shape, fix: str) -> None:
    expected = "(N, 40) or (N, C, H, W) with C*H*W = 40"
    if isinstance(layer, Conv2D):
        expected = f"(N, {layer.in_channels}, H, W)"
    assert refused(lambda: layer.forward(np.zeros(shape))) == (
        f"{layer} expects x of shape {expected}, got {shape}; {fix}"
    )


@pytest.mark.parametrize("shape", [(4, 30), (3, 6, 5), (2, 1, 1, 6, 5), (7,)])
def test_pooling_needs_images(shape: Shape) -> None:
    assert refused(lambda: MaxPool2D(2).forward(np.zeros(shape))) == (
        f"MaxPool2D(2x2) expects x of shape (N, C, H, W), got {shape}; pool before the dense layers"
    )


@pytest.mark.parametrize(("h", "w"), [(3, 9), (9, 3), (2, 2)])
def test_images_smaller_than_a_pooling_window(h: int, w: int) -> None:
    layer = MaxPool2D(4, 1)
    for n, call in (
        ("5", lambda: layer.forward(np.zeros((5, 2, h, w)))),
        ("N", lambda: layer.output_shape((2, h, w))),
    ):
        assert refused(call) == (
            "MaxPool2D(4x4, stride 1) expects images of at least 4 x 4 pixels, "
            f"got ({n}, 2, {h}, {w}); use smaller windows or pool less often"
        )


def test_images_smaller_than_a_kernel() -> None:
    layer = Conv2D(1, 2, 5, padding=1)
    assert refused(lambda: layer.forward(np.zeros((1, 1, 9, 2)))) == (
        "Conv2D(1 -> 2, 5x5) with padding 1 expects images of at least 3 x 3 pixels, "
        "got (1, 1, 9, 2); use a smaller kernel or more padding"
    )


@pytest.mark.parametrize(
    ("layer", "x_shape", "expected"),
    [
        (Conv2D(1, 2, 3), (4, 1, 6, 5), "Conv2D(1 -> 2, 3x3) expects dout of shape (4, 2, 4, 3)"),
        (HiddenLayer(30, 3), (4, 1, 6, 5), "HiddenLayer(30 -> 3) expects dout of shape (4, 3)"),
        (OutputLayer(5, 10), (4, 5), "OutputLayer(5 -> 10) expects dout of shape (4, 10)"),
        (ReLU(), (4, 3), "ReLU() expects dout of shape (4, 3)"),
        (ReLU(), (4, 3, 2, 1), "ReLU() expects dout of shape (4, 3, 2, 1)"),
        (MaxPool2D(2), (4, 3, 6, 5), "MaxPool2D(2x2) expects dout of shape (4, 3, 3, 2)"),
        (
            MaxPool2D(3, 2),
            (4, 3, 7, 6),
            "MaxPool2D(3x3, stride 2) expects dout of shape (4, 3, 3, 2)",
        ),
    ],
)
def test_dout_of_a_wrong_shape(layer: Layer, x_shape: Shape, expected: str) -> None:
    layer.forward(np.zeros(x_shape))
    for backward in (layer.backward, layer.backward_parameters):
        message = refused(partial(backward, np.zeros((4, 2))))
        assert message == f"{expected}, the shape of its output, got (4, 2)"


@every_layer
def test_backward_before_forward(make: MakeAny) -> None:
    layer = make()
    assert refused(lambda: layer.backward(np.zeros((1, 3))), RuntimeError) == (
        f"{layer}: backward before forward; call forward(x) first"
    )


@every_parameter_layer
def test_gradients_before_backward(make: Make) -> None:
    layer = make()
    layer.forward(np.zeros(X_SHAPE))
    for call in (layer.update_params, layer.gradients):
        assert refused(call, RuntimeError) == (
            f"{layer}: there are no gradients before backward; call backward(dout) first"
        )


@every_parameter_layer
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.int32, np.float16, np.complex64])
def test_assigned_arrays_that_do_not_fit(make: Make, name: str, dtype: npt.DTypeLike) -> None:
    layer = make()
    right: Array = getattr(layer, name)
    setattr(layer, name, np.zeros((7, 7)))
    calls: list[Callable[[], object]] = [lambda: layer.forward(X), layer.parameters]
    assert {refused(call) for call in calls} == {
        f"{layer} expects {name} of shape {right.shape}, got (7, 7); assign an array of that shape"
    }
    setattr(layer, name, right.astype(dtype))
    assert {refused(call) for call in calls} == {
        f"{layer} expects {name} of dtype float32 or float64, got {np.dtype(dtype)}; "
        "convert the array with .astype(numpy.float32)"
    }
    setattr(layer, name, right)
    layer.forward(X)


@every_parameter_layer
@pytest.mark.parametrize("dtype", [np.int32, np.float16, np.complex64, bool, object])
def test_other_dtypes_are_refused(make: Make, dtype: npt.DTypeLike) -> None:
    assert refused(lambda: make(dtype=dtype)) == (
        f"{make()} expects dtype float32 or float64, got {np.dtype(dtype)}; "
        "leave dtype out for float32"
    )


@pytest.mark.parametrize(
    ("layer_class", "arguments", "message"),
    [
        (Conv2D, (0, 1, 3), "in_channels to be a whole number of at least 1, got 0"),
        (Conv2D, (1, -2, 3), "out_channels to be a whole number of at least 1, got -2"),
        (Conv2D, (1, 1, (3, 3)), "kernel_size to be a whole number of at least 1, got (3, 3)"),
        (Conv2D, (1, 1, True), "kernel_size to be a whole number of at least 1, got True"),
        (Conv2D, (1, 1, 3, 0), "stride to be a whole number of at least 1, got 0"),
        (Conv2D, (1, 1, 3, 1, -1), "padding to be a whole number of at least 0, got -1"),
        (Conv2D, (1, 1, 3, 1, "same"), "padding to be a whole number of at least 0, got 'same'"),
        (HiddenLayer, (2.5, 1), "input_size to be a whole number of at least 1, got 2.5"),
        (OutputLayer, (2, 0), "output_size to be a whole number of at least 1, got 0"),
        (MaxPool2D, (0,), "size to be a whole number of at least 1, got 0"),
        (MaxPool2D, ((2, 2),), "size to be a whole number of at least 1, got (2, 2)"),
        (MaxPool2D, (2, 0), "stride to be a whole number of at least 1, got 0"),
        (MaxPool2D, (2, 1.5), "stride to be a whole number of at least 1, got 1.5"),
        *(
            (layer, sizes, f"learning_rate to be a finite number of at least 0, got {sizes[-1]!r}")
            for layer, sizes in (
                *((HiddenLayer, (2, 1, rate)) for rate in ("0.1", True, None, np.nan, np.inf)),
                *((OutputLayer, (2, 1, rate)) for rate in (-0.1, 1j, np.float32(np.nan), [0.1])),
                (Conv2D, (1, 1, 3, 1, 0, "fast")),
            )
        ),
    ],
)
def test_constructor_arguments_that_make_no_sense(
    layer_class: type[Any], arguments: tuple[Any, ...], message: str
) -> None:
    assert refused(lambda: layer_class(*arguments)) == f"{layer_class.__name__} expects {message}"


@pytest.mark.parametrize("layer", [Conv2D(1, 2, 3, dtype=np.float64), MaxPool2D(2)])
def test_a_refused_batch_leaves_the_layer_as_it_was(layer: Layer) -> None:
    x = random((2, 1, 5, 5), 1)
    expected = passed(layer, x)
    refused(lambda: layer.forward(np.zeros((2, 2, 5))))
    found = layer.backward(random(expected["out"].shape, 2))
    np.testing.assert_array_equal(found, expected["dx"])
