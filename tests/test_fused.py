"""`train_step` and `predict_proba`, fused, against the literal calls of forward, backward, update.

Oracles: the literal calls, which test_layers.py and test_network.py hold against loops; and for
some tiny shapes the loops themselves (`reference`). The fixture `fusings` counts the calls of
`fuse`, so that no test compares the literal path with itself.
"""

import copy
import tracemalloc
from collections.abc import Callable, Iterable, Iterator

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
    random,
)
from hypothesis import HealthCheck, given, settings

import handcnn.fast
from handcnn import Conv2D, HiddenLayer, InputLayer, Network, OutputLayer, documented_network
from handcnn.kernels.fused import Geometry as Map
from handcnn.kernels.fused import fuse
from handcnn.layers import ParameterLayer
from handcnn.types import Array

Step = Callable[[Network, Array, Array], Array]
Scenario = Callable[[Network, Step], Iterable[Array]]
ENOUGH = SMALL.fusable
X, Y = batch(ENOUGH)
X2, Y2 = batch(ENOUGH, seed=2)


@pytest.fixture
def fusings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by one whenever something is fused."""
    calls: list[int] = []

    def counting(kernels: Array, bias: Array, W: Array, geometry: Map) -> tuple[Array, Array]:
        calls.append(1)
        return fuse(kernels, bias, W, geometry)

    monkeypatch.setattr(handcnn.fast, "fuse", counting)
    return calls


def run(scenario: Scenario, net: Network, step: Step) -> list[Array]:
    """Return copies of all that is seen, the parameters at the end included."""
    seen = [array.copy() for array in scenario(net, step)]
    return seen + list(net.parameters().values())


def compare_steps(
    fusings: list[int],
    scenario: Scenario,
    make: Callable[[], Network] = network,
    rounding: float = 1e-10,
) -> None:
    """Run the scenario with `train_step` and with the literal calls, and compare all it saw."""
    fusings.clear()
    found = run(scenario, make(), Network.train_step)
    assert fusings, "nothing was fused"
    expected = run(scenario, make(), literal_step)
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.dtype == b.dtype
        close(a, b, rounding, f"array {i}")


# --- the same results, whatever the shape --------------------------------------------------------


def training(geometry: Geometry, steps: int) -> Scenario:
    def scenario(net: Network, step: Step) -> Iterator[Array]:
        for seed in range(steps):
            yield step(net, *batch(geometry, seed))
            yield from net.parameters().values()

    return scenario


@every_geometry
def test_twenty_steps(fusings: list[int], geometry: Geometry) -> None:
    geometry = geometry.fusable
    compare_steps(fusings, training(geometry, 20), lambda: network(geometry), 1e-8)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(geometries(largest=9))
def test_any_shape(fusings: list[int], geometry: Geometry) -> None:
    geometry = geometry.fusable._replace(n=geometry.fusable.n + geometry.n)
    compare_steps(fusings, training(geometry, 2), lambda: network(geometry))


@every_geometry
def test_the_loops_agree(fusings: list[int], geometry: Geometry) -> None:
    geometry = geometry.fusable
    net, (x, y), (s, p) = network(geometry), batch(geometry), (geometry.s, geometry.p)
    before = copies(net.parameters())
    close(net.predict_proba(x), reference.network_forward(before, x, s, p))
    close(net.train_step(x, y), reference.network_forward(before, x, s, p))
    gradients = reference.network_gradients(before, x, y, s, p)
    compare(
        net.parameters(),
        {name: reference.updated(before[name], gradients[name], 0.01) for name in before},
    )
    assert len(fusings) == 2


def test_the_documented_network_at_its_full_size(fusings: list[int]) -> None:
    """Changed from outside between the steps, with a batch barely fused and a usual one."""

    def scenario(net: Network, step: Step) -> Iterator[Array]:
        for i, n in enumerate((11, 64, 11)):
            rng = np.random.default_rng(i)
            yield step(net, rng.random((n, 1, 28, 28)), np.eye(10)[rng.integers(10, size=n)])
            yield net.predict_proba(rng.random((12, 1, 28, 28)))
            conv, hidden = net.layers[1:3]
            assert isinstance(conv, Conv2D)
            assert isinstance(hidden, HiddenLayer)
            conv.weights[:, :, i % 3] *= 1.5
            conv.bias = conv.bias + 0.1
            hidden.weights = hidden.weights * 0.9
            hidden.bias[0, i] = 0.3
            hidden.learning_rate = 0.001 * (i + 1)

    compare_steps(
        fusings,
        scenario,
        lambda: documented_network(rng=np.random.default_rng(0), dtype=np.float64),
    )


# --- the step sees the layers as they are --------------------------------------------------------


def trained(net: Network) -> list[ParameterLayer]:
    return [layer for layer in net.layers if isinstance(layer, ParameterLayer)]


def edit(net: Network) -> None:
    for i, parameter in enumerate(net.parameters().values()):
        parameter *= 1.5 - 0.2 * i
        parameter[0] += 0.1


def edits_between_steps(net: Network, step: Step) -> Iterator[Array]:
    for _ in range(3):
        yield step(net, X, Y)
        edit(net)
        yield net.predict_proba(X2)


def other_learning_rates(net: Network, step: Step) -> Iterator[Array]:
    for i in range(3):
        for j, layer in enumerate(trained(net)):
            layer.learning_rate = 0.001 * (j + 1) * (i - 1)
        yield step(net, X, Y)


def other_batch_sizes(net: Network, step: Step) -> Iterator[Array]:
    """Fused and literal steps take turns."""
    for n in (ENOUGH.n, 1, ENOUGH.n - 1, 3 * ENOUGH.n, 2, ENOUGH.n + 1, 5):
        yield step(net, *batch(SMALL._replace(n=n), seed=n))
        yield from net.parameters().values()


def images_of_another_form(net: Network, step: Step) -> Iterator[Array]:
    """Show the dense layer 30 positions as 6 x 5, 5 x 6, 3 x 10 and 30 x 1."""
    for h, w in ((6, 5), (5, 6), (3, 10), (30, 1)):
        x = X.reshape(-1, 1, h, w)
        yield step(net, x, Y)
        yield net.predict_proba(x)


def images_in_another_order_of_memory(net: Network, step: Step) -> Iterator[Array]:
    yield step(net, np.asfortranarray(X), Y)
    yield step(net, np.repeat(X, 2, 3)[..., ::2], Y)


def steps_of_both_kinds(net: Network, step: Step) -> Iterator[Array]:
    """Mix fused steps with literal calls, which they must not confuse."""
    y_pred = net.forward(X)
    net.predict_proba(X2)
    net.backward(y_pred - Y)
    yield from copies(net.gradients()).values()
    yield step(net, X2, Y2)
    yield literal_step(net, X, Y)
    yield step(net, X2, Y2)


def copies_go_their_own_way(net: Network, step: Step) -> Iterator[Array]:
    step(net, X, Y)
    twins = copy.deepcopy(net), net.with_parameters({k: v / 2 for k, v in net.parameters().items()})
    for twin in twins:
        edit(twin)
        for _ in range(2):
            yield step(twin, X2, Y2)
            yield step(net, X, Y)
        yield from twin.parameters().values()


def results_are_overwritten(net: Network, step: Step) -> Iterator[Array]:
    """Spoil a result, which is no concern of the next step."""
    for seed in range(3):
        y_pred = step(net, *batch(ENOUGH, seed))
        yield y_pred
        y_pred[...] = 9
        net.predict_proba(X)[...] = 9


@pytest.mark.parametrize(
    "scenario",
    [
        edits_between_steps,
        other_learning_rates,
        other_batch_sizes,
        images_of_another_form,
        images_in_another_order_of_memory,
        steps_of_both_kinds,
        copies_go_their_own_way,
        results_are_overwritten,
    ],
)
def test_the_step_sees_what_the_layers_are(fusings: list[int], scenario: Scenario) -> None:
    compare_steps(fusings, scenario)


@pytest.mark.parametrize("replace", [np.asfortranarray, np.copy, lambda array: array[::-1]])
@pytest.mark.parametrize("i", [0, 1, 2])
def test_replaced_weights(fusings: list[int], replace: Callable[[Array], Array], i: int) -> None:
    def scenario(net: Network, step: Step) -> Iterator[Array]:
        for seed in range(3):
            yield step(net, *batch(ENOUGH, seed))
            layer = trained(net)[i]
            layer.weights = replace(layer.weights)

    compare_steps(fusings, scenario)


@pytest.mark.parametrize("which", [(0,), (1,), (0, 1), (0, 1, 2)])
def test_float64_weights_in_a_network_of_float32(
    fusings: list[int], which: tuple[int, ...]
) -> None:
    def scenario(net: Network, step: Step) -> Iterator[Array]:
        yield step(net, X, Y)
        for i in which:
            layer = trained(net)[i]
            layer.weights = 0.3 * random(layer.weights.shape, i)
        yield step(net, X, Y)

    compare_steps(fusings, scenario, lambda: network(dtype=np.float32), rounding=1e-5)
    assert len(fusings) == (2 if {0, 1} <= set(which) else 1)  # only layers of one dtype are fused


def test_float32_is_as_exact_as_float32_is(fusings: list[int]) -> None:
    scenario = training(ENOUGH, 20)
    compare_steps(fusings, scenario, lambda: network(dtype=np.float32), rounding=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_parameter_that_is_nan_shows_for_every_image(
    fusings: list[int], dtype: npt.DTypeLike
) -> None:
    for name in ("layer1.weights", "layer1.bias", "layer3.weights", "layer3.bias"):
        net = network(dtype=dtype)
        net.parameters()[name].flat[-1] = np.nan
        assert np.isnan(net.predict_proba(X)).any(axis=1).all()
        assert np.isnan(net.train_step(X, Y)).any(axis=1).all()
    assert len(fusings) == 8


# --- when it is fused ----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [999, 1000, 1001, 2500])
def test_a_prediction_fuses_once_for_all_batches(
    fusings: list[int], monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    """Seen to fail where every batch was fused, and where the last batch was literal."""
    net, (x, _) = network(), batch(SMALL._replace(n=n))
    expected = net.forward(x)
    for layer in (Conv2D, HiddenLayer):
        monkeypatch.setattr(layer, "forward", None)  # whoever calls it fails
    close(net.predict_proba(x), expected)
    assert len(fusings) == 1


def test_a_fused_step_calls_neither_layer(
    fusings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network()
    for layer in (Conv2D, HiddenLayer):
        for call in ("forward", "backward", "backward_parameters"):
            monkeypatch.setattr(layer, call, None)
    net.train_step(X, Y)
    assert len(fusings) == 1


def test_it_is_fused_where_there_are_more_images_than_kernel_entries(fusings: list[int]) -> None:
    net = network()
    for n in (1, ENOUGH.n - 1):  # 3*3 entries of one channel, and the bias
        net.train_step(X[:n], Y[:n])
        net.predict(X[:n])
    net.predict(X[:0])
    assert not fusings
    net.train_step(X, Y)
    assert len(fusings) == 1


class OwnConv(Conv2D):
    """A convolution that computes something else."""

    def forward(self, x: Array) -> Array:
        return 2 * super().forward(x)

    def backward(self, dout: Array) -> Array:
        return super().backward(2 * dout)


class OwnHidden(HiddenLayer):
    """A hidden layer that computes something else."""

    def forward(self, x: Array) -> Array:
        return super().forward(x) + 1


def behind_another_convolution() -> Network:
    conv = Conv2D(1, 2, 3, padding=1, dtype=np.float64)
    second = Conv2D(2, 3, 2, stride=2, padding=1, dtype=np.float64)
    dense = HiddenLayer(36, 4, dtype=np.float64)
    return filled_network([conv, second, dense, OutputLayer(4, 3, dtype=np.float64)])


def without_a_hidden_layer() -> Network:
    conv = Conv2D(1, 2, 3, dtype=np.float64)
    return filled_network([conv, OutputLayer(24, 3, dtype=np.float64)])


def in_fortran_order() -> Network:
    net = network()
    trained(net)[1].weights = np.asfortranarray(trained(net)[1].weights)
    return net


@pytest.mark.parametrize(
    "make",
    [
        lambda: network(conv=OwnConv),
        lambda: network(hidden=OwnHidden),
        behind_another_convolution,
        without_a_hidden_layer,
        in_fortran_order,
    ],
    ids=["a subclass first", "a subclass second", "convolution", "output", "Fortran order"],
)
def test_all_other_networks_take_the_literal_step(
    fusings: list[int], make: Callable[[], Network]
) -> None:
    scenario = training(ENOUGH, 3)
    found = run(scenario, make(), Network.train_step)
    expected = run(scenario, make(), literal_step)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    close(make().predict_proba(X), make().forward(X))
    assert not fusings


def test_input_layers_are_passed_over(fusings: list[int]) -> None:
    def make() -> Network:
        conv, hidden, output = network().layers[1:]
        return Network([InputLayer(), InputLayer(), conv, InputLayer(), hidden, output])

    compare_steps(fusings, training(ENOUGH, 2), make)


# --- memory --------------------------------------------------------------------------------------


def test_results_are_the_callers_own(fusings: list[int]) -> None:
    """What one step returned is not written into by the next, nor is it part of anything else."""
    net = network()
    seen: list[tuple[Array, Array]] = []
    for seed in range(3):
        x, y = batch(ENOUGH, seed)
        for array in (net.train_step(x, y), net.predict_proba(x)):
            others = [*(other for other, _ in seen), *net.parameters().values(), x, y]
            assert not any(np.shares_memory(array, other) for other in others)
            seen.append((array, array.copy()))
    for array, kept in seen:
        np.testing.assert_array_equal(array, kept)
    assert fusings


@pytest.mark.parametrize(
    "geometry",
    [Geometry(n=12, h=20, w=20, f=64, p=1, m=16), Geometry(n=1000, h=20, w=20, f=2, p=1)],
    ids=["large W", "large batch"],
)
def test_a_step_in_float32_needs_half_the_memory_of_one_in_float64(geometry: Geometry) -> None:
    """So nothing large becomes float64 on the way, whatever computes it.

    Seen to fail where a learning rate, a float64 of NumPy, made the step of W a float64 array, and
    where x M was computed in float64 with `@`.
    """
    peaks = []
    for dtype in (np.float32, np.float64):
        net = network(geometry, dtype)
        x, y = (array.astype(dtype) for array in batch(geometry))
        for layer in trained(net):
            layer.learning_rate = np.float64(0.002)
        net.train_step(x, y)
        tracemalloc.start()
        net.train_step(x, y)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] < 0.55 * peaks[1]
