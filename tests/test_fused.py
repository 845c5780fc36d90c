"""Fused `train_step` and `predict_proba`, compared with forward, backward and update_params.

Oracles: the three literal calls, which test_layers.py and test_network.py compare with loops; and
the loops themselves (`reference`). The fixture `fusings` counts the calls of `fuse`, so that no
test compares the literal path with itself.
"""

import copy
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
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
    step_by_loops,
    trained,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import handcnn.fast
from handcnn import Conv2D, HiddenLayer, InputLayer, Network, OutputLayer
from handcnn.kernels import fused
from handcnn.types import Array

Scenario = Callable[[Network], Iterable[Array]]  # does things to a network, yields the results
Operation = Callable[[Network, int], Array | None]  # does one thing, in several variants
F64 = np.float64
ENOUGH = SMALL.fusable
X, Y = batch(ENOUGH)
X2, Y2 = batch(ENOUGH, seed=2)
for array in (X, Y, X2, Y2):
    array.flags.writeable = False  # NumPy raises on any attempt to write into it


class Literal(Network):
    """A network whose steps and predictions use the literal calls."""

    train_step = literal_step

    def predict_proba(self, x: Array) -> Array:
        return copy.deepcopy(self).forward(x)


@pytest.fixture
def fusings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by one at every call of `fuse`."""
    calls: list[int] = []

    def counting(*arguments: Any) -> tuple[Array, Array]:
        calls.append(1)
        return fused.fuse(*arguments)

    monkeypatch.setattr(handcnn.fast, "fuse", counting)
    return calls


def run(scenario: Scenario, net: Network) -> dict[str, Array]:
    """Return all results of a scenario, and the parameters at its end.

    Each result must belong to the caller: no view of another array, and never changed later.
    """
    seen: list[Array] = []
    kept: list[Array] = []
    for array in scenario(net):
        assert not any(np.shares_memory(array, other) for other in (*seen, X, Y))
        seen.append(array)
        kept.append(array.copy())
    found = {f"result {i}": array for i, array in enumerate(seen)}
    compare(found, {f"result {i}": array for i, array in enumerate(kept)}, rounding=0)
    return found | net.parameters()


def compare_steps(
    fusings: list[int],
    scenario: Scenario,
    make: Callable[[], Network] = network,
    rounding: float = 1e-10,
) -> None:
    """Compare the results of a scenario for a network and for its literal version."""
    fusings.clear()
    found = run(scenario, make())
    assert fusings, "nothing was fused"
    compare(found, run(scenario, Literal(make().layers)), rounding)


# --- the same results, whatever the shape --------------------------------------------------------


def training(geometry: Geometry, steps: int) -> Scenario:
    def scenario(net: Network) -> Iterator[Array]:
        for seed in range(steps):
            yield net.train_step(*batch(geometry, seed))
            yield from copies(net.parameters()).values()

    return scenario


@every_geometry
def test_the_loops_agree_and_twenty_steps(fusings: list[int], geometry: Geometry) -> None:
    geometry = geometry.fusable
    net, (x, y) = network(geometry), batch(geometry)
    y_pred, _, updated = step_by_loops(net.parameters(), x, y, geometry)
    close(net.predict_proba(x), y_pred)
    close(net.train_step(x, y), y_pred)
    compare(net.parameters(), updated)
    assert len(fusings) == 2
    compare_steps(fusings, training(geometry, 20), lambda: network(geometry), 1e-8)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(geometries(largest=9))
def test_any_shape(fusings: list[int], geometry: Geometry) -> None:
    geometry = geometry.fusable._replace(N=geometry.fusable.N + geometry.N)
    compare_steps(fusings, training(geometry, 2), lambda: network(geometry))


def test_float32_is_as_exact_as_float32_is(fusings: list[int]) -> None:
    scenario = training(ENOUGH, 20)
    compare_steps(fusings, scenario, lambda: network(dtype=np.float32), rounding=1e-4)
    found = run(scenario, network(dtype=np.float32))
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}


def test_the_hidden_layer_is_silent_at_zero(fusings: list[int]) -> None:
    """Where z is exactly 0, the gradient is 0."""
    net = network()
    for name in ("layer2.weights", "layer2.bias"):
        net.parameters()[name][...] = 0
    before = copies(net.parameters())
    net.train_step(X, Y)
    for name in ("layer1.weights", "layer1.bias", "layer2.weights", "layer2.bias"):
        np.testing.assert_array_equal(net.parameters()[name], before[name])
    assert fusings


def test_the_documented_network_at_its_full_size(fusings: list[int]) -> None:
    geometry = Geometry(N=20, H=28, W=28, F=32, p=1, M=64, K=10)
    compare_steps(fusings, training(geometry, 2), lambda: network(geometry))


# --- the step uses the current state of the layers -----------------------------------------------


def edit(net: Network, i: int) -> None:
    for parameter in net.parameters().values():
        parameter *= 1.1 - 0.1 * i
        parameter[0] += 0.1


def replace(net: Network, i: int, rearrange: Callable[[Array], Array] = np.copy) -> None:
    """Replace weights by an array that may have another memory layout."""
    trained(net)[i].weights = rearrange(trained(net)[i].weights)


def set_rates(net: Network, i: int) -> None:
    for j, layer in enumerate(trained(net)):
        layer.learning_rate = 0.001 * (j + 1) * (i - 1)


def step_of_another_size(net: Network, i: int) -> Array:
    """Take a step with a batch that is fused, just too small, or far too small."""
    return net.train_step(*batch(SMALL._replace(N=ENOUGH.N - i), seed=i))


def step_of_another_form(net: Network, i: int) -> Array:
    """Arrange the dense layer's 30 positions as 5 x 6, 3 x 10 or 30 x 1."""
    return net.train_step(X.reshape(-1, 1, *((5, 6), (3, 10), (30, 1))[i]), Y)


