"""The layers: values, gradients, updates, dtypes, and no side effects.

Oracles: `reference`, loops written from the documented formulas; central differences under a
random dout; cases worked by hand. test_messages.py tests the messages, and test_network.py the
documented training loop.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference
from builders import (
    EXAMPLE_SHAPE,
    EXAMPLES,
    GEOMETRIES,
    POOLINGS,
    close,
    compare,
    copies,
    filled,
    filled_network,
    random,
    refused,
    remade,
    slopes_agree,
)

from handcnn import (
    Conv2D,
    HiddenLayer,
    InputLayer,
    MaxPool2D,
    OutputLayer,
    ReLU,
    loss_function,
)
from handcnn.gradient_check import check_gradients
from handcnn.layers import LAYERS, Layer, ParameterLayer
from handcnn.types import Array, Shape

F64 = np.float64
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def passed(layer: Layer, x: Array, seed: int = 2) -> dict[str, Array]:
    """Run forward and backward, with a random dout; return all results."""
    out = layer.forward(x)
    dx = layer.backward(random(out.shape, seed))
    return {"out": out, "dx": dx} | {f"d{name}": a for name, a in layer.gradients().items()}


# --- values and gradients ------------------------------------------------------------------------

DENSE = {  # the shape of x, and M
    "one number": ((1, 1), 1),
    "N=1": ((1, 7), 3),
    "flat": ((5, 6), 4),
    "one unit": ((4, 3), 1),
    "4-D": ((3, 2, 3, 4), 5),
    "4-D, N=1": ((1, 3, 1, 2), 2),
    "4-D, more units than inputs": ((2, 1, 2, 2), 9),
}
SHAPES = [(1,), (7,), (4, 5), (0, 5), (3, 2, 4), (2, 3, 4, 5), (1, 1, 1, 1)]  # of x, for ReLU
CASES: dict[str, tuple[Layer, Shape]] = {
    **{
        f"Conv2D, {name}": (Conv2D(g.C, g.F, g.k, g.s, g.p, dtype=F64), (g.N, *g.image_shape))
        for name, g in GEOMETRIES.items()
    },
    **{
        f"{dense.__name__}, {name}": (dense(prod(shape[1:]), units, dtype=F64), shape)
        for name, (shape, units) in DENSE.items()
        for dense in (HiddenLayer, OutputLayer)
    },
    **{f"ReLU, {shape}": (ReLU(), shape) for shape in SHAPES},
    **{
        f"MaxPool2D, {name}": (MaxPool2D(size, stride), shape)
        for name, (shape, size, stride) in POOLINGS.items()
    },
    **{name: (remade(layer, dtype=F64), EXAMPLE_SHAPE) for name, layer in EXAMPLES.items()},
}


def by_loops(layer: Layer, x: Array, dout: Array) -> dict[str, Array]:
    """Return the results of the loops for x and dout; empty for a layer without any loops."""
    match layer:
        case Conv2D(weights=W, bias=b, stride=s, padding=p):
            dx, dweights, dbias = reference.conv_backward(x, W, s, p, dout)
            out = reference.conv_forward(x, W, b, s, p)
            return {"out": out, "dx": dx, "dweights": dweights, "dbias": dbias}
        case HiddenLayer(weights=W, bias=b) | OutputLayer(weights=W, bias=b):
            flat, dz = reference.flatten(x), dout
            z = reference.dense_forward(flat, W, b)
            out = reference.softmax(z)
            if isinstance(layer, HiddenLayer):
                out, dz = reference.relu(z), reference.relu_backward(z, dout)
            dx, dweights, dbias = reference.dense_backward(flat, W, dz)
            dx = reference.unflatten(dx, x.shape)
            return {"out": out, "dx": dx, "dweights": dweights, "dbias": dbias}
        case ReLU():
            return {"out": reference.relu(x), "dx": reference.relu_backward(x, dout)}
        case MaxPool2D(size=size, stride=s):
            dx = reference.max_pool_backward(x, size, s, dout)
            return {"out": reference.max_pool_forward(x, size, s), "dx": dx}
    return {}


def test_every_layer_has_a_test_of_its_gradient() -> None:
    """An InputLayer has no gradient: it returns dout itself."""
    examples = {type(layer) for layer in EXAMPLES.values()} | {InputLayer}
    missing = [name for name, layer in LAYERS.items() if layer not in examples]
    assert not missing, (
        f"the gradient of {', '.join(missing)} is not tested: add an example to EXAMPLES in "
        "tests/builders.py, and loops for it to by_loops in tests/test_layers.py"
    )


@pytest.mark.parametrize(("layer", "x_shape"), CASES.values(), ids=CASES.keys())
def test_layers_agree_with_loops_and_central_differences(layer: Layer, x_shape: Shape) -> None:
    """The checked function is sum(output * dout). With dout = 1, many mistakes would pass.

    The output layer takes the gradient with respect to z, so its softmax is left out here.
    """
    filled(layer)
    x = random(x_shape, 3)
    found = passed(layer, x, seed=4)
    assert found["out"].shape[1:] == layer.output_shape(x_shape[1:])
    dout = random(found["out"].shape, 4)
    if expected := by_loops(layer, x, dout):
        compare(found, expected)

    def sum_of_products() -> float:
        if isinstance(layer, OutputLayer):
            return float(((x.reshape(len(x), -1) @ layer.weights + layer.bias) * dout).sum())
        return float((layer.forward(x) * dout).sum())

    slopes_agree(found["dx"], sum_of_products, x)
    for name, parameter in layer.parameters().items():
        slopes_agree(found[f"d{name}"], sum_of_products, parameter)

    if isinstance(layer, ParameterLayer):
        before, layer.learning_rate = copies(layer.parameters()), 0.3
        layer.update_params()
        for name, parameter in layer.parameters().items():
            close(parameter, reference.updated(before[name], found[f"d{name}"], 0.3))


def test_convolution_worked_by_hand() -> None:
    layer = Conv2D(1, 1, 2, learning_rate=0.5, dtype=F64)
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

    layer.update_params()
    np.testing.assert_array_equal(layer.weights, [[[[2, -1], [-1, 5]]]])
    np.testing.assert_array_equal(layer.bias, [[9]])


def test_hidden_layer_is_silent_at_zero() -> None:
    """Where z is exactly 0, the mask z > 0 is false, so the gradient is 0."""
    layer = HiddenLayer(2, 1, dtype=F64)
    layer.weights = np.array([[1.0], [-1.0]])
    found = passed(layer, np.array([[3.0, 3.0]]))
    assert not any(array.any() for array in found.values())


@every_dtype
def test_softmax_takes_logits_of_any_size(dtype: npt.DTypeLike) -> None:
    layer = OutputLayer(1, 3, dtype=dtype)
    layer.weights = np.array([[1, 1, -1]], dtype)
    x = np.array([[1e30], [-1e30], [3e4], [0]], dtype)
    # equal logits have equal probability; a logit far below the largest has none
    close(layer.forward(x), [[1 / 2, 1 / 2, 0], [0, 0, 1], [1 / 2, 1 / 2, 0], [1 / 3] * 3], 1e-6)


def test_input_layer_passes_everything_on() -> None:
    layer, x, dout = InputLayer(), random((2, 1, 3, 3), 1), random((2, 1, 3, 3), 2)
    assert layer.forward(x) is x
    assert layer.backward(dout) is dout
    layer.update_params()
    assert layer.parameters() == layer.gradients() == {}


# --- the contract of every layer -----------------------------------------------------------------

Make = Callable[..., ParameterLayer]  # a constructor that takes rng= and dtype=
MakeAny = Callable[..., Layer]
ALL: dict[str, MakeAny] = {name: partial(remade, layer) for name, layer in EXAMPLES.items()}
WITH_PARAMETERS = {
    name: make for name, make in ALL.items() if isinstance(EXAMPLES[name], ParameterLayer)
}
PLAIN = {name: make for name, make in ALL.items() if name not in WITH_PARAMETERS}  # dtype of x
X = random(EXAMPLE_SHAPE, 1)
every_layer = pytest.mark.parametrize("make", ALL.values(), ids=ALL)
every_plain_layer = pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN)
every_parameter_layer = pytest.mark.parametrize(
    "make", WITH_PARAMETERS.values(), ids=WITH_PARAMETERS
)


@every_parameter_layer
@every_dtype
@pytest.mark.parametrize("given_dtype", [np.float32, np.float64, np.uint8])
def test_everything_has_the_dtype_of_the_layer(
    make: Make, dtype: npt.DTypeLike, given_dtype: npt.DTypeLike
) -> None:
    """Bytes are converted, but not scaled."""
    layer, x = make(dtype=dtype), np.abs(100 * X).astype(given_dtype)
    out = layer.forward(x)
    np.testing.assert_array_equal(out, layer.forward(x.astype(dtype)))
    dx = layer.backward(np.abs(random(out.shape, 2)).astype(given_dtype))
    layer.learning_rate = np.float64(0.1)
    layer.update_params()
    arrays = (out, dx, *layer.gradients().values(), *layer.parameters().values())
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


@every_plain_layer
@pytest.mark.parametrize(
    ("given_dtype", "dtype"),
    [("f4", "f4"), ("f8", "f8"), ("u1", "f4"), ("i8", "f4"), ("?", "f4"), ("f2", "f4")],
)
def test_layers_without_parameters_compute_in_the_dtype_of_x(
    make: MakeAny, given_dtype: str, dtype: str
) -> None:
    """Dtypes other than float32 and float64 become float32, as in layers with parameters.

    Regression: bytes stayed bytes, so the gradient 0.5 became 0.
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
def test_passes_leave_everything_else_alone(make: MakeAny, dtype: npt.DTypeLike) -> None:
    """They do not change the input or earlier results. Gradients are assigned, not accumulated.

    The caller may change the results. Regression: MaxPool2D returned the z that its backward
    needs.
    """
    layer, x = make(dtype=dtype), X.astype(dtype)
    dout = random(layer.forward(x).shape, 2).astype(dtype)
    x.flags.writeable = dout.flags.writeable = False  # NumPy raises on any attempt
    first = passed(layer, x)
    kept = copies(first)
    passed(layer, random((5, *X.shape[1:]), 3), seed=4)
    compare(first, kept, rounding=0)  # no buffer is handed out twice
    layer.forward(x)[...] = 9
    assert layer.x is x
    if type(layer).check_shape is not Layer.check_shape:  # ReLU, for one, takes any shape
        refused(lambda: layer.forward(x[0]))
    for backward in (layer.backward, layer.backward, layer.backward_parameters):
        dx = backward(dout)
        gradients = {f"d{name}": array for name, array in layer.gradients().items()}
        compare(gradients, {name: kept[name] for name in gradients}, rounding=0)
        assert dx is None or (dx == kept["dx"]).all()
    layer.update_params()


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
    layer = filled(make(dtype=F64))
    expected = passed(layer, X)
    for name, array in layer.parameters().items():
        setattr(layer, name, rearrange(array))
    out = layer.forward(rearrange(X))
    dx = layer.backward(rearrange(random(out.shape, 2)))
    gradients = layer.gradients()
    compare({"out": out, "dx": dx} | {f"d{name}": a for name, a in gradients.items()}, expected)
    updated = {name: a - 0.001 * gradients[name] for name, a in layer.parameters().items()}
    layer.update_params()
    compare(layer.parameters(), updated)


