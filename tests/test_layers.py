"""The layers: values, gradients, updates, dtypes, what they leave alone, and what they say.

Oracles: `reference`, loops written from the documented formulas; central differences under a
random dout; cases worked by hand on paper.
"""

import inspect
from collections.abc import Callable

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from handcnn import Conv2D, HiddenLayer, InputLayer, OutputLayer, loss_function, loss_gradient

Array = np.ndarray
ROUNDING = {"rtol": 1e-10, "atol": 1e-10}

# N, C, H, W, F, k, s, p
CONVOLUTIONS = [
    pytest.param((1, 1, 5, 5, 1, 3, 1, 0), id="plain"),
    pytest.param((1, 1, 1, 1, 1, 1, 1, 0), id="one pixel"),
    pytest.param((2, 1, 6, 5, 3, 3, 1, 1), id="documented, small"),
    pytest.param((1, 1, 28, 28, 2, 3, 1, 1), id="documented, N=1"),
    pytest.param((2, 3, 5, 7, 4, 3, 1, 1), id="H < W, three channels"),
    pytest.param((1, 4, 7, 4, 2, 3, 1, 0), id="H > W, four channels"),
    pytest.param((2, 2, 7, 6, 2, 3, 2, 0), id="stride 2, remainder in W"),
    pytest.param((1, 2, 6, 7, 3, 3, 2, 1), id="stride 2, remainder in H"),
    pytest.param((2, 2, 8, 9, 2, 3, 3, 1), id="stride 3, remainders 1 and 2"),
    pytest.param((1, 1, 10, 8, 2, 2, 3, 0), id="stride beyond the kernel"),
    pytest.param((2, 2, 4, 3, 2, 3, 2, 3), id="padding 3, stride 2"),
    pytest.param((1, 1, 4, 5, 2, 2, 1, 2), id="padding as large as the kernel"),
    pytest.param((2, 3, 4, 5, 2, 1, 1, 0), id="1x1"),
    pytest.param((2, 3, 4, 5, 2, 1, 2, 0), id="1x1, stride 2"),
    pytest.param((1, 2, 3, 4, 2, 1, 1, 2), id="1x1, padding 2"),
    pytest.param((2, 2, 4, 4, 3, 4, 1, 0), id="kernel as large as the image"),
    pytest.param((1, 2, 3, 3, 2, 7, 1, 2), id="kernel as large as the padded image"),
    pytest.param((1, 1, 2, 2, 2, 8, 3, 3), id="the same with padding and stride 3"),
    pytest.param((2, 1, 6, 4, 2, 4, 1, 1), id="even kernel"),
    pytest.param((1, 2, 9, 9, 2, 5, 2, 2), id="5x5, stride 2"),
]

# shape of x, M
DENSE = [
    pytest.param((1, 1), 1, id="one number"),
    pytest.param((1, 7), 3, id="N=1"),
    pytest.param((5, 6), 4, id="flat"),
    pytest.param((4, 3), 1, id="one unit"),
    pytest.param((3, 2, 3, 4), 5, id="4-D"),
    pytest.param((1, 3, 1, 2), 2, id="4-D, N=1"),
    pytest.param((2, 1, 2, 2), 9, id="4-D, more units than inputs"),
]