def step_in_the_middle_of_another(net: Network, i: int) -> Array:
    y_pred = net.forward(X)
    net.predict_proba(X2[: 5 * i])
    net.predict_proba(X2)
    net.backward(y_pred - Y)
    gradients = np.concatenate([array.ravel() for array in net.gradients().values()])
    net.train_step(X2, Y2)
    return gradients


def step_of_a_copy(net: Network, i: int) -> Array:
    halved = net.with_parameters({name: array / 2 for name, array in net.parameters().items()})
    twin = type(net)((copy.deepcopy(net) if i else halved).layers)
    edit(twin, i)
    return twin.train_step(X2, Y2)


def spoil_a_result(net: Network, i: int) -> None:
    net.train_step(X, Y)[...] = 9
    net.predict_proba(X)[...] = 9


OPERATIONS: list[Operation] = [
    lambda net, i: net.train_step(*batch(ENOUGH, seed=i)),
    lambda net, i: net.train_step(np.asfortranarray(X), Y),
    lambda net, i: net.train_step(np.repeat(X, 2, 3)[..., ::2], Y),
    lambda net, i: net.predict_proba(X2),
    lambda net, i: literal_step(net, X, Y),
    lambda net, i: replace(net, i, np.asfortranarray),
    lambda net, i: replace(net, i, lambda weights: weights[::-1]),
    *(replace, edit, set_rates, step_of_another_size, step_of_another_form),
    *(step_in_the_middle_of_another, step_of_a_copy, spoil_a_result),
]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 2)), min_size=5, max_size=15))
def test_whatever_happens_between_the_steps(
    fusings: list[int], operations: list[tuple[Operation, int]]
) -> None:
    def scenario(net: Network) -> Iterator[Array]:
        yield net.train_step(X, Y)
        for operation, i in operations:
            if (seen := operation(net, i)) is not None:
                yield seen
            yield net.train_step(X, Y)

    compare_steps(fusings, scenario, rounding=1e-8)