@every_parameter_layer
@pytest.mark.parametrize(
    ("dtype", "convert"),
    [(F64, None), (F64, np.copy), (np.float32, np.copy), (np.float32, np.ndarray.tolist)],
    ids=["edited in place", "assigned", "to float32", "lists to float32"],
)
def test_edited_and_assigned_parameters_are_seen(
    make: Make, dtype: npt.DTypeLike, convert: Callable[[Array], Any] | None
) -> None:
    """A float32 layer with float64 parameters assigned computes in float64."""
    layer, exact = make(dtype=dtype), filled(make(dtype=F64))
    passed(layer, X)
    for name, array in exact.parameters().items():
        if convert is None:
            getattr(layer, name)[...] = array
        else:
            setattr(layer, name, given := convert(array))
            assert layer.parameters()[name] is given or isinstance(given, list)
    compare(passed(layer, X), passed(exact, X), rounding=0)
    layer.update_params()
    exact.update_params()
    compare(layer.parameters(), exact.parameters(), rounding=0)


@every_parameter_layer
def test_the_first_parameter_decides_the_dtype_of_all(make: Make) -> None:
    layer = make()
    _, *others = layer.parameters()
    for name in others:
        setattr(layer, name, getattr(layer, name).astype(F64))
    found = {layer.forward(X).dtype, *(array.dtype for array in layer.parameters().values())}
    assert found == {np.dtype(np.float32)}


