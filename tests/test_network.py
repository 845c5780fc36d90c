"""The network: its passes, predictions, names, table, and what it refuses.

Oracles: `reference` (loops) for outputs, gradients and several training steps; layers called one
by one; counting by hand; files compared byte by byte.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

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

Array = np.ndarray
ROUNDING = {"rtol": 1e-10, "atol": 1e-10}

# C, H, W, F, k, s, p, M, K
ARCHITECTURES = [
    pytest.param((1, 6, 5, 3, 3, 1, 1, 4, 3), id="documented, small"),
    pytest.param((3, 5, 6, 2, 3, 1, 0, 4, 10), id="three channels, no padding"),
    pytest.param((2, 7, 6, 2, 3, 2, 1, 3, 2), id="stride 2 with a remainder"),
    pytest.param((1, 8, 6, 2, 2, 3, 3, 3, 4), id="stride 3, padding 3"),
    pytest.param((2, 4, 4, 3, 1, 1, 0, 3, 3), id="1x1"),
    pytest.param((2, 3, 4, 3, 1, 2, 2, 3, 3), id="1x1, stride 2, padding 2"),
    pytest.param((1, 4, 4, 2, 4, 1, 0, 3, 3), id="kernel as large as the image"),
    pytest.param((1, 3, 3, 2, 7, 1, 2, 3, 3), id="kernel as large as the padded image"),
]


def network(architecture: tuple[int, ...], seed: int = 0, dtype: type = np.float64) -> Network:
    """Return a network with parameters large enough to matter, biases included."""
    c, h, w, f, k, s, p, m, classes = architecture
    rng = np.random.default_rng(seed)
    d = f * ((h + 2 * p - k) // s + 1) * ((w + 2 * p - k) // s + 1)
    layers = [
        InputLayer(),
        Conv2D(c, f, k, s, p, 0.02, dtype=dtype),
        HiddenLayer(d, m, 0.02, dtype=dtype),
        OutputLayer(m, classes, 0.02, dtype=dtype),
    ]
    for layer in layers[1:]:
        layer.weights[...] = 0.3 * rng.standard_normal(layer.weights.shape)
        layer.bias[...] = 0.3 * rng.standard_normal(layer.bias.shape)
    return Network(layers, (c, h, w))


def batch(architecture: tuple[int, ...], n: int, seed: int = 1) -> tuple[Array, Array]:
    c, h, w, classes = *architecture[:3], architecture[-1]
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, c, h, w)), np.eye(classes)[rng.integers(classes, size=n)]


def copies(net: Network) -> dict[str, Array]:
    return {name: array.copy() for name, array in net.parameters().items()}


def compare_training(architecture: tuple[int, ...], n: int, steps: int) -> None:
    """Train for some steps on changing batches, comparing everything with the loops."""
    net = network(architecture)
    s, p = architecture[5:7]
    expected = copies(net)
    for step in range(steps):
        x, y = batch(architecture, n, seed=step)
        y_pred = net.forward(x)
        np.testing.assert_allclose(y_pred, reference.network_forward(expected, x, s, p), **ROUNDING)
        assert net.backward(loss_gradient(y_pred, y)) is None
        gradients = reference.network_gradients(expected, x, y, s, p)
        assert net.gradients().keys() == gradients.keys()
        for name, gradient in net.gradients().items():
            np.testing.assert_allclose(gradient, gradients[name], **ROUNDING, err_msg=name)
        net.update_params()
        expected = {k: reference.updated(v, gradients[k], 0.02) for k, v in expected.items()}
        for name, parameter in net.parameters().items():
            np.testing.assert_allclose(parameter, expected[name], **ROUNDING, err_msg=name)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_agrees_with_the_loops(architecture: tuple[int, ...]) -> None:
    compare_training(architecture, n=3, steps=3)


def test_training_on_single_images_agrees_with_the_loops() -> None:
    compare_training(ARCHITECTURES[0].values[0], n=1, steps=3)


@st.composite
def architectures(draw: st.DrawFn) -> tuple[int, ...]:
    k, s, p = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(0, 3))
    h, w = (draw(st.integers(max(1, k - 2 * p), 6)) for _ in "hw")
    c, f, m = (draw(st.integers(1, 3)) for _ in "cfm")
    return c, h, w, f, k, s, p, m, draw(st.integers(2, 4))


@settings(max_examples=25)
@given(architectures(), st.integers(1, 3))
def test_training_of_any_network_agrees_with_the_loops(
    architecture: tuple[int, ...], n: int
) -> None:
    compare_training(architecture, n, steps=2)


SMALL = ARCHITECTURES[0].values[0]


def test_changes_from_outside_are_seen_by_the_next_step() -> None:
    """Parameters edited and replaced, learning rates and gradients changed, between the calls."""
    net, (x, y) = network(SMALL), batch(SMALL, 3)

    def step() -> None:
        net.backward(loss_gradient(net.forward(x), y))
        net.update_params()

    step()
    convolution, hidden, output = net.layers[1:]
    convolution.weights[...] = 0.1
    hidden.weights = np.full_like(hidden.weights, 0.2)
    hidden.bias[0, 0] = 0.7
    output.bias = np.array([[0.1, 0.2, 0.3]])
    hidden.learning_rate = 0.5
    before = copies(net)
    gradients = reference.network_gradients(before, x, y, 1, 1)
    net.backward(loss_gradient(net.forward(x), y))
    gradients["layer1.weights"] = np.full_like(convolution.dweights, 3.0)
    convolution.dweights[...] = 3.0
    net.update_params()
    for name, parameter in net.parameters().items():
        rate = 0.5 if name.startswith("layer2") else 0.02
        expected = reference.updated(before[name], gradients[name], rate)
        np.testing.assert_allclose(parameter, expected, **ROUNDING, err_msg=name)


def test_gradients_by_the_layers_and_by_the_network_are_the_same() -> None:
    net, (x, y) = network(SMALL), batch(SMALL, 3)
    y_pred = net.forward(x)
    net.backward(loss_gradient(y_pred, y))
    by_network = {name: gradient.copy() for name, gradient in net.gradients().items()}

    a = x
    for layer in net.layers:
        a = layer.forward(a)
    np.testing.assert_allclose(a, y_pred, **ROUNDING)
    dout = loss_gradient(a, y)
    for layer in reversed(net.layers):
        dout = layer.backward(dout)
    assert dout.shape == x.shape
    for name, gradient in net.gradients().items():
        np.testing.assert_allclose(gradient, by_network[name], **ROUNDING)


def test_x_and_dout_are_never_written_into() -> None:
    net, (x, y) = network(SMALL), batch(SMALL, 3)
    dout = loss_gradient(net.forward(x), y)
    kept = x.copy(), dout.copy()
    x.flags.writeable = dout.flags.writeable = False
    net.forward(x)
    net.backward(dout)
    net.update_params()
    net.predict(x)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(dout, kept[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_dtype_from_end_to_end(dtype: type) -> None:
    net, (x, y) = network(SMALL, dtype=dtype), batch(SMALL, 3)
    y_pred = net.forward(x)
    net.backward(loss_gradient(y_pred, y))
    net.update_params()
    arrays = [y_pred, net.predict_proba(x), *net.parameters().values(), *net.gradients().values()]
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [OutputLayer(30, 3, dtype=np.float64)],
        lambda: [HiddenLayer(30, 4, dtype=np.float64), OutputLayer(4, 3, dtype=np.float64)],
        lambda: [Conv2D(1, 2, 3, dtype=np.float64), OutputLayer(24, 3, dtype=np.float64)],
        lambda: [
            InputLayer(),
            Conv2D(1, 2, 3, dtype=np.float64),
            Conv2D(2, 2, 2, dtype=np.float64),
            InputLayer(),
            HiddenLayer(12, 4, dtype=np.float64),
            HiddenLayer(4, 4, dtype=np.float64),
            OutputLayer(4, 3, dtype=np.float64),
        ],
    ],
    ids=["one layer", "dense", "no hidden layer", "seven layers"],
)
def test_other_networks(layers) -> None:
    """Nothing assumes four layers: gradients against central differences of the summed loss."""
    net = Network(layers(), (1, 6, 5))
    rng = np.random.default_rng(3)
    for parameter in net.parameters().values():
        parameter[...] = 0.5 * rng.standard_normal(parameter.shape)
    x, y = batch(SMALL, 2)
    net.backward(loss_gradient(net.forward(x), y))
    gradients = {name: gradient.copy() for name, gradient in net.gradients().items()}
    for name, parameter in net.parameters().items():
        slopes = reference.central_difference(
            lambda: 2 * loss_function(net.forward(x), y), parameter
        )
        np.testing.assert_allclose(gradients[name], slopes, rtol=1e-5, atol=1e-7, err_msg=name)


# --- the documented network ----------------------------------------------------------------------


def test_documented_network() -> None:
    net = documented_network(rng=np.random.default_rng(0))
    assert [repr(layer) for layer in net.layers] == [
        "InputLayer()",
        "Conv2D(1 -> 32, 3x3)",
        "HiddenLayer(25088 -> 64)",
        "OutputLayer(64 -> 10)",
    ]
    assert (net.layers[1].stride, net.layers[1].padding) == (1, 1)
    assert {layer.learning_rate for layer in net.layers[1:]} == {0.001}
    assert {array.dtype.name for array in net.parameters().values()} == {"float32"}
    y_pred = net.forward(np.zeros((2, 1, 28, 28), np.float32))
    np.testing.assert_allclose(y_pred, 0.1, atol=1e-3)  # it knows nothing yet
    assert {layer.learning_rate for layer in documented_network(0.5).layers[1:]} == {0.5}


def step_layer_by_layer(net: Network, x: Array, y: Array) -> Array:
    """Take a training step with the layers alone, which test_layers.py checks one by one."""
    a = x
    for layer in net.layers:
        a = layer.forward(a)
    dout = loss_gradient(a, y)
    for layer in reversed(net.layers):
        dout = layer.backward(dout)
    for layer in net.layers:
        layer.update_params()
    return a


def test_the_documented_network_is_its_layers_one_after_the_other() -> None:
    """At its full size, where the loops would take minutes, and changed from outside on the way."""
    by_network, by_layers = (
        documented_network(0.01, rng=np.random.default_rng(0), dtype=np.float64) for _ in "ab"
    )
    rng = np.random.default_rng(1)
    for step in range(4):
        x = rng.random((3, 1, 28, 28))
        y = np.eye(10)[rng.integers(10, size=3)]
        expected = step_layer_by_layer(by_layers, x, y)
        y_pred = by_network.forward(x)
        np.testing.assert_allclose(y_pred, expected, **ROUNDING)
        by_network.backward(loss_gradient(y_pred, y))
        if step % 2:  # looked at before the update or not, the gradients are the same
            for name, gradient in by_network.gradients().items():
                found = by_layers.gradients()[name]
                np.testing.assert_allclose(gradient, found, **ROUNDING, err_msg=name)
        by_network.update_params()
        for name, array in by_network.parameters().items():
            expected = by_layers.parameters()[name]
            np.testing.assert_allclose(array, expected, **ROUNDING, err_msg=name)
        np.testing.assert_allclose(by_network.predict_proba(x), by_layers.forward(x), **ROUNDING)
        for net in (by_network, by_layers):
            net.layers[1].weights[:, :, step % 3] *= 1.5
            net.layers[1].bias = net.layers[1].bias + 0.1
            net.layers[2].weights = net.layers[2].weights * 0.9
            net.layers[2].bias[0, step] = 0.3
            net.layers[2].learning_rate = 0.02 * (step + 1)


def test_the_same_generator_gives_the_same_network() -> None:
    first, same, other = (documented_network(rng=np.random.default_rng(s)) for s in (1, 1, 2))
    for name, array in first.parameters().items():
        np.testing.assert_array_equal(array, same.parameters()[name])
    assert (first.layers[2].weights != other.layers[2].weights).any()


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


@pytest.mark.parametrize("n", [0, 1, 2, 255, 256, 257, 600])
def test_predictions_of_any_number_of_images(n: int) -> None:
    net, (x, _) = network(SMALL), batch(SMALL, n)
    probabilities = net.predict_proba(x)
    assert probabilities.shape == (n, 3)
    np.testing.assert_allclose(probabilities, net.forward(x), rtol=1e-12)
    classes = net.predict(x)
    assert classes.shape == (n,)
    assert classes.dtype.kind == "i"
    np.testing.assert_array_equal(classes, probabilities.argmax(axis=1))


def test_prediction_does_not_disturb_a_step() -> None:
    net, same, (x, y) = network(SMALL), network(SMALL), batch(SMALL, 3)
    for trained in (net, same):
        y_pred = trained.forward(x)
        if trained is net:
            net.predict(batch(SMALL, 5, seed=9)[0])
        trained.backward(loss_gradient(y_pred, y))
        trained.update_params()
    for name, array in net.parameters().items():
        np.testing.assert_array_equal(array, same.parameters()[name])


def test_prediction_sees_every_change() -> None:
    net, (x, _) = network(SMALL), batch(SMALL, 4)
    net.predict_proba(x)
    net.layers[1].weights[0] += 1
    net.layers[2].bias = net.layers[2].bias + 0.5
    np.testing.assert_allclose(net.predict_proba(x), net.forward(x), rtol=1e-12)


# --- names ---------------------------------------------------------------------------------------


def test_parameters_are_the_arrays_themselves() -> None:
    net = network(SMALL)
    assert list(net.parameters()) == [
        f"layer{i}.{name}" for i in (1, 2, 3) for name in ("weights", "bias")
    ]
    assert net.parameters()["layer2.weights"] is net.layers[2].weights
    assert net.parameters()["layer3.bias"] is net.layers[3].bias


def test_gradients_are_none_before_backward() -> None:
    assert set(network(SMALL).gradients().values()) == {None}


def test_with_parameters_leaves_the_network_alone() -> None:
    net, other = network(SMALL, seed=0), network(SMALL, seed=1)
    before = copies(net)
    changed = net.with_parameters(other.parameters())
    x, _ = batch(SMALL, 3)
    np.testing.assert_array_equal(changed.predict_proba(x), other.predict_proba(x))
    for name, array in net.parameters().items():
        np.testing.assert_array_equal(array, before[name])


# --- learning ------------------------------------------------------------------------------------


def train(net: Network, x: Array, y: Array, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        y_pred = net.forward(x)
        losses.append(loss_function(y_pred, y))
        net.backward(loss_gradient(y_pred, y))
        net.update_params()
    return losses


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
        losses = train(net, x, y, 60)
        assert losses[0] == pytest.approx(np.log(10), abs=0.01)
        assert losses[-1] < 0.05
        np.testing.assert_array_equal(net.predict(x), range(8))
        net.save(tmp_path / f"{attempt}.npz")
        files.append((tmp_path / f"{attempt}.npz").read_bytes())
    assert files[0] == files[1]


def test_a_network_descends_the_sum_of_the_losses() -> None:
    """Loss is the mean, gradient that of the sum: a small step lowers N * loss by rate * |g|^2."""
    net, (x, y) = network(SMALL), batch(SMALL, 6)
    for layer in net.layers[1:]:
        layer.learning_rate = 1e-7
    before, after = 6 * np.array(train(net, x, y, 2))
    squared = sum((gradient**2).sum() for gradient in net.gradients().values())
    assert before - after == pytest.approx(1e-7 * squared, rel=1e-3)


# --- what it refuses -----------------------------------------------------------------------------


def refused(layers: list, input_shape: tuple[int, ...] | None = None) -> str:
    with pytest.raises(ValueError, match="expects") as caught:
        Network(layers, input_shape)
    return str(caught.value)


def test_layers_that_do_not_fit_together_are_refused_at_once() -> None:
    assert refused([Conv2D(1, 2, 3), HiddenLayer(50, 4)], (1, 6, 5)) == (
        "HiddenLayer(50 -> 4) expects x of shape (N, 50) or (N, C, H, W) with C*H*W = 50, "
        "got (N, 2, 4, 3); "
        "build the layer for the size of its input, or give inputs of the size of the layer"
    )
    assert refused([Conv2D(3, 2, 3)], (1, 28, 28)) == (
        "Conv2D(3 -> 2, 3x3) expects x of shape (N, 3, H, W), got (N, 1, 28, 28); "
        "the second axis must hold the channels, of which there are 3"
    )


def test_a_network_without_parameters_is_refused() -> None:
    assert refused([]) == "Network expects at least one layer with parameters, got []"
    assert refused([InputLayer()]) == (
        "Network expects at least one layer with parameters, got [InputLayer()]"
    )


def test_a_batch_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="expects") as caught:
        documented_network().predict(np.zeros((64, 28, 28)))
    assert str(caught.value).startswith("Conv2D(1 -> 32, 3x3) expects x of shape (N, 1, H, W), ")
    assert str(caught.value).endswith("; add the channel axis with x[:, None]")


@pytest.mark.parametrize("call", ["backward", "update_params"])
def test_calls_out_of_order(call: str) -> None:
    net = network(SMALL)
    with pytest.raises(RuntimeError, match=f"{call} before"):
        net.backward(np.zeros((2, 3))) if call == "backward" else net.update_params()


# --- the package ---------------------------------------------------------------------------------


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


def test_a_first_layer_with_a_backward_of_its_own_is_asked() -> None:
    class Clipped(Conv2D):
        def backward(self, dout: np.ndarray) -> np.ndarray:
            dx = super().backward(dout)
            self.dbias = np.clip(self.dbias, -1e-6, 1e-6)
            return dx

    net = Network([Clipped(1, 2, 3), HiddenLayer(32, 4), OutputLayer(4, 3)])
    x = np.random.default_rng(0).random((5, 1, 6, 6))
    net.backward(loss_gradient(net.forward(x), np.eye(3)[[0, 1, 2, 0, 1]]))
    assert np.abs(net.layers[0].dbias).max() <= 1e-6


def test_backward_after_a_forward_pass_layer_by_layer() -> None:
    net, again = (network(SMALL) for _ in range(2))
    x, y = batch(SMALL, 3)
    a = x
    for layer in net.layers:
        a = layer.forward(a)
    net.backward(loss_gradient(a, y))
    again.backward(loss_gradient(again.forward(x), y))
    for name, gradient in again.gradients().items():
        np.testing.assert_array_equal(net.gradients()[name], gradient)


def test_numpy_numbers_make_a_network_that_can_be_saved(tmp_path: Path) -> None:
    net = Network([OutputLayer(np.prod((2, 3)), np.int64(4), np.float32(0.5))])
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