@pytest.mark.parametrize("which", [(0,), (1,), (0, 1), (0, 1, 2)])
def test_float64_weights_in_a_network_of_float32(
    fusings: list[int], which: tuple[int, ...]
) -> None:
    def scenario(net: Network) -> Iterator[Array]:
        yield net.train_step(X, Y)
        for i in which:
            layer = trained(net)[i]
            layer.weights = 0.3 * random(layer.weights.shape, i)
        yield net.train_step(X, Y)

    compare_steps(fusings, scenario, lambda: network(dtype=np.float32), rounding=1e-5)
    assert len(fusings) == (2 if {0, 1} <= set(which) else 1)  # only layers of one dtype are fused


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
    """Fails if every batch is fused anew, or if the last batch is not fused."""
    net, (x, _) = network(), batch(SMALL._replace(N=n))
    expected = net.forward(x)
    for layer in (Conv2D, HiddenLayer):
        monkeypatch.setattr(layer, "forward", None)  # any call fails
    close(net.predict_proba(x), expected)
    assert len(fusings) == 1


def test_it_is_fused_where_there_are_more_images_than_kernel_entries(
    fusings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network()
    for n in (1, ENOUGH.N - 1):  # 3*3 entries of one channel, and the bias
        net.train_step(X[:n], Y[:n])
        net.predict(X[:n])
    net.predict(X[:0])
    assert not fusings
    for layer in (Conv2D, HiddenLayer):  # a fused step calls neither
        for call in ("forward", "backward", "backward_parameters"):
            monkeypatch.setattr(layer, call, None)
    net.train_step(X, Y)
    assert len(fusings) == 1


def doubled(right: type[Any]) -> Any:
    """Return a layer that computes something else."""

    def forward(layer: Any, x: Array) -> Any:
        return 2 * right.forward(layer, x)

    return type("Doubled", (right,), {"forward": forward})


def in_fortran_order() -> Network:
    net = network()
    replace(net, 1, np.asfortranarray)
    return net


OTHERS: dict[str, Callable[[], Network]] = {
    "a subclass first": lambda: network(conv=doubled(Conv2D)),
    "a subclass second": lambda: network(hidden=doubled(HiddenLayer)),
    "a convolution second": lambda: filled_network(
        [
            Conv2D(1, 2, 3, padding=1, dtype=F64),
            Conv2D(2, 3, 2, stride=2, padding=1, dtype=F64),
            HiddenLayer(36, 4, dtype=F64),
            OutputLayer(4, 3, dtype=F64),
        ]
    ),
    "the output second": lambda: filled_network(
        [Conv2D(1, 2, 3, dtype=F64), OutputLayer(24, 3, dtype=F64)]
    ),
    "Fortran order": in_fortran_order,
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS.keys())
def test_all_other_networks_take_the_literal_step(
    fusings: list[int], make: Callable[[], Network]
) -> None:
    scenario = training(ENOUGH, 3)
    compare(run(scenario, make()), run(scenario, Literal(make().layers)), rounding=0)
    close(make().predict_proba(X), make().forward(X))
    assert not fusings


def test_input_layers_are_passed_over(fusings: list[int]) -> None:
    def make() -> Network:
        conv, hidden, output = network().layers[1:]
        return Network([InputLayer(), InputLayer(), conv, InputLayer(), hidden, output])

    compare_steps(fusings, training(ENOUGH, 2), make)


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "geometry",
    [Geometry(N=12, H=20, W=20, F=64, p=1, M=16), Geometry(N=1000, H=20, W=20, F=2, p=1)],
    ids=["many weights", "large batch"],
)
def test_a_step_in_float32_needs_half_the_memory_of_one_in_float64(geometry: Geometry) -> None:
    """So no large array becomes float64, whether computed by `matmul` or by `@`.

    Regression: a learning rate of type np.float64 made the step of the dense weights a float64
    array, and x G was computed in float64 with `@`.
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