@every_parameter_layer
def test_nan_in_a_parameter_shows_in_the_output(make: Make) -> None:
    for name in make().parameters():
        layer = filled(make(dtype=F64))
        getattr(layer, name).flat[-1] = np.nan
        assert np.isnan(layer.forward(X)).any(), name


@every_layer
@every_dtype
@pytest.mark.parametrize("place", [(0, 0, 0, 0), (1, 1, 3, 3)])
def test_nan_in_x_shows_in_the_output(make: MakeAny, dtype: npt.DTypeLike, place: Shape) -> None:
    """Only in the output of the same image."""
    layer, x = make(dtype=dtype), X.astype(dtype)
    x[place] = np.nan
    found = np.isnan(layer.forward(x)).reshape(len(x), -1).any(axis=1)
    assert found.tolist() == [n == place[0] for n in range(len(x))]


@every_layer
@every_dtype
def test_no_images(make: MakeAny, dtype: npt.DTypeLike) -> None:
    """Shapes and dtypes as always, gradients 0. Regression: Conv2D.backward divided by zero."""
    layer = make(dtype=dtype)
    some = passed(layer, X.astype(dtype))
    none = passed(layer, X[:0].astype(dtype))
    gradients = [f"d{name}" for name in layer.parameters()]
    for name, array in none.items():
        shape = some[name].shape if name in gradients else (0, *some[name].shape[1:])
        assert (array.shape, array.dtype) == (shape, dtype), name
        assert not array.any()
    layer.update_params()


