"""The network: its passes, predictions, names and table. test_messages.py tests its messages.

Oracles: `reference` (loops) for outputs, gradients and several training steps; layers called one
by one; central differences; counting by hand.
"""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from builders import (
    SMALL,
    Geometry,
    batch,
    close,
    compare,
    copies,
    filled_network,
    geometries,
    literal_step,
    network,
    refused,
    slopes_agree,
    step_by_loops,
    trained,
)
from hypothesis import given, settings

from handcnn import (
    Conv2D,
    HiddenLayer,
    InputLayer,
    Network,
    OutputLayer,
    documented_network,
    loss_function,
    loss_gradient,
)
from handcnn.layers import Layer
from handcnn.types import Array

F64 = np.float64


@settings(max_examples=50)
@given(geometries(largest=6))
def test_training_agrees_with_the_loops(geometry: Geometry) -> None:
    """Three steps on different batches."""
    net = network(geometry)
    for step in range(3):
        x, y = batch(geometry, seed=step)
        expected, gradients, updated = step_by_loops(net.parameters(), x, y, geometry)
        close(literal_step(net, x, y), expected)
        compare(net.gradients(), gradients)
        compare(net.parameters(), updated)


def test_documented_code_runs_unchanged() -> None:
    """The documented training loop over a list of layers, compared with the loops."""
    net, losses = network(), []
    layers = net.layers
    x, y = batch()
    for _ in range(3):
        expected, _, updated = step_by_loops(net.parameters(), x, y, SMALL)
        out = x
        for layer in layers:
            out = layer.forward(out)
        losses.append(loss_function(out, y))
        dout = loss_gradient(out, y)
        for layer in reversed(layers):
            dout = layer.backward(dout)
        for layer in layers:
            layer.update_params()
        close(out, expected)
        compare(net.parameters(), updated)
    assert losses[0] > losses[1] > losses[2]
    assert dout.shape == x.shape


def test_changes_from_outside_are_seen_by_the_next_call() -> None:
    """Edited and replaced parameters and gradients, and learning rates."""
    net, (x, y), rates = network(), batch(), (0.5, 0.25, 0.0)
    literal_step(net, x, y)
    for layer in trained(net):
        layer.weights[...] = 0.9 * layer.weights
        layer.bias = layer.bias + 0.3
    expected, gradients, _ = step_by_loops(net.parameters(), x, y, SMALL)
    y_pred = net.forward(x)
    close(y_pred, expected)
    net.backward(loss_gradient(y_pred, y))
    compare(net.gradients(), gradients)
    for layer, rate in zip(trained(net), rates, strict=True):
        layer.dweights[...] = 2.0
        layer.dbias = np.full_like(layer.bias, 3.0)
        layer.learning_rate = rate
    for _ in range(2):  # repeatedly
        before = copies(net.parameters())
        net.update_params()
        for i, rate in enumerate(rates, start=1):
            close(net.parameters()[f"layer{i}.weights"], before[f"layer{i}.weights"] - 2 * rate)
            close(net.parameters()[f"layer{i}.bias"], before[f"layer{i}.bias"] - 3 * rate)


