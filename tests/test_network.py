"""The network: its passes, predictions, names, table, and what it refuses.

Oracles: `reference` (loops) for outputs, gradients and several training steps; layers called one
by one; central differences; counting by hand; an accuracy that a network must reach.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import reference
from builders import (
    SMALL,
    Geometry,
    batch,
    close,
    compare,
    copies,
    every_geometry,
    filled_network,
    geometries,
    literal_step,
    network,
    refused,
)
from hypothesis import given, settings

from data import Batches, load_dataset
from handcnn import (
    Conv2D,
    HiddenLayer,
    InputLayer,
    Network,
    OutputLayer,
    documented_network,
    load_network,
    loss_function,
    loss_gradient,
)
from handcnn.layers import Layer
from handcnn.types import Array, Shape

F64 = np.float64


def compare_training(geometry: Geometry) -> None:
    """Train for three steps on changing batches, comparing everything with the loops."""
    net, (s, p) = network(geometry), (geometry.s, geometry.p)
    expected = copies(net.parameters())
    for step in range(3):
        x, y = batch(geometry, seed=step)
        y_pred = net.forward(x)
        close(y_pred, reference.network_forward(expected, x, s, p))
        net.backward(loss_gradient(y_pred, y))
        gradients = reference.network_gradients(expected, x, y, s, p)
        compare(net.gradients(), gradients)
        net.update_params()
        expected = {k: reference.updated(v, gradients[k], 0.01) for k, v in expected.items()}
        compare(net.parameters(), expected)


@every_geometry
def test_training_agrees_with_the_loops(geometry: Geometry) -> None:
    compare_training(geometry)


@settings(max_examples=25)
@given(geometries(largest=6))
def test_training_of_any_network_agrees_with_the_loops(geometry: Geometry) -> None:
    compare_training(geometry)


def test_changes_from_outside_are_seen_by_the_next_step() -> None:
    """Parameters edited and replaced, learning rates and gradients changed, between the calls."""
    net, (x, y) = network(), batch()
    literal_step(net, x, y)
    convolution, hidden, output = net.layers[1:]
    assert isinstance(convolution, Conv2D)
    assert isinstance(hidden, HiddenLayer)
    assert isinstance(output, OutputLayer)
    convolution.weights[...] = 0.1
    hidden.weights = np.full_like(hidden.weights, 0.2)
    hidden.bias[0, 0] = 0.7
    output.bias = np.array([[0.1, 0.2, 0.3]])
    hidden.learning_rate = 0.5
    before = copies(net.parameters())
    gradients = reference.network_gradients(before, x, y, 1, 1)
    net.backward(loss_gradient(net.forward(x), y))
    gradients["layer1.weights"] = np.full_like(convolution.dweights, 3.0)
    convolution.dweights[...] = 3.0
    net.update_params()
    for name, parameter in net.parameters().items():
        rate = 0.5 if name.startswith("layer2") else 0.01
        close(parameter, reference.updated(before[name], gradients[name], rate), message=name)


def test_layers_may_be_run_one_by_one() -> None:
    """Forwards, backwards, or both: it is what the network does."""
    net, (x, y) = network(), batch()
    y_pred = net.forward(x)
    net.backward(loss_gradient(y_pred, y))
    expected = copies(net.gradients())

    net.forward(x[::-1])
    a = x
    for layer in net.layers:
        a = layer.forward(a)
    close(a, y_pred)
    dout = loss_gradient(a, y)
    net.backward(dout)
    compare(net.gradients(), expected)

    net.backward(np.zeros_like(dout))
    for layer in reversed(net.layers):
        dout = layer.backward(dout)
    assert dout.shape == x.shape
    compare(net.gradients(), expected)


def test_x_and_dout_are_never_written_into() -> None:
    net, (x, y) = network(), batch(SMALL.fusable)
    dout = loss_gradient(net.forward(x), y)
    kept = x.copy(), dout.copy()
    for array in (x, y, dout):
        array.flags.writeable = False
    net.forward(x)
    net.backward(dout)
    net.update_params()
    net.train_step(x, y)
    net.predict(x)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(dout, kept[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_dtype_from_end_to_end(dtype: npt.DTypeLike) -> None:
    net, (x, y) = network(dtype=dtype), batch()
    y_pred = literal_step(net, x, y)
    arrays = [y_pred, net.predict_proba(x), *net.parameters().values(), *net.gradients().values()]
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


OTHERS: dict[str, list[Layer]] = {
    "one layer": [OutputLayer(30, 3, dtype=F64)],
    "dense": [HiddenLayer(30, 4, dtype=F64), OutputLayer(4, 3, dtype=F64)],
    "no hidden layer": [Conv2D(1, 2, 3, dtype=F64), OutputLayer(24, 3, dtype=F64)],
    "seven layers": [
        InputLayer(),
        Conv2D(1, 2, 3, dtype=F64),
        Conv2D(2, 2, 2, dtype=F64),
        InputLayer(),
        HiddenLayer(12, 4, dtype=F64),
        HiddenLayer(4, 4, dtype=F64),
        OutputLayer(4, 3, dtype=F64),
    ],
}


@pytest.mark.parametrize("layers", OTHERS.values(), ids=OTHERS.keys())
def test_other_networks(layers: list[Layer]) -> None:
    """Nothing assumes four layers: gradients against central differences of the summed loss."""
    net, (x, y) = filled_network(layers), batch()
    net.backward(loss_gradient(net.forward(x), y))
    gradients = copies(net.gradients())
    for name, parameter in net.parameters().items():
        slopes = reference.central_difference(
            lambda: len(x) * loss_function(net.forward(x), y), parameter
        )
        np.testing.assert_allclose(gradients[name], slopes, rtol=1e-5, atol=1e-7, err_msg=name)


def test_a_first_layer_with_a_backward_of_its_own_is_asked() -> None:
    """Although nobody needs its dx."""

    class Clipped(Conv2D):
        def backward(self, dout: Array) -> Array:
            dx = super().backward(dout)
            self.dbias = np.clip(self.dbias, -1e-6, 1e-6)
            return dx

    net, (x, y) = network(conv=Clipped), batch()
    net.backward(loss_gradient(net.forward(x), y))
    assert np.abs(net.gradients()["layer1.bias"]).max() == 1e-6


# --- the documented network, and its table -------------------------------------------------------


def test_documented_network() -> None:
    net, fast = documented_network(rng=np.random.default_rng(0)), documented_network(0.5)
    arguments = [layer.config() for layer in net.layers]
    assert [str(layer) for layer in net.layers] == [
        "InputLayer()",
        "Conv2D(1 -> 32, 3x3)",
        "HiddenLayer(25088 -> 64)",
        "OutputLayer(64 -> 10)",
    ]
    assert (arguments[1]["stride"], arguments[1]["padding"]) == (1, 1)
    assert [config.get("learning_rate") for config in arguments] == [None, 0.001, 0.001, 0.001]
    assert [layer.config().get("learning_rate") for layer in fast.layers] == [None, 0.5, 0.5, 0.5]
    assert {array.dtype.name for array in net.parameters().values()} == {"float32"}
    y_pred = net.forward(np.zeros((2, 1, 28, 28), np.float32))
    np.testing.assert_allclose(y_pred, 0.1, atol=1e-3)  # it knows nothing yet


def test_it_prints_itself_as_a_table() -> None:
    # 32*1*3*3 + 32 = 320; 25088*64 + 64 = 1,605,696; 64*10 + 10 = 650
    assert str(documented_network()) == (
        "layer                     output           parameters\n"
        "InputLayer()              (N, 1, 28, 28)            0\n"
        "Conv2D(1 -> 32, 3x3)      (N, 32, 28, 28)         320\n"
        "HiddenLayer(25088 -> 64)  (N, 64)           1,605,696\n"
        "OutputLayer(64 -> 10)     (N, 10)                 650\n"
        "total                                       1,606,666"
    )


def test_without_an_input_shape_the_table_says_so() -> None:
    assert str(Network([OutputLayer(4, 3)])) == (
        "layer                output  parameters\n"
        "OutputLayer(4 -> 3)  ?               15\n"
        "total                                15"
    )


# --- prediction ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 2, 63, 64, 65, 255, 256, 257, 600])
@pytest.mark.parametrize("hidden", [HiddenLayer, type("NeverFused", (HiddenLayer,), {})])
def test_predictions_of_any_number_of_images(n: int, hidden: type[HiddenLayer]) -> None:
    net, (x, _) = network(hidden=hidden), batch(SMALL._replace(n=n))
    probabilities = net.predict_proba(x)
    assert probabilities.shape == (n, 3)
    close(probabilities, net.forward(x), 1e-12)
    classes = net.predict(x)
    assert classes.dtype.kind == "i"
    np.testing.assert_array_equal(classes, probabilities.argmax(axis=1))


def test_prediction_does_not_disturb_a_step() -> None:
    net, same, (x, y) = network(), network(), batch()
    for trained in (net, same):
        y_pred = trained.forward(x)
        if trained is net:
            net.predict(batch(SMALL.fusable, seed=9)[0])
            net.predict(x[::-1])
        trained.backward(loss_gradient(y_pred, y))
        trained.update_params()
    compare(net.parameters(), same.parameters(), rounding=0)


def test_prediction_sees_every_change() -> None:
    net, (x, _) = network(), batch(SMALL.fusable)
    net.predict_proba(x)
    for i, parameter in enumerate(net.parameters().values()):
        parameter[0] += 0.1 * (i + 1)
        close(net.predict_proba(x), net.forward(x), 1e-12)


# --- parameters by name --------------------------------------------------------------------------


def test_parameters_are_the_arrays_themselves() -> None:
    net = network()
    assert list(net.parameters()) == [
        f"layer{i}.{name}" for i in (1, 2, 3) for name in ("weights", "bias")
    ]
    for name, array in net.parameters().items():
        assert array is getattr(net.layers[int(name[5])], name[7:])


def test_with_parameters_leaves_the_network_alone() -> None:
    net, other = network(seed=0), network(seed=1)
    before = copies(net.parameters())
    changed = net.with_parameters(other.parameters())
    x, y = batch()
    np.testing.assert_array_equal(changed.predict_proba(x), other.predict_proba(x))
    y_pred = net.forward(x)
    changed.forward(x[::-1])
    net.backward(loss_gradient(y_pred, y))
    compare(net.gradients(), reference.network_gradients(before, x, y, 1, 1))
    compare(net.parameters(), before, rounding=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer1.bias": None}, "missing or too many: layer1.bias"),
        ({"layer9.gamma": np.zeros(3)}, "missing or too many: layer9.gamma"),
        ({"bias": np.zeros(3), "layer2.bias": None}, "missing or too many: bias, layer2.bias"),
    ],
)
def test_with_parameters_wants_every_name_and_no_other(
    change: dict[str, Array | None], message: str
) -> None:
    net = network()
    arrays = {k: v for k, v in {**net.parameters(), **change}.items() if v is not None}
    assert refused(lambda: net.with_parameters(arrays)) == (
        "with_parameters expects exactly layer1.weights, layer1.bias, layer2.weights, layer2.bias, "
        f"layer3.weights, layer3.bias; {message}"
    )


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
            for dtype in ("int32", "float16", "complex64")
        ),
    ],
)
def test_with_parameters_wants_arrays_that_fit(array: Array, message: str) -> None:
    net = network()
    before = net.parameters()
    assert refused(lambda: net.with_parameters({**before, "layer2.weights": array})) == (
        f"HiddenLayer(90 -> 4) expects weights {message}"
    )
    assert net.parameters()["layer2.weights"] is before["layer2.weights"]


# --- learning ------------------------------------------------------------------------------------


def test_the_documented_network_learns_the_bundled_digits() -> None:
    """Five seeds came to 85 to 88 % of the test images."""
    digits = load_dataset("digits", say=lambda _: None)
    rng = np.random.default_rng(0)
    net = documented_network(0.005, rng=rng)
    for _ in range(3):
        for x, y in Batches(*digits.train, 16, rng):
            net.train_step(x, y)
    found = [net.predict(x) for x, _ in Batches(*digits.test, 64)]
    assert (np.concatenate(found) == digits.test.labels).mean() > 0.7


def test_a_network_descends_the_sum_of_the_losses() -> None:
    """Loss is the mean, gradient that of the sum: a small step lowers N * loss by rate * |g|^2."""
    net, (x, y) = network(), batch(SMALL._replace(n=6))
    for layer in net.layers[1:]:
        setattr(layer, "learning_rate", 1e-7)  # noqa: B010, the list holds any layers
    before = loss_function(literal_step(net, x, y), y)
    after = loss_function(net.forward(x), y)
    squared = sum((gradient**2).sum() for gradient in net.gradients().values())
    assert 6 * (before - after) == pytest.approx(1e-7 * squared, rel=1e-3)


# --- what it refuses -----------------------------------------------------------------------------

TWICE = Conv2D(1, 1, 3, padding=1)


@pytest.mark.parametrize(
    ("layers", "input_shape", "message"),
    [
        ([], None, "Network expects at least one layer with parameters, got []"),
        (
            [InputLayer()],
            None,
            "Network expects at least one layer with parameters, got [InputLayer()]",
        ),
        (
            [TWICE, TWICE],
            None,
            "Network expects layers that are all different objects, got Conv2D(1 -> 1, 3x3) twice; "
            "build a second one",
        ),
        (
            [Conv2D(3, 2, 3)],
            (1, 28, 28),
            "Conv2D(3 -> 2, 3x3) expects x of shape (N, 3, H, W), got (N, 1, 28, 28); "
            "the second axis must hold the channels, of which there are 3",
        ),
        (
            [Conv2D(1, 2, 3), HiddenLayer(50, 4)],
            (1, 6, 5),
            "HiddenLayer(50 -> 4) expects x of shape (N, 50) or (N, C, H, W) with C*H*W = 50, "
            "got (N, 2, 4, 3); "
            "build the layer for the size of its input, or give inputs of the size of the layer",
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
    assert refused(lambda: Network(layers, input_shape)) == message


def test_a_network_of_thousands_of_layers_is_made_in_linear_time() -> None:
    """Calls are counted, not seconds. Seen to fail: every pair of layers was compared."""

    def calls(count: int) -> int:
        layers = [*(InputLayer() for _ in range(count)), OutputLayer(4, 3)]
        events: list[str] = []
        sys.setprofile(lambda _frame, event, _argument: events.append(event))
        try:
            Network(layers)
        finally:
            sys.setprofile(None)
        return len(events)

    assert calls(2000) < 3 * calls(1000)


@pytest.mark.parametrize("name", ["layer1.weights", "layer2.weights", "layer3.bias"])
@pytest.mark.parametrize("is_fused", [True, False])
def test_a_read_only_parameter_is_refused_before_anything_changes(
    name: str, is_fused: bool
) -> None:
    """Seen to fail: the fused step had updated half of the parameters by then."""
    net, (x, y) = network(), batch(SMALL.fusable if is_fused else SMALL)
    net.backward(loss_gradient(net.forward(x), y))
    array = net.parameters()[name]
    array.flags.writeable = False
    before = copies(net.parameters())
    message = f"{name} is a read-only array; assign a copy of it to train it"
    assert refused(lambda: net.train_step(x, y)) == message
    assert refused(net.update_params) == message
    compare(net.parameters(), before, rounding=0)
    array.flags.writeable = True
    net.train_step(x, y)


def test_an_input_with_nan_has_no_class() -> None:
    net, (x, _) = network(), batch()
    x[1, 0, 2, 2] = np.nan
    probabilities = net.predict_proba(x)
    assert np.isnan(probabilities).any(axis=1).tolist() == [False, True]
    assert refused(lambda: net.predict(x)) == (
        "predict finds no class for input 1: its probabilities are NaN; "
        "look for NaN and very large numbers in it and in the parameters"
    )


@pytest.mark.parametrize("call", ["forward", "predict", "train_step"])
@pytest.mark.parametrize("dtype", ["complex128", "<U32", "object"])
def test_images_of_other_than_real_numbers_are_refused(call: str, dtype: str) -> None:
    net, (x, y) = network(), batch(SMALL.fusable)
    arguments = (x.astype(dtype), y) if call == "train_step" else (x.astype(dtype),)
    assert refused(lambda: getattr(net, call)(*arguments)) == (
        f"Conv2D(1 -> 3, 3x3) expects x of real numbers, got {dtype}; "
        "convert the array with .astype(numpy.float32)"
    )


@pytest.mark.parametrize("call", ["forward", "predict", "train_step"])
def test_a_batch_that_does_not_fit(call: str) -> None:
    net, x, y = documented_network(), np.zeros((64, 28, 28)), np.eye(10)[[0] * 64]
    arguments = (x, y) if call == "train_step" else (x,)
    assert refused(lambda: getattr(net, call)(*arguments)) == (
        "Conv2D(1 -> 32, 3x3) expects x of shape (N, 1, H, W), got (64, 28, 28); "
        "add the channel axis with x[:, None]"
    )


def test_calls_out_of_order() -> None:
    net = network()
    assert refused(lambda: net.backward(np.zeros((2, 3))), RuntimeError) == (
        "OutputLayer(4 -> 3): backward before forward; call forward(x) first"
    )
    for call in (net.update_params, net.gradients):
        assert refused(call, RuntimeError) == (
            "Conv2D(1 -> 3, 3x3): there are no gradients before backward; call backward(dout) first"
        )


def test_import_loads_numpy_and_nothing_slower() -> None:
    program = (
        "import sys, handcnn; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & "
        "{'numpy', 'sklearn', 'scipy', 'matplotlib', 'PIL', 'tqdm', 'pandas', 'joblib', "
        "'threadpoolctl', 'data'}))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout == "numpy\n"


# --- saving: these tests belong to the storage ---------------------------------------------------


def bars() -> tuple[Array, Array]:
    """Return eight pictures of a bright bar, each in a place and a class of its own."""
    x = np.zeros((8, 1, 28, 28), np.float32)
    for i in range(8):
        x[i, 0, 3 * i + 2 : 3 * i + 5, 4:24] = 1
    return x, np.eye(10, dtype=np.float32)[:8]


def test_the_documented_network_learns_eight_pictures_by_heart(tmp_path: Path) -> None:
    """And does so twice in the same way: the saved weights are equal byte by byte."""
    x, y = bars()
    files = []
    for attempt in range(2):
        net = documented_network(0.03, rng=np.random.default_rng(1))
        losses = [loss_function(literal_step(net, x, y), y) for _ in range(60)]
        assert losses[0] == pytest.approx(np.log(10), abs=0.01)
        assert losses[-1] < 0.05
        np.testing.assert_array_equal(net.predict(x), range(8))
        net.save(tmp_path / f"{attempt}.npz")
        files.append((tmp_path / f"{attempt}.npz").read_bytes())
    assert files[0] == files[1]


def test_numpy_numbers_make_a_network_that_can_be_saved(tmp_path: Path) -> None:
    net = Network([OutputLayer(int(np.prod((2, 3))), np.int64(4), np.float32(0.5))])  # type: ignore[arg-type]
    net.save(tmp_path / "a.npz", accuracy=np.float32(0.25), epoch=np.int64(3))
    x = np.random.default_rng(0).random((3, 6))
    np.testing.assert_array_equal(
        load_network(tmp_path / "a.npz").predict_proba(x), net.predict_proba(x)
    )


def test_layers_of_the_readers_own_are_not_saved_for_nothing(tmp_path: Path) -> None:
    class Scale(InputLayer):
        pass

    with pytest.raises(ValueError, match="expects layers of InputLayer, Conv2D, ") as e:
        Network([Scale(), OutputLayer(6, 4)]).save(tmp_path / "a.npz")
    assert "got Scale(); keep the parameters of other layers with numpy.savez" in str(e.value)
    assert list(tmp_path.iterdir()) == []