def random(shape: tuple[int, ...], seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def fill(layer: Conv2D | HiddenLayer | OutputLayer) -> None:
    """Give `layer` parameters of order one; fresh biases are zero and would hide their mistakes."""
    layer.weights = random(layer.weights.shape, 1)
    layer.bias = random(layer.bias.shape, 2)


def convolution(case: tuple[int, ...]) -> tuple[Conv2D, Array]:
    n, c, h, w, f, k, s, p = case
    layer = Conv2D(c, f, k, s, p, dtype=np.float64)
    fill(layer)
    return layer, random((n, c, h, w), 3)


# --- convolution ---------------------------------------------------------------------------------


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


def compare_convolution(case: tuple[int, ...]) -> None:
    layer, x = convolution(case)
    s, p = case[6:]
    weights, bias = layer.weights.copy(), layer.bias.copy()

    z = reference.conv_forward(x, weights, bias, s, p)
    np.testing.assert_allclose(layer.forward(x), z, **ROUNDING)

    dout = random(z.shape, 4)
    dx, dweights, dbias = reference.conv_backward(x, weights, s, p, dout)
    np.testing.assert_allclose(layer.backward(dout), dx, **ROUNDING)
    np.testing.assert_allclose(layer.dweights, dweights, **ROUNDING)
    np.testing.assert_allclose(layer.dbias, dbias, **ROUNDING)

    layer.learning_rate = 0.3
    layer.update_params()
    new_weights = reference.updated(weights, dweights, 0.3)
    np.testing.assert_allclose(layer.weights, new_weights, **ROUNDING)
    np.testing.assert_allclose(layer.bias, reference.updated(bias, dbias, 0.3), **ROUNDING)


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution_agrees_with_the_loops(case: tuple[int, ...]) -> None:
    compare_convolution(case)


@settings(max_examples=60)
@given(reference.convolutions())
def test_any_convolution_agrees_with_the_loops(case: tuple[int, ...]) -> None:
    compare_convolution(case)


@pytest.mark.parametrize("case", [case for case in CONVOLUTIONS if case.id != "documented, N=1"])
def test_convolution_agrees_with_central_differences(case: tuple[int, ...]) -> None:
    layer, x = convolution(case)
    compare_with_differences(layer, x, lambda: layer.forward(x))


def compare_with_differences(
    layer: Conv2D | HiddenLayer | OutputLayer, x: Array, output: Callable[[], Array]
) -> None:
    """Compare with the slopes of sum(output * dout): with dout = 1 many mistakes would pass."""
    dout = random(layer.forward(x).shape, 4)
    dx = layer.backward(dout)
    found = {"x": dx, "weights": layer.dweights, "bias": layer.dbias}
    for name, array in {"x": x, "weights": layer.weights, "bias": layer.bias}.items():
        slopes = reference.central_difference(lambda: float((output() * dout).sum()), array)
        np.testing.assert_allclose(found[name], slopes, rtol=1e-6, atol=1e-7, err_msg=name)


# --- dense layers --------------------------------------------------------------------------------


def dense(
    layer_class: type[HiddenLayer | OutputLayer], x_shape: tuple[int, ...], units: int
) -> tuple[HiddenLayer | OutputLayer, Array, Array]:
    """Return a filled layer, x, and x as the formulas want it, (N, D)."""
    x = random(x_shape, 3)
    flat = reference.flatten(x) if x.ndim == 4 else x
    layer = layer_class(flat.shape[1], units, dtype=np.float64)
    fill(layer)
    return layer, x, flat


def compare_dense(layer: HiddenLayer | OutputLayer, x: Array, flat: Array) -> None:
    weights, bias = layer.weights.copy(), layer.bias.copy()
    z = reference.dense_forward(flat, weights, bias)
    dout = random(z.shape, 4)
    if isinstance(layer, HiddenLayer):
        a, dz = reference.relu(z), reference.relu_backward(z, dout)
    else:
        a, dz = reference.softmax(z), dout
    np.testing.assert_allclose(layer.forward(x), a, **ROUNDING)

    dx, dweights, dbias = reference.dense_backward(flat, weights, dz)
    if x.ndim == 4:
        dx = reference.unflatten(dx, x.shape)
    found = layer.backward(dout)
    assert found.shape == x.shape
    np.testing.assert_allclose(found, dx, **ROUNDING)
    np.testing.assert_allclose(layer.dweights, dweights, **ROUNDING)
    np.testing.assert_allclose(layer.dbias, dbias, **ROUNDING)
    assert layer.dbias.shape == bias.shape

    layer.learning_rate = 0.3
    layer.update_params()
    new_weights = reference.updated(weights, dweights, 0.3)
    np.testing.assert_allclose(layer.weights, new_weights, **ROUNDING)
    np.testing.assert_allclose(layer.bias, reference.updated(bias, dbias, 0.3), **ROUNDING)


@pytest.mark.parametrize("layer_class", [HiddenLayer, OutputLayer])
@pytest.mark.parametrize(("x_shape", "units"), DENSE)
def test_dense_layers_agree_with_the_loops(
    layer_class: type[HiddenLayer | OutputLayer], x_shape: tuple[int, ...], units: int
) -> None:
    compare_dense(*dense(layer_class, x_shape, units))


@settings(max_examples=40)
@given(
    st.sampled_from([HiddenLayer, OutputLayer]),
    st.tuples(*[st.integers(1, 4)] * 4) | st.tuples(st.integers(1, 6), st.integers(1, 9)),
    st.integers(1, 6),
)
def test_any_dense_layer_agrees_with_the_loops(
    layer_class: type[HiddenLayer | OutputLayer], x_shape: tuple[int, ...], units: int
) -> None:
    compare_dense(*dense(layer_class, x_shape, units))


@pytest.mark.parametrize(("x_shape", "units"), DENSE)
def test_hidden_layer_agrees_with_central_differences(x_shape: tuple[int, ...], units: int) -> None:
    layer, x, _ = dense(HiddenLayer, x_shape, units)
    compare_with_differences(layer, x, lambda: layer.forward(x))


@pytest.mark.parametrize(("x_shape", "units"), DENSE)
def test_output_layer_agrees_with_central_differences(x_shape: tuple[int, ...], units: int) -> None:
    """Its dout is the gradient by z, so z is what is moved; the softmax is not in between."""
    layer, x, _ = dense(OutputLayer, x_shape, units)

    def z() -> Array:
        flat = reference.flatten(x) if x.ndim == 4 else x
        return reference.dense_forward(flat, layer.weights, layer.bias)

    compare_with_differences(layer, x, z)


def test_hidden_layer_is_silent_at_zero() -> None:
    """Where z is exactly 0: the mask is z > 0, so nothing flows back."""
    layer = HiddenLayer(2, 1, dtype=np.float64)
    layer.weights, layer.bias = np.array([[1.0], [-1.0]]), np.array([[0.0]])
    np.testing.assert_array_equal(layer.forward(np.array([[3.0, 3.0]])), [[0]])
    np.testing.assert_array_equal(layer.backward(np.array([[5.0]])), [[0, 0]])
    np.testing.assert_array_equal(layer.dweights, [[0], [0]])
    np.testing.assert_array_equal(layer.dbias, [[0]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_takes_logits_of_any_size(dtype: type) -> None:
    layer = OutputLayer(1, 3, dtype=dtype)
    layer.weights = np.array([[1, 1, -1]], dtype)
    x = np.array([[1e30], [-1e30], [3e4], [0]], dtype)
    # equal logits share, -inf relative to the maximum gets nothing
    expected = [[1 / 2, 1 / 2, 0], [0, 0, 1], [1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(layer.forward(x), expected, rtol=1e-6)


def test_softmax_does_not_change_when_all_logits_move_together() -> None:
    layer = OutputLayer(4, 5, dtype=np.float64)
    fill(layer)
    x = random((3, 4), 5)
    before = layer.forward(x)
    layer.bias = layer.bias + 100
    np.testing.assert_allclose(layer.forward(x), before, rtol=1e-9)
    np.testing.assert_allclose(layer.forward(x).sum(axis=1), 1, rtol=1e-12)


# --- the contract of every layer -----------------------------------------------------------------


def test_input_layer_passes_everything_on() -> None:
    layer = InputLayer()
    x, dout = random((2, 1, 3, 3), 1), random((2, 1, 3, 3), 2)
    assert layer.forward(x) is x
    assert layer.backward(dout) is dout
    layer.update_params()


LAYERS: dict[str, Callable[..., Conv2D | HiddenLayer | OutputLayer]] = {
    "Conv2D": lambda **extras: Conv2D(2, 3, 3, 2, 1, **extras),
    "Conv2D 1x1": lambda **extras: Conv2D(2, 3, 1, **extras),
    "HiddenLayer": lambda **extras: HiddenLayer(40, 3, **extras),
    "OutputLayer": lambda **extras: OutputLayer(40, 3, **extras),
}
X_SHAPE = (2, 2, 4, 5)

every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@every_layer
@every_dtype
@pytest.mark.parametrize("given_dtype", [np.float32, np.float64])
def test_everything_has_the_dtype_of_the_layer(make: Callable, dtype: type, given_dtype: type):
    layer = make(dtype=dtype)
    out = layer.forward(random(X_SHAPE, 1).astype(given_dtype))
    dx = layer.backward(random(out.shape, 2).astype(given_dtype))
    layer.update_params()
    arrays = (out, dx, layer.dweights, layer.dbias, layer.weights, layer.bias)
    assert [array.dtype for array in arrays] == [dtype] * 6


@every_layer
def test_float32_is_the_default_and_bytes_are_not_scaled(make: Callable) -> None:
    layer = make()
    assert layer.weights.dtype == layer.bias.dtype == np.float32
    x = np.random.default_rng(0).integers(0, 256, X_SHAPE, np.uint8)
    from_bytes = layer.forward(x)
    assert from_bytes.dtype == np.float32
    np.testing.assert_array_equal(from_bytes, layer.forward(x.astype(np.float32)))


@every_layer
@every_dtype
def test_x_and_dout_are_never_written_into(make: Callable, dtype: type) -> None:
    layer = make(dtype=dtype)
    x = random(X_SHAPE, 1).astype(dtype)
    dout = random(layer.forward(x).shape, 2).astype(dtype)
    kept = x.copy(), dout.copy()
    x.flags.writeable = dout.flags.writeable = False  # numpy raises on any attempt
    layer.forward(x)
    layer.backward(dout)
    layer.update_params()
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(dout, kept[1])


@every_layer
def test_results_are_the_callers_own(make: Callable) -> None:
    """What one pass returned is still there after the next: no buffer is handed out twice."""
    layer = make(dtype=np.float64)
    out = layer.forward(random(X_SHAPE, 1))
    dx = layer.backward(random(out.shape, 2))
    kept = out.copy(), dx.copy()
    layer.forward(random(X_SHAPE, 3))
    layer.backward(random(out.shape, 4))
    np.testing.assert_array_equal(out, kept[0])
    np.testing.assert_array_equal(dx, kept[1])


@every_layer
def test_backward_belongs_to_the_last_forward(make: Callable) -> None:
    layer = make(dtype=np.float64)
    x, dout = random(X_SHAPE, 1), random(layer.forward(random(X_SHAPE, 1)).shape, 2)
    layer.forward(x)
    dx = layer.backward(dout)
    expected = dx.copy(), layer.dweights.copy(), layer.dbias.copy()
    layer.forward(random((5, *X_SHAPE[1:]), 3))
    layer.forward(x)
    for _ in range(2):  # gradients are assigned, not accumulated
        np.testing.assert_array_equal(layer.backward(dout), expected[0])
        np.testing.assert_array_equal(layer.dweights, expected[1])
        np.testing.assert_array_equal(layer.dbias, expected[2])


@every_layer
def test_non_contiguous_x_and_dout(make: Callable) -> None:
    layer = make(dtype=np.float64)
    n, c, h, w = X_SHAPE
    strided = random((n, h, w, c), 1).transpose(0, 3, 1, 2)
    out = layer.forward(strided).copy()
    dout = random(out.shape[::-1], 2).T
    dx, dweights = layer.backward(dout).copy(), layer.dweights.copy()
    np.testing.assert_allclose(layer.forward(np.ascontiguousarray(strided)), out, **ROUNDING)
    np.testing.assert_allclose(layer.backward(np.ascontiguousarray(dout)), dx, **ROUNDING)
    np.testing.assert_allclose(layer.dweights, dweights, **ROUNDING)


@every_layer
def test_assigned_arrays_are_respected(make: Callable) -> None:
    one, other = make(dtype=np.float64), make(dtype=np.float64)
    fill(one)
    other.weights, other.bias = one.weights, one.bias
    x = random(X_SHAPE, 1)
    np.testing.assert_array_equal(one.forward(x), other.forward(x))
    assert other.weights is one.weights


@every_layer
def test_assigned_float64_arrays_make_a_float32_layer_compute_in_float64(make: Callable) -> None:
    layer, exact = make(), make(dtype=np.float64)
    fill(exact)
    layer.weights, layer.bias = exact.weights.copy(), exact.bias.copy()
    x = random(X_SHAPE, 1)
    np.testing.assert_array_equal(layer.forward(x), exact.forward(x))
    dout = random(layer.forward(x).shape, 2)
    np.testing.assert_array_equal(layer.backward(dout), exact.backward(dout))


@every_layer
@pytest.mark.parametrize("convert", [np.ndarray.tolist, lambda array: array.astype(int)])
def test_assigned_lists_and_whole_numbers_become_float64(make: Callable, convert: Callable) -> None:
    layer, exact = make(), make(dtype=np.float64)
    exact.weights = np.round(random(exact.weights.shape, 1) * 3)
    exact.bias = np.round(random(exact.bias.shape, 2) * 3)
    layer.weights, layer.bias = convert(exact.weights), convert(exact.bias)
    x = random(X_SHAPE, 3)
    dout = random(exact.forward(x).shape, 4)
    np.testing.assert_array_equal(layer.forward(x), exact.forward(x))
    np.testing.assert_array_equal(layer.backward(dout), exact.backward(dout))
    layer.update_params()
    exact.update_params()
    np.testing.assert_array_equal(layer.weights, exact.weights)
    np.testing.assert_array_equal(layer.bias, exact.bias)


@every_layer
def test_edits_in_place_are_seen(make: Callable) -> None:
    layer, fresh = make(dtype=np.float64), make(dtype=np.float64)
    x = random(X_SHAPE, 1)
    layer.forward(x)
    fill(fresh)
    layer.weights[...] = fresh.weights
    layer.bias[...] = fresh.bias
    np.testing.assert_array_equal(layer.forward(x), fresh.forward(x))


@every_layer
def test_learning_rate_is_read_at_every_update(make: Callable) -> None:
    layer = make(dtype=np.float64)
    assert layer.learning_rate == 0.001
    layer.backward(random(layer.forward(random(X_SHAPE, 1)).shape, 2))
    for rate in (0.5, 0.0, np.float32(0.25)):
        layer.learning_rate = rate
        expected = layer.weights - rate * layer.dweights, layer.bias - rate * layer.dbias
        layer.update_params()
        np.testing.assert_array_equal(layer.weights, expected[0])
        np.testing.assert_array_equal(layer.bias, expected[1])


@every_layer
def test_an_edited_gradient_is_what_update_takes(make: Callable) -> None:
    layer = make(dtype=np.float64)
    layer.backward(random(layer.forward(random(X_SHAPE, 1)).shape, 2))
    before = layer.weights.copy()
    layer.learning_rate = 1.0
    layer.dweights[...] = 2.0
    layer.update_params()
    np.testing.assert_array_equal(layer.weights, before - 2.0)


@every_layer
def test_initial_values(make: Callable) -> None:
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


def test_documented_attributes_and_shapes() -> None:
    convolution, hidden, output = Conv2D(2, 5, 3), HiddenLayer(7, 4), OutputLayer(4, 3)
    assert (convolution.weights.shape, convolution.bias.shape) == ((5, 2, 3, 3), (5, 1))
    assert (hidden.weights.shape, hidden.bias.shape) == ((7, 4), (1, 4))
    assert (output.weights.shape, output.bias.shape) == ((4, 3), (1, 3))
    assert convolution.forward(np.zeros((1, 2, 9, 8))).shape == (1, 5, 7, 6)  # stride 1, no padding


@pytest.mark.parametrize(
    ("layer_class", "documented"),
    [
        (InputLayer, []),
        (
            Conv2D,
            [
                ("in_channels", ...),
                ("out_channels", ...),
                ("kernel_size", ...),
                ("stride", 1),
                ("padding", 0),
                ("learning_rate", 0.001),
            ],
        ),
        (HiddenLayer, [("input_size", ...), ("output_size", ...), ("learning_rate", 0.001)]),
        (OutputLayer, [("input_size", ...), ("output_size", ...), ("learning_rate", 0.001)]),
    ],
)
def test_constructors_take_the_documented_arguments_in_order(
    layer_class: type, documented: list[tuple[str, object]]
) -> None:
    parameters = inspect.signature(layer_class).parameters.values()
    positional = [
        (p.name, ... if p.default is p.empty else p.default)
        for p in parameters
        if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    assert positional == documented
    if documented:
        extras = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        assert extras == {"rng": None, "dtype": np.float32}


def test_positional_arguments_arrive() -> None:
    layer = Conv2D(1, 2, 3, 2, 4, 0.5)
    assert layer.forward(np.zeros((1, 1, 8, 9))).shape == (1, 2, 7, 8)  # (8 + 8 - 3)//2 + 1
    assert layer.learning_rate == 0.5
    assert HiddenLayer(3, 2, 0.25).learning_rate == OutputLayer(3, 2, 0.25).learning_rate == 0.25


def test_documented_code_runs_unchanged() -> None:
    """The documented training loop over a plain list of layers, against the loops."""
    layers = [
        InputLayer(),
        Conv2D(1, 2, 3, padding=1),
        HiddenLayer(2 * 4 * 5, 6),
        OutputLayer(6, 3),
    ]
    for layer in layers[1:]:
        fill(layer)
        layer.weights *= 0.3
        layer.learning_rate = 0.02
    names = [f"layer{i}.{name}" for i in (1, 2, 3) for name in ("weights", "bias")]
    expected = {name: getattr(layers[int(name[5])], name.split(".")[1]).copy() for name in names}
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
        for name in names:
            found = getattr(layers[int(name[5])], name.split(".")[1])
            np.testing.assert_allclose(found, expected[name], **ROUNDING, err_msg=name)
    assert losses[0] > losses[1] > losses[2]
    assert dout.shape == x.shape


# --- what is said when something is wrong --------------------------------------------------------


def refused(action: Callable[[], object], error: type[Exception] = ValueError) -> str:
    with pytest.raises(error) as caught:
        action()
    return str(caught.value)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (
            Conv2D(1, 32, 3),
            (64, 28, 28),
            "Conv2D(1 -> 32, 3x3) expects x of shape (N, 1, H, W), got (64, 28, 28); "
            "add the channel axis with x[:, None]",
        ),
        (
            Conv2D(1, 32, 3),
            (64, 784),
            "Conv2D(1 -> 32, 3x3) expects x of shape (N, 1, H, W), got (64, 784); "
            "one image becomes x[None, None], flat images x.reshape(-1, 1, H, W)",
        ),
        (
            Conv2D(3, 8, 5),
            (3, 28, 28),
            "Conv2D(3 -> 8, 5x5) expects x of shape (N, 3, H, W), got (3, 28, 28); "
            "add the batch axis with x[None]",
        ),
        (
            Conv2D(3, 8, 5),
            (64, 28, 28, 3),
            "Conv2D(3 -> 8, 5x5) expects x of shape (N, 3, H, W), got (64, 28, 28, 3); "
            "move the channels to the front with x.transpose(0, 3, 1, 2)",
        ),
        (
            Conv2D(3, 8, 5),
            (64, 1, 28, 28),
            "Conv2D(3 -> 8, 5x5) expects x of shape (N, 3, H, W), got (64, 1, 28, 28); "
            "the second axis must hold the channels, of which there are 3",
        ),
        (
            Conv2D(3, 8, 5),
            (7,),
            "Conv2D(3 -> 8, 5x5) expects x of shape (N, 3, H, W), got (7,); "
            "the second axis must hold the channels, of which there are 3",
        ),
        (
            Conv2D(1, 2, 5, padding=1),
            (1, 1, 9, 2),
            "Conv2D(1 -> 2, 5x5) with padding 1 expects images of at least 3 x 3 pixels, "
            "got (1, 1, 9, 2); use a smaller kernel or more padding",
        ),
        (
            HiddenLayer(40, 3),
            (2, 2, 4, 6),
            "HiddenLayer(40 -> 3) expects x of shape (N, 40) or (N, C, H, W) with C*H*W = 40, "
            "got (2, 2, 4, 6); "
            "build the layer for the size of its input, or give inputs of the size of the layer",
        ),
        (
            HiddenLayer(40, 3),
            (2, 5, 8),
            "HiddenLayer(40 -> 3) expects x of shape (N, 40) or (N, C, H, W) with C*H*W = 40, "
            "got (2, 5, 8); flatten it with x.reshape(len(x), 40)",
        ),
        (
            OutputLayer(40, 3),
            (40,),
            "OutputLayer(40 -> 3) expects x of shape (N, 40) or (N, C, H, W) with C*H*W = 40, "
            "got (40,); add the batch axis with x[None]",
        ),
    ],
)
def test_x_of_a_wrong_shape(layer: Conv2D | HiddenLayer, shape: tuple, message: str) -> None:
    assert refused(lambda: layer.forward(np.zeros(shape))) == message


@pytest.mark.parametrize(
    ("layer", "x_shape", "message"),
    [
        (
            Conv2D(1, 2, 3),
            (4, 1, 6, 5),
            "Conv2D(1 -> 2, 3x3) expects dout of shape (4, 2, 4, 3), the shape of its output, "
            "got (4, 2)",
        ),
        (
            HiddenLayer(30, 3),
            (4, 1, 6, 5),
            "HiddenLayer(30 -> 3) expects dout of shape (4, 3), the shape of its output, "
            "got (4, 2)",
        ),
        (
            OutputLayer(5, 10),
            (4, 5),
            "OutputLayer(5 -> 10) expects dout of shape (4, 10), the shape of its output, "
            "got (4, 2)",
        ),
    ],
)
def test_dout_of_a_wrong_shape(layer: Conv2D | HiddenLayer, x_shape: tuple, message: str) -> None:
    layer.forward(np.zeros(x_shape))
    assert refused(lambda: layer.backward(np.zeros((4, 2)))) == message


@every_layer
def test_calls_out_of_order(make: Callable) -> None:
    layer = make()
    assert refused(lambda: layer.backward(np.zeros((1, 3))), RuntimeError) == (
        f"{layer}: backward before forward; call forward(x) first"
    )
    layer.forward(np.zeros(X_SHAPE))
    assert refused(layer.update_params, RuntimeError) == (
        f"{layer}: update_params before backward; call backward(dout) first"
    )


@pytest.mark.parametrize(
    ("layer", "name", "message"),
    [
        (
            Conv2D(1, 2, 3),
            "weights",
            "Conv2D(1 -> 2, 3x3) expects weights of shape (2, 1, 3, 3), got (7, 7); "
            "assign an array of that shape",
        ),
        (
            Conv2D(1, 2, 3),
            "bias",
            "Conv2D(1 -> 2, 3x3) expects bias of shape (2, 1), got (7, 7); "
            "assign an array of that shape",
        ),
        (
            HiddenLayer(25, 4),
            "weights",
            "HiddenLayer(25 -> 4) expects weights of shape (25, 4), got (7, 7); "
            "assign an array of that shape",
        ),
        (
            OutputLayer(25, 4),
            "bias",
            "OutputLayer(25 -> 4) expects bias of shape (1, 4), got (7, 7); "
            "assign an array of that shape",
        ),
    ],
)
def test_assigned_arrays_of_a_wrong_shape(
    layer: Conv2D | HiddenLayer, name: str, message: str
) -> None:
    setattr(layer, name, np.zeros((7, 7)))
    assert refused(lambda: layer.forward(np.zeros((2, 1, 5, 5)))) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Conv2D(0, 1, 3),
            "Conv2D expects in_channels to be a whole number of at least 1, got 0",
        ),
        (
            lambda: Conv2D(1, -2, 3),
            "Conv2D expects out_channels to be a whole number of at least 1, got -2",
        ),
        (
            lambda: Conv2D(1, 1, (3, 3)),
            "Conv2D expects kernel_size to be a whole number of at least 1, got (3, 3)",
        ),
        (
            lambda: Conv2D(1, 1, 3, stride=0),
            "Conv2D expects stride to be a whole number of at least 1, got 0",
        ),
        (
            lambda: Conv2D(1, 1, 3, padding=-1),
            "Conv2D expects padding to be a whole number of at least 0, got -1",
        ),
        (
            lambda: Conv2D(1, 1, 3, padding="same"),
            "Conv2D expects padding to be a whole number of at least 0, got 'same'",
        ),
        (
            lambda: HiddenLayer(2.5, 1),
            "HiddenLayer expects input_size to be a whole number of at least 1, got 2.5",
        ),
        (
            lambda: OutputLayer(2, 0),
            "OutputLayer expects output_size to be a whole number of at least 1, got 0",
        ),
    ],
)
def test_constructor_arguments_that_make_no_sense(make: Callable, message: str) -> None:
    assert refused(make) == message


def test_numpy_integers_are_whole_numbers() -> None:
    sizes = np.array([1, 2, 3])
    assert Conv2D(*sizes).weights.shape == (2, 1, 3, 3)


def test_a_refused_batch_leaves_the_layer_as_it_was() -> None:
    layer = Conv2D(1, 2, 3, dtype=np.float64)
    x = random((2, 1, 5, 5), 1)
    dout = random(layer.forward(x).shape, 2)
    expected = layer.backward(dout).copy()
    refused(lambda: layer.forward(np.zeros((2, 2, 5, 5))))
    np.testing.assert_array_equal(layer.backward(dout), expected)