OTHERS: dict[str, list[Layer]] = {
    "one layer": [OutputLayer(30, 3, dtype=F64)],
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
    for name, gradient in copies(net.gradients()).items():
        parameter = net.parameters()[name]
        slopes_agree(gradient, lambda: len(x) * loss_function(net.forward(x), y), parameter)


def test_a_first_layer_with_a_backward_of_its_own_is_asked() -> None:
    """Although its dx is not needed."""

    class Clipped(Conv2D):
        def backward(self, dout: Array) -> Array:
            dx = super().backward(dout)
            self.dbias = np.clip(self.dbias, -1e-6, 1e-6)
            return dx

    net, (x, y) = network(conv=Clipped), batch()
    net.backward(loss_gradient(net.forward(x), y))
    assert np.abs(net.gradients()["layer1.bias"]).max() == 1e-6


def test_a_network_descends_the_sum_of_the_losses() -> None:
    """The gradient is that of the sum: a small step lowers N * loss by rate * |g|^2."""
    net, (x, y) = network(), batch(SMALL._replace(N=6))
    for layer in trained(net):
        layer.learning_rate = 1e-7
    before = loss_function(literal_step(net, x, y), y)
    after = loss_function(net.forward(x), y)
    squared = sum((gradient**2).sum() for gradient in net.gradients().values())
    assert 6 * (before - after) == pytest.approx(1e-7 * squared, rel=1e-3)


def test_a_network_of_thousands_of_layers_is_made_in_linear_time() -> None:
    """It counts calls, not seconds. Regression: every pair of layers was compared."""

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
    """Regression: the fused step had already updated half of the parameters."""
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


# --- the documented network, and its table -------------------------------------------------------


def test_documented_network() -> None:
    """test_models.py tests its learning rates, initial weights and random generators."""
    net = documented_network(rng=np.random.default_rng(0))
    assert (net.layers[1].config()["stride"], net.layers[1].config()["padding"]) == (1, 1)
    assert {array.dtype.name for array in net.parameters().values()} == {"float32"}
    y_pred = net.forward(np.zeros((2, 1, 28, 28), np.float32))
    np.testing.assert_allclose(y_pred, 0.1, atol=1e-3)  # untrained
    # 32*1*3*3 + 32 = 320; 25088*64 + 64 = 1,605,696; 64*10 + 10 = 650
    assert str(net) == (
        "layer                            output           parameters\n"
        "InputLayer()                     (N, 1, 28, 28)            0\n"
        "Conv2D(1 -> 32, 3x3, padding 1)  (N, 32, 28, 28)         320\n"
        "HiddenLayer(25088 -> 64)         (N, 64)           1,605,696\n"
        "OutputLayer(64 -> 10)            (N, 10)                 650\n"
        "total                                              1,606,666"
    )


def test_without_an_input_shape_the_table_says_so() -> None:
    assert str(Network([OutputLayer(4, 3)])) == (
        "layer                output  parameters\n"
        "OutputLayer(4 -> 3)  ?               15\n"
        "total                                15"
    )


# --- prediction ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 10, 63, 64, 65, 600])
@pytest.mark.parametrize("hidden", [HiddenLayer, type("NeverFused", (HiddenLayer,), {})])
def test_predictions_of_any_number_of_images(n: int, hidden: type[HiddenLayer]) -> None:
    """With the current parameters. test_fused.py tests larger numbers of images."""
    net, (x, _) = network(hidden=hidden), batch(SMALL._replace(N=n))
    for parameter in (np.zeros(1), *net.parameters().values()):
        parameter[0] += 0.1
        probabilities = net.predict_proba(x)
        assert probabilities.shape == (n, 3)
        close(probabilities, net.forward(x), 1e-12)
        classes = net.predict(x)
        assert classes.dtype.kind == "i"
        np.testing.assert_array_equal(classes, probabilities.argmax(axis=1))


def test_nested_lists_are_batches() -> None:
    """Regression: forward took lists; predict and train_step raised an AttributeError."""
    (ours, theirs), (x, y) = (network(), network()), batch()
    lists: Any = (x.tolist(), y.tolist())
    close(ours.predict_proba(lists[0]), theirs.predict_proba(x))
    close(ours.train_step(*lists), theirs.train_step(x, y))
    compare(copies(ours.parameters()), theirs.parameters())
    number: Any = 3.0
    assert "expects x of shape (N, 1, H, W), got (1,)" in refused(lambda: ours.predict(number))


def test_a_number_as_rng_is_a_seed() -> None:
    """Regression: AttributeError: 'int' object has no attribute 'normal'."""
    seed: Any = 7
    ours, theirs = documented_network(rng=seed), documented_network(rng=np.random.default_rng(7))
    compare(ours.parameters(), theirs.parameters())
    ours.layers[1] = Conv2D(1, 32, 3, padding=1, rng=seed)
    compare(ours.parameters(), theirs.parameters())


def test_an_input_with_nan_has_no_class() -> None:
    net, (x, _) = network(), batch()
    x[1, 0, 2, 2] = np.nan
    probabilities = net.predict_proba(x)
    assert np.isnan(probabilities).any(axis=1).tolist() == [False, True]
    assert refused(lambda: net.predict(x)) == (
        "predict finds no class for input 1: its probabilities are NaN; "
        "check it and the parameters for NaN and very large numbers"
    )


def test_the_output_of_every_layer_disturbs_nothing() -> None:
    """Oracle: the layers of an equal network, called one by one."""
    net, other, (x, y), (more, _) = network(), network(), batch(), batch(seed=2)
    y_pred = net.forward(x)
    before = [dict(vars(layer)) for layer in net.layers]
    found = net.outputs(more)
    for layer, output in zip(other.layers, found, strict=True):
        more = layer.forward(more)
        np.testing.assert_array_equal(output, more)
    for layer, attributes in zip(net.layers, before, strict=True):
        assert vars(layer).keys() == attributes.keys()
        assert all(vars(layer)[name] is value for name, value in attributes.items())
    net.backward(loss_gradient(y_pred, y))
    literal_step(other, x, y)
    compare(net.gradients(), other.gradients(), rounding=0)


# --- parameters by name --------------------------------------------------------------------------


def test_parameters_are_the_arrays_themselves() -> None:
    net = network()
    names = [f"layer{i}.{name}" for i in (1, 2, 3) for name in ("weights", "bias")]
    assert list(net.parameters()) == names
    for name, array in net.parameters().items():
        assert array is getattr(net.layers[int(name[5])], name[7:])


def test_with_parameters_is_a_network_with_these_parameters() -> None:
    net, other, (x, _) = network(seed=0), network(seed=1), batch()
    changed = net.with_parameters(other.parameters())
    np.testing.assert_array_equal(changed.predict_proba(x), other.predict_proba(x))


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