REPRS: dict[str, Layer] = {
    "InputLayer()": InputLayer(),
    "Conv2D(1 -> 4, 3x3)": Conv2D(1, 4, 3),
    "Conv2D(1 -> 4, 3x3, stride 2)": Conv2D(1, 4, 3, 2),
    "Conv2D(1 -> 4, 3x3, padding 1)": Conv2D(1, 4, 3, padding=1),
    "Conv2D(1 -> 4, 3x3, stride 2, padding 1)": Conv2D(1, 4, 3, 2, 1),
    "MaxPool2D(2x2)": MaxPool2D(2, 2),
    "MaxPool2D(3x3, stride 2)": MaxPool2D(3, 2),
    "ReLU()": ReLU(),
    "HiddenLayer(6 -> 5)": HiddenLayer(6, 5),
    "OutputLayer(6 -> 5)": OutputLayer(6, 5),
}


@pytest.mark.parametrize("text", REPRS)
def test_a_layer_prints_what_it_is(text: str) -> None:
    """Regression: convolutions of different stride and padding printed alike."""
    assert repr(REPRS[text]) == text


# --- construction --------------------------------------------------------------------------------


@every_parameter_layer
def test_initial_values(make: Make) -> None:
    layer, same, other = (make(rng=np.random.default_rng(seed)) for seed in (7, 7, 8))
    compare(layer.parameters(), same.parameters(), rounding=0)
    assert (layer.weights != other.weights).any()
    assert (make().weights != make().weights).any()
    assert [name for name, array in layer.parameters().items() if array.any()] == ["weights"]
    assert {array.dtype for array in layer.parameters().values()} == {np.dtype(np.float32)}


def test_initial_weights_have_the_documented_distribution() -> None:
    """Mean and deviation of 200,000 normal numbers, within 4 standard errors."""
    weights = HiddenLayer(2000, 100, rng=np.random.default_rng(0), dtype=F64).weights
    assert abs(weights.mean()) < 4 * 0.01 / weights.size**0.5
    assert abs(weights.std() - 0.01) < 4 * 0.01 / (2 * weights.size) ** 0.5
    assert abs((np.abs(weights) < 0.01).mean() - 0.6827) < 0.005  # normal rather than uniform


DENSE_ARGUMENTS = "(input_size, output_size, learning_rate=0.001, *, "
EXTRAS = "rng=None, dtype=<class 'numpy.float32'>)"
SIGNATURES: dict[type[Layer], str] = {
    InputLayer: "()",
    Conv2D: "(in_channels, out_channels, kernel_size, stride=1, padding=0, learning_rate=0.001, *, "
    + EXTRAS,
    HiddenLayer: DENSE_ARGUMENTS + EXTRAS,
    OutputLayer: DENSE_ARGUMENTS + EXTRAS,
    ReLU: "()",
    MaxPool2D: "(size, stride=None)",
}


@pytest.mark.parametrize("layer_class", SIGNATURES)
def test_constructors_take_the_documented_arguments_in_order(layer_class: type[Layer]) -> None:
    parameters = inspect.signature(layer_class).parameters.values()
    plain = inspect.Signature([p.replace(annotation=p.empty) for p in parameters])
    assert str(plain) == SIGNATURES[layer_class]


# --- custom layers -------------------------------------------------------------------------------


class Square(Layer):
    """The minimum for a layer without parameters."""

    def forward(self, x: Array) -> Array:
        self.x = x
        return x * x

    def backward(self, dout: Array) -> Array:
        return 2 * self.x * dout


class Affine(ParameterLayer):
    """x * gamma + beta, one pair for each channel: a layer without `weights`."""

    arguments = ("channels",)

    def __init__(self, channels: int) -> None:
        self.channels = channels
        super().__init__(0.01, None, F64)
        self.gamma: Array
        self.beta: Array

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


@pytest.mark.parametrize("own", [Square, lambda: Affine(3)], ids=["Square", "Affine"])
def test_a_layer_of_ones_own_trains_like_any_other(own: Callable[[], Layer]) -> None:
    net = filled_network([Conv2D(1, 3, 3, dtype=F64), own(), OutputLayer(3 * 4 * 3, 3, dtype=F64)])
    x, y = random((5, 1, 6, 5), 1), np.eye(3)[[0, 1, 2, 0, 1]]
    assert all(check.passed for check in check_gradients(net, x, y, np.random.default_rng(0)))
    losses = [loss_function(net.train_step(x, y), y) for _ in range(50)]
    assert losses[-1] < 0.9 * losses[0]
    changed = net.with_parameters({name: a / 2 for name, a in net.parameters().items()})
    assert str(changed) == str(net)
    assert (changed.predict_proba(x) != net.predict_proba(x)).any()
