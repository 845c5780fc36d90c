"""All messages of the layers, the network and the loss, compared whole, in one place.

Oracle: the sentence itself. It names the layer, what was expected, what came, and the fix. The same
mistake can be made in several calls, which must all give the same message. test_training.py tests
the messages of a training that diverges.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from builders import SMALL, batch, filled_network, network, refused

from handcnn import (
    Conv2D,
    HiddenLayer,
    InputLayer,
    MaxPool2D,
    Network,
    OutputLayer,
    ReLU,
    loss_function,
    loss_gradient,
    use_threads,
)
from handcnn.gradient_check import check_gradients
from handcnn.kernels.products import sgd_update
from handcnn.layers import Layer, ParameterLayer
from handcnn.models import RECIPES
from handcnn.training import train
from handcnn.types import Array, Shape

Call = Callable[[], object]


def said(*calls: Call, error: type[Exception] = ValueError) -> str:
    """Return the message that all these calls raise."""
    (message,) = {refused(call, error) for call in calls}
    return message


# --- shapes --------------------------------------------------------------------------------------

ONE, THREE, DENSE = Conv2D(1, 32, 3), Conv2D(3, 8, 5), HiddenLayer(40, 3)
OTHER_SIZE = "set input_size to the size of one input, or change the input"


@pytest.mark.parametrize(
    ("layer", "shape", "fix"),
    [
        (ONE, (64, 28, 28), "add the channel axis with x[:, None]"),
        (ONE, (9, 784), "one image becomes x[None, None], flat images x.reshape(-1, 1, H, W)"),
        (THREE, (64, 2352), "reshape flat images with x.reshape(-1, 3, H, W)"),
        (THREE, (3, 28, 28), "add the batch axis with x[None]"),
        (THREE, (9, 28, 28), "the second axis, the channels, must have size 3"),
        (THREE, (9, 28, 28, 3), "move the channels to the front with x.transpose(0, 3, 1, 2)"),
        (THREE, (9, 1, 28, 28), "the second axis, the channels, must have size 3"),
        (THREE, (7,), "the second axis, the channels, must have size 3"),
        (DENSE, (2, 2, 4, 6), OTHER_SIZE),
        (DENSE, (2, 5, 8), "flatten it with x.reshape(len(x), 40)"),
        (OutputLayer(40, 3), (40,), "add the batch axis with x[None]"),
    ],
)
def test_x_of_a_wrong_shape(layer: Layer, shape: Shape, fix: str) -> None:
    expected = "(N, 40) or (N, C, H, W) with C*H*W = 40"
    if isinstance(layer, Conv2D):
        expected = f"(N, {layer.in_channels}, H, W)"
    net, x, y = Network([layer]), np.zeros(shape), np.zeros((shape[0], 3))
    calls = [partial(call, x) for call in (layer.forward, net.forward, net.predict)]
    assert said(*calls, partial(net.train_step, x, y)) == (
        f"{layer} expects x of shape {expected}, got {shape}; {fix}"
    )


def test_x_of_a_wrong_shape_for_layers_that_are_fused() -> None:
    net, y = Network([Conv2D(1, 2, 3), HiddenLayer(50, 4)]), np.zeros((64, 4))
    for shape, fault in (
        (
            (64, 6, 5),
            "Conv2D(1 -> 2, 3x3) expects x of shape (N, 1, H, W), got (64, 6, 5); "
            "add the channel axis with x[:, None]",
        ),
        (
            (64, 1, 6, 5),
            "HiddenLayer(50 -> 4) expects x of shape (N, 50) or (N, C, H, W) with C*H*W = 50, "
            f"got (N, 2, 4, 3); {OTHER_SIZE}",
        ),
    ):
        x: Array = np.zeros(shape)
        assert said(partial(net.predict, x), partial(net.train_step, x, y)) == fault


@pytest.mark.parametrize("shape", [(1, 1, 9, 2), (1, 1, 2, 9)])
def test_images_smaller_than_a_kernel(shape: Shape) -> None:
    assert said(lambda: Conv2D(1, 2, 5, padding=1).forward(np.zeros(shape))) == (
        "Conv2D(1 -> 2, 5x5, padding 1) expects images of at least 3 x 3 pixels, "
        f"got {shape}; use a smaller kernel or more padding"
    )


@pytest.mark.parametrize("shape", [(4, 30), (3, 6, 5), (2, 1, 1, 6, 5), (7,)])
def test_pooling_needs_images(shape: Shape) -> None:
    assert said(lambda: MaxPool2D(2).forward(np.zeros(shape))) == (
        f"MaxPool2D(2x2) expects x of shape (N, C, H, W), got {shape}; pool before the dense layers"
    )


@pytest.mark.parametrize(("h", "w"), [(3, 9), (9, 3), (2, 2)])
def test_images_smaller_than_a_pooling_window(h: int, w: int) -> None:
    layer = MaxPool2D(4, 1)
    for n, call in (
        ("5", lambda: layer.forward(np.zeros((5, 2, h, w)))),
        ("N", lambda: layer.output_shape((2, h, w))),
    ):
        assert said(call) == (
            "MaxPool2D(4x4, stride 1) expects images of at least 4 x 4 pixels, "
            f"got ({n}, 2, {h}, {w}); use smaller windows or pool less often"
        )


@pytest.mark.parametrize(
    ("layer", "x_shape", "expected"),
    [
        (Conv2D(1, 2, 3), (4, 1, 6, 5), (4, 2, 4, 3)),
        (HiddenLayer(30, 3), (4, 1, 6, 5), (4, 3)),
        (OutputLayer(5, 10), (4, 5), (4, 10)),
        (ReLU(), (4, 3), (4, 3)),
        (ReLU(), (4, 3, 2, 1), (4, 3, 2, 1)),
        (MaxPool2D(2), (4, 3, 6, 5), (4, 3, 3, 2)),
        (MaxPool2D(3, 2), (4, 3, 7, 6), (4, 3, 3, 2)),
    ],
)
def test_dout_of_a_wrong_shape(layer: Layer, x_shape: Shape, expected: Shape) -> None:
    layer.forward(np.zeros(x_shape))
    for dout in (np.zeros((4, 2)), np.zeros((3, *expected[1:])), np.zeros((1, *expected[1:]))):
        assert said(partial(layer.backward, dout), partial(layer.backward_parameters, dout)) == (
            f"{layer} expects dout of shape {expected}, the shape of its output, got {dout.shape}"
        )


@pytest.mark.parametrize("function", [loss_function, loss_gradient])
@pytest.mark.parametrize(
    ("y_pred", "y_true"),
    [
        ((64, 10), (64,)),
        ((64, 10), (1, 10)),
        ((10,), (10,)),
        ((2, 5, 2), (2, 5, 2)),
        ((0, 9), (0, 9)),
    ],
)
def test_labels_that_do_not_fit(function: Callable[..., object], y_pred: Any, y_true: Any) -> None:
    """Some of these would broadcast to a number that looks like a loss."""
    assert said(lambda: function(np.ones(y_pred), np.ones(y_true))) == (
        f"{function.__name__} expects y_pred and one-hot y_true of the same shape (N, K), "
        f"got {y_pred} and {y_true}; make labels one-hot with numpy.eye(K)[labels]"
    )


@pytest.mark.parametrize("shape", [(9, 3), (7, 3), (8, 2), (8, 1), (3,)])
def test_a_gradient_of_another_shape(shape: Shape) -> None:
    """Including shapes that NumPy would broadcast."""
    a: Array = np.zeros((8, 3))
    message = said(lambda: sgd_update(a, np.ones(shape), 1.0))
    assert message == (
        f"sgd_update expects a gradient of the parameter's shape (8, 3), got {shape}"
    )
    assert not a.any()


@pytest.mark.parametrize("dtype", ["complex128", "<U32", "object"])
def test_images_of_other_than_real_numbers(dtype: str) -> None:
    net, (x, y) = network(), batch(SMALL.fusable)
    calls = [partial(call, x.astype(dtype)) for call in (net.forward, net.predict)]
    assert said(*calls, partial(net.train_step, x.astype(dtype), y)) == (
        f"Conv2D(1 -> 3, 3x3, padding 1) expects x of real numbers, got {dtype}; "
        "convert the array with .astype(numpy.float32)"
    )


# --- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 90)), "of shape (90, 4), got (4, 90); assign an array of that shape"),
        (np.zeros(4), "of shape (90, 4), got (4,); assign an array of that shape"),
        *(
            (
                np.zeros((90, 4), dtype),
                f"of dtype float32 or float64, got {dtype}; "
                "convert the array with .astype(numpy.float32)",
            )
            for dtype in ("int32", "float16", "complex64", "bool")
        ),
    ],
)
def test_parameters_that_do_not_fit(array: Array, message: str) -> None:
    net = network()
    before = net.parameters()
    layer = net.layers[2]
    assert isinstance(layer, HiddenLayer)
    right, x = layer.weights, np.zeros((2, 90))
    replaced = said(lambda: net.with_parameters({**before, "layer2.weights": array}))
    assert net.parameters()["layer2.weights"] is before["layer2.weights"]
    layer.weights = array
    calls: list[Call] = [lambda: layer.forward(x), layer.parameters, net.parameters]
    assert {replaced, said(*calls)} == {f"HiddenLayer(90 -> 4) expects weights {message}"}
    layer.weights = right
    layer.forward(x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer1.bias": None}, "missing or unexpected: layer1.bias"),
        ({"layer9.gamma": np.zeros(3)}, "missing or unexpected: layer9.gamma"),
        ({"bias": np.zeros(3), "layer2.bias": None}, "missing or unexpected: bias, layer2.bias"),
    ],
)
def test_names_of_parameters(change: Mapping[str, Array | None], message: str) -> None:
    net = network()
    arrays = {k: v for k, v in {**net.parameters(), **change}.items() if v is not None}
    assert said(lambda: net.with_parameters(arrays)) == (
        "with_parameters expects exactly layer1.weights, layer1.bias, layer2.weights, layer2.bias, "
        f"layer3.weights, layer3.bias; {message}"
    )


# --- construction --------------------------------------------------------------------------------

MAKE: dict[str, Callable[..., ParameterLayer]] = {
    "Conv2D(2 -> 3, 3x3)": lambda **extras: Conv2D(2, 3, 3, **extras),
    "HiddenLayer(40 -> 3)": lambda **extras: HiddenLayer(40, 3, **extras),
    "OutputLayer(40 -> 3)": lambda **extras: OutputLayer(40, 3, **extras),
}


@pytest.mark.parametrize("layer", MAKE)
@pytest.mark.parametrize("dtype", [np.int32, np.float16, np.complex64, bool, object])
def test_dtypes_in_which_no_layer_computes(layer: str, dtype: npt.DTypeLike) -> None:
    assert said(lambda: MAKE[layer](dtype=dtype)) == (
        f"{layer} expects dtype float32 or float64, got {np.dtype(dtype)}; "
        "omit dtype to get float32"
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
def test_arguments_that_make_no_sense(
    layer_class: type[Any], arguments: tuple[Any, ...], message: str
) -> None:
    assert said(lambda: layer_class(*arguments)) == f"{layer_class.__name__} expects {message}"


TWICE = Conv2D(1, 1, 3, padding=1)
NO_PARAMETERS = "Network expects at least one layer with parameters, got "


@pytest.mark.parametrize(
    ("layers", "input_shape", "message"),
    [
        ([], None, NO_PARAMETERS + "[]"),
        ([InputLayer()], None, NO_PARAMETERS + "[InputLayer()]"),
        (
            [TWICE, InputLayer(), TWICE],
            None,
            "Network expects distinct layer objects, got Conv2D(1 -> 1, 3x3, padding 1) twice; "
            "create a second one",
        ),
        (
            [Conv2D(3, 2, 3)],
            (1, 28, 28),
            "Conv2D(3 -> 2, 3x3) expects x of shape (N, 3, H, W), got (N, 1, 28, 28); "
            "the second axis, the channels, must have size 3",
        ),
        (
            [Conv2D(1, 2, 3), HiddenLayer(50, 4)],
            (1, 6, 5),
            "HiddenLayer(50 -> 4) expects x of shape (N, 50) or (N, C, H, W) with C*H*W = 50, "
            f"got (N, 2, 4, 3); {OTHER_SIZE}",
        ),
        *(
            (
                [OutputLayer(784, 10)],
                shape,
                "Network expects every size of input_shape to be a whole number of at least 1, "
                f"got {wrong}",
            )
            for shape, wrong in (((784.0,), "784.0"), ((True, 28, 28), "True"), ((0, 1, 1), "0"))
        ),
    ],
)
def test_networks_that_cannot_work(
    layers: list[Layer], input_shape: Shape | None, message: str
) -> None:
    assert said(lambda: Network(layers, input_shape)) == message


@pytest.mark.parametrize("count", [0, -1, True, False, 1.5, "2", None])
def test_numbers_of_threads(count: Any) -> None:
    message = said(lambda: use_threads(count).__enter__())
    assert message == f"use_threads expects a whole number of at least 1, got {count!r}"


# --- calls ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [ReLU(), MaxPool2D(2)])
def test_backward_before_forward_without_parameters(layer: Layer) -> None:
    assert said(lambda: layer.backward(np.zeros((1, 3))), error=RuntimeError) == (
        f"{layer}: backward before forward; call forward(x) first"
    )


@pytest.mark.parametrize("name", MAKE)
def test_calls_out_of_order(name: str) -> None:
    layer = MAKE[name]()
    net, dout = Network([layer]), np.zeros((1, 3))
    calls: list[Call] = [lambda: layer.backward(dout), lambda: net.backward(dout)]
    assert said(*calls, error=RuntimeError) == (
        f"{name}: backward before forward; call forward(x) first"
    )
    layer.forward(np.zeros((2, 2, 4, 5)))
    calls = [layer.update_params, layer.gradients, net.update_params, net.gradients]
    assert said(*calls, error=RuntimeError) == (
        f"{name}: there are no gradients before backward; call backward(dout) first"
    )


def test_gradient_checks_in_float32() -> None:
    """Even if only one of several layers is in float32."""
    net = filled_network([HiddenLayer(6, 4, dtype=np.float64), OutputLayer(4, 3)])
    rng, x, y = np.random.default_rng(0), np.zeros((2, 6)), np.eye(3)[:2]
    assert said(lambda: check_gradients(net, x, y, rng)) == (
        "check_gradients expects a float64 network, got layer1.weights of float32: its rounding "
        "errors are larger than the differences that are compared; build the layers with "
        "dtype=numpy.float64"
    )


def test_an_epoch_without_batches() -> None:
    assert said(
        lambda: list(train(network(), [], RECIPES["documented"], np.random.default_rng()))
    ) == ("train expects at least one batch, got none")
