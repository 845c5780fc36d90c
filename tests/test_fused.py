"""The folded pair against the same network with folding switched off.

Oracles: the unfolded path, which test_layers.py and test_network.py hold against loops; and for
some tiny shapes the loops themselves (`reference`). A scenario is a function of a network that
returns everything it saw; it runs once with folding and once without, the spy `folds` makes sure
of that, and both have to see the same.
"""

import copy
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from handcnn import Conv2D, HiddenLayer, InputLayer, Network, OutputLayer, folding, loss_gradient
from handcnn.folding import FoldedGradient, is_worth_folding
from handcnn.layers import Layer, Shape

Array = np.ndarray
Geometry = tuple[int, ...]
Scenario = Callable[[Network], Iterable[Array]]
ROUNDING = {"rtol": 1e-10, "atol": 1e-10}

# C, H, W, F, k, s, p, M
GEOMETRIES = [
    pytest.param((1, 6, 5, 3, 3, 1, 1, 4), id="documented, small"),
    pytest.param((3, 5, 6, 2, 3, 1, 0, 4), id="three channels, no padding"),
    pytest.param((2, 7, 6, 2, 3, 2, 1, 3), id="stride 2 with a remainder"),
    pytest.param((1, 9, 7, 4, 2, 3, 0, 3), id="stride 3 with pixels in no window"),
    pytest.param((1, 8, 6, 2, 2, 3, 3, 3), id="stride 3, padding 3"),
    pytest.param((2, 4, 5, 3, 1, 1, 0, 3), id="1x1"),
    pytest.param((2, 3, 4, 3, 1, 2, 2, 3), id="1x1, stride 2, padding 2"),
    pytest.param((1, 4, 4, 2, 4, 1, 0, 3), id="kernel as large as the image"),
    pytest.param((1, 3, 3, 2, 7, 1, 2, 3), id="kernel as large as the padded image"),
    pytest.param((1, 5, 3, 3, 3, 1, 1, 1), id="one unit"),
    pytest.param((2, 3, 5, 1, 2, 1, 1, 3), id="one filter"),
]
SMALL = GEOMETRIES[0].values[0]


def dense_size(geometry: Geometry) -> int:
    _, h, w, f, k, s, p, _ = geometry
    return f * ((h + 2 * p - k) // s + 1) * ((w + 2 * p - k) // s + 1)


def enough(geometry: Geometry) -> int:
    """Return the smallest batch that is folded."""
    c, k = geometry[0], geometry[4]
    return c * k * k + 2


def filled(layers: list[Layer], fold: bool, seed: int = 0) -> Network:
    """Return a network with parameters large enough to matter, biases included."""
    net, rng = Network(layers, fold=fold), np.random.default_rng(seed)
    for parameter in net.parameters().values():
        parameter[...] = 0.3 * rng.standard_normal(parameter.shape)
    return net


def network(
    fold: bool, geometry: Geometry = SMALL, dtype: type = np.float64, last: bool = False
) -> Network:
    """Return Conv2D -> HiddenLayer -> OutputLayer, or with `last` Conv2D -> OutputLayer."""
    c, _, _, f, k, s, p, m = geometry
    conv = Conv2D(c, f, k, s, p, 0.002, dtype=dtype)
    d = dense_size(geometry)
    if last:
        return filled([InputLayer(), conv, OutputLayer(d, m, 0.002, dtype=dtype)], fold)
    hidden = HiddenLayer(d, m, 0.002, dtype=dtype)
    return filled([InputLayer(), conv, hidden, OutputLayer(m, 3, 0.002, dtype=dtype)], fold)


def batch(n: int, geometry: Geometry = SMALL, classes: int = 3, seed: int = 1) -> tuple:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, *geometry[:3]))
    return x, np.eye(classes)[rng.integers(classes, size=n)]


N = enough(SMALL)
X, Y = batch(N)
X2, Y2 = batch(N, seed=2)


def passes(net: Network, x: Array = X, y: Array = Y) -> Array:
    y_pred = net.forward(x)
    net.backward(loss_gradient(y_pred, y))
    return y_pred


def trained(net: Network) -> list[Layer]:
    return [layer for layer in net.layers if layer.parameters()]


def state(net: Network) -> list[Array]:
    """Return copies of all gradients and parameters."""
    arrays = [*net.gradients().values(), *net.parameters().values()]
    return [array.copy() for array in arrays]


@pytest.fixture
def folds(monkeypatch: pytest.MonkeyPatch) -> list[Conv2D]:
    return spied(monkeypatch)


def spied(monkeypatch: pytest.MonkeyPatch) -> list[Conv2D]:
    """Return a list that grows whenever something is folded."""
    calls: list[Conv2D] = []
    fold = folding.fold

    def spy(conv: Conv2D, W: Array, image_shape: Shape) -> tuple[Array, Array]:
        calls.append(conv)
        return fold(conv, W, image_shape)

    monkeypatch.setattr(folding, "fold", spy)
    return calls


def compare(
    folds: list[Conv2D],
    scenario: Scenario,
    make: Callable[[bool], Network] = network,
    rounding: dict[str, float] = ROUNDING,
) -> None:
    """Run the scenario with folding and without, and compare everything it returned."""
    folds.clear()
    found = list(scenario(make(True)))
    assert folds, "nothing was folded"
    folds.clear()
    expected = list(scenario(make(False)))
    assert not folds
    assert len(found) == len(expected) > 0
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, **rounding, err_msg=f"array {i}")


# --- the same results, whatever the shape ---------------------------------------------------------


def training(geometry: Geometry, classes: int, n: int, steps: int) -> Scenario:
    def scenario(net: Network) -> Iterable[Array]:
        for step in range(steps):
            x, y = batch(n, geometry, classes, seed=step)
            yield passes(net, x, y)
            if step % 2:  # looked at before the update or not, the gradients are the same
                yield from state(net)
            net.update_params()
            yield from state(net)
        yield net.predict_proba(x)

    return scenario


@pytest.mark.parametrize("last", [False, True], ids=["hidden", "output"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_twenty_steps(folds: list[Conv2D], geometry: Geometry, last: bool) -> None:
    classes = geometry[-1] if last else 3
    scenario = training(geometry, classes, enough(geometry), 20)
    compare(folds, scenario, lambda fold: network(fold, geometry, last=last))


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    k, s, p = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(0, 3))
    h, w = (draw(st.integers(max(1, k - 2 * p), 9)) for _ in "hw")
    c, f, m = (draw(st.integers(1, 3)) for _ in "cfm")
    return c, h, w, f, k, s, p, m


@settings(max_examples=150)
@given(geometries(), st.booleans(), st.integers(0, 20))
def test_any_shape(geometry: Geometry, last: bool, more: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        folds = spied(patch)
        classes = geometry[-1] if last else 3
        scenario = training(geometry, classes, enough(geometry) + more, 2)
        compare(folds, scenario, lambda fold: network(fold, geometry, last=last))


@pytest.mark.parametrize(
    "geometry",
    [
        (1, 4, 5, 2, 3, 1, 1, 3),
        (2, 4, 3, 2, 2, 2, 1, 2),
        (1, 5, 4, 3, 2, 3, 0, 2),
        (3, 3, 2, 2, 1, 1, 0, 3),
        (1, 2, 2, 2, 4, 1, 1, 2),
    ],
)
def test_the_loops_agree(folds: list[Conv2D], geometry: Geometry) -> None:
    net, (s, p) = network(True, geometry), geometry[5:7]
    x, y = batch(enough(geometry), geometry)
    parameters = {name: array.copy() for name, array in net.parameters().items()}
    expected = reference.network_forward(parameters, x, s, p)
    np.testing.assert_allclose(passes(net, x, y), expected, **ROUNDING)
    gradients = reference.network_gradients(parameters, x, y, s, p)
    net.update_params()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(net.gradients()[name], gradient, **ROUNDING, err_msg=name)
        updated = reference.updated(parameters[name], gradient, 0.002)
        np.testing.assert_allclose(net.parameters()[name], updated, **ROUNDING, err_msg=name)
    assert folds


# --- other networks ------------------------------------------------------------------------------


class Reshape(Layer):
    """A layer of the reader's own: rows (N, D) become images (N, 1, H, W)."""

    def __init__(self, h: int, w: int) -> None:
        self.h, self.w = h, w

    def forward(self, x: Array) -> Array:
        return x.reshape(len(x), 1, self.h, self.w)

    def backward(self, dout: Array) -> Array:
        return dout.reshape(len(dout), -1)


def behind_another_convolution(fold: bool) -> Network:
    """Return a network whose pair has to return dx: the first convolution cannot be folded."""
    layers = [
        Conv2D(1, 2, 3, padding=1, dtype=np.float64),
        Conv2D(2, 3, 2, stride=2, padding=1, dtype=np.float64),
        HiddenLayer(36, 4, dtype=np.float64),
        OutputLayer(4, 3, dtype=np.float64),
    ]
    return filled(layers, fold)


def two_pairs(fold: bool) -> Network:
    layers = [
        Conv2D(1, 3, 3, padding=1, dtype=np.float64),
        HiddenLayer(90, 12, dtype=np.float64),
        Reshape(3, 4),
        Conv2D(1, 2, 2, dtype=np.float64),
        OutputLayer(12, 3, dtype=np.float64),
    ]
    return filled(layers, fold)


@pytest.mark.parametrize("make", [behind_another_convolution, two_pairs])
def test_other_networks(folds: list[Conv2D], make: Callable[[bool], Network]) -> None:
    compare(folds, training(SMALL, 3, N + 3, 5), make)


# --- the layers keep their public meaning --------------------------------------------------------


def edited(net: Network) -> None:
    """Change parameters of every layer in place."""
    for i, parameter in enumerate(net.parameters().values()):
        parameter *= 1.5 - 0.2 * i
        parameter[0] += 0.1


def edits_between_steps(net: Network) -> Iterable[Array]:
    for _ in range(3):
        yield passes(net)
        net.update_params()
        edited(net)
        yield net.predict_proba(X2)
    yield from state(net)


def edits_between_forward_and_backward(net: Network) -> Iterable[Array]:
    y_pred = net.forward(X)
    edited(net)
    net.backward(loss_gradient(y_pred, Y))
    yield from state(net)
    edited(net)
    net.backward(loss_gradient(y_pred, Y))
    net.update_params()
    yield from state(net)


def edits_between_backward_and_update(net: Network) -> Iterable[Array]:
    passes(net)
    edited(net)
    net.update_params()
    yield from state(net)


def edits_before_the_layers_go_back(net: Network) -> Iterable[Array]:
    dout = loss_gradient(net.forward(X), Y)
    edited(net)
    for layer in reversed(net.layers):
        dout = layer.backward(dout)
        yield dout
    yield from state(net)


@pytest.mark.parametrize("make", [network, behind_another_convolution, two_pairs])
@pytest.mark.parametrize(
    "scenario",
    [
        edits_between_steps,
        edits_between_forward_and_backward,
        edits_between_backward_and_update,
        edits_before_the_layers_go_back,
    ],
)
def test_edits_in_place_are_seen(
    folds: list[Conv2D], scenario: Scenario, make: Callable[[bool], Network]
) -> None:
    compare(folds, scenario, make)


def transposed(array: Array) -> Array:
    return np.asfortranarray(array)


@pytest.mark.parametrize("replace", [transposed, np.copy, lambda array: array[::-1]])
@pytest.mark.parametrize("i", [1, 2])
@pytest.mark.parametrize("between", ["steps", "forward and backward", "backward and update"])
def test_replaced_weights(
    folds: list[Conv2D], replace: Callable[[Array], Array], i: int, between: str
) -> None:
    def scenario(net: Network) -> Iterable[Array]:
        for step in range(3):
            x, y = batch(N, seed=step)
            y_pred = net.forward(x)
            yield y_pred
            if between == "forward and backward":
                net.layers[i].weights = replace(net.layers[i].weights)
            net.backward(loss_gradient(y_pred, y))
            if between == "backward and update":
                net.layers[i].weights = replace(net.layers[i].weights)
            net.update_params()
            if between == "steps":
                net.layers[i].weights = replace(net.layers[i].weights)
            yield from state(net)

    compare(folds, scenario)


@pytest.mark.parametrize("which", [(1,), (2,), (1, 2)])
def test_float64_weights_in_a_network_of_float32(
    folds: list[Conv2D], which: tuple[int, ...]
) -> None:
    def scenario(net: Network) -> Iterable[Array]:
        passes(net)
        folded = len(folds)
        rng = np.random.default_rng(5)
        for i in which:
            net.layers[i].weights = 0.3 * rng.standard_normal(net.layers[i].weights.shape)
            net.layers[i].bias = 0.3 * rng.standard_normal(net.layers[i].bias.shape)
        yield passes(net)
        assert (len(folds) > folded) == (net.fold and len(which) == 2)
        net.update_params()
        yield from state(net)
        if len(which) == 2:  # the pair is in float64 throughout, and so is its output
            yield net.layers[2].forward(net.layers[1].forward(X))

    # The output layer is still in float32.
    rounding = {"rtol": 1e-5, "atol": 1e-5}
    compare(folds, scenario, lambda fold: network(fold, dtype=np.float32), rounding)


def test_a_pair_that_became_float64_computes_in_float64(folds: list[Conv2D]) -> None:
    def scenario(net: Network) -> Iterable[Array]:
        passes(net)
        for i, layer in enumerate(net.layers[1:]):
            rng = np.random.default_rng(i)
            layer.weights = 0.3 * rng.standard_normal(layer.weights.shape)
            layer.bias = 0.3 * rng.standard_normal(layer.bias.shape)
        yield passes(net)
        yield from state(net)

    compare(folds, scenario, lambda fold: network(fold, dtype=np.float32))


# --- gradients -----------------------------------------------------------------------------------


def clipped(net: Network) -> Iterable[Array]:
    passes(net)
    for layer in trained(net):
        np.clip(layer.dweights, -0.5, 0.5, out=layer.dweights)
        np.clip(layer.dbias, -0.1, 0.1, out=layer.dbias)
    net.update_params()
    yield from state(net)


def biases_clipped(net: Network) -> Iterable[Array]:
    """Clip what the gradient of the weights was made of, before anybody looked at that."""
    passes(net)
    for layer in trained(net):
        layer.dbias *= 0.1
    trained(net)[0].bias += 1
    net.update_params()
    yield from state(net)


def replaced(net: Network) -> Iterable[Array]:
    passes(net)
    for layer in trained(net):
        layer.dweights = np.full_like(layer.weights, 0.7)
        layer.dbias = np.full_like(layer.bias, 0.3)
    net.update_params()
    yield from state(net)


def read_late(net: Network) -> Iterable[Array]:
    """Look at the gradients of one batch after another one went through."""
    passes(net)
    net.forward(X2)
    yield from state(net)
    passes(net)
    net.update_params()
    net.predict(X2)
    net.forward(X2[:, :, ::-1])
    yield from state(net)


def updated_late(net: Network) -> Iterable[Array]:
    passes(net)
    net.forward(X2)
    net.update_params()
    yield from state(net)


def updated_twice(net: Network) -> Iterable[Array]:
    passes(net)
    net.update_params()
    net.update_params()
    yield from state(net)
    net.update_params()
    yield from state(net)


def backward_twice(net: Network) -> Iterable[Array]:
    y_pred = passes(net)
    net.backward(y_pred)
    net.update_params()
    yield from state(net)


def other_learning_rates(net: Network) -> Iterable[Array]:
    for step in range(3):
        passes(net)
        for i, layer in enumerate(trained(net)):
            layer.learning_rate = np.float64(0.001) * (i + 1) * (step - 1)
        net.update_params()
        yield from state(net)


def a_layer_kept_for_later(net: Network) -> Iterable[Array]:
    passes(net)
    kept = [copy.copy(layer) for layer in trained(net)]
    passes(net, X2, Y2)
    for layer in kept:
        yield from (layer.dweights, layer.dbias)


@pytest.mark.parametrize("make", [network, behind_another_convolution, two_pairs])
@pytest.mark.parametrize(
    "scenario",
    [
        clipped,
        biases_clipped,
        replaced,
        read_late,
        updated_late,
        updated_twice,
        backward_twice,
        other_learning_rates,
        a_layer_kept_for_later,
    ],
)
def test_gradients_belong_to_the_layers(
    folds: list[Conv2D], scenario: Scenario, make: Callable[[bool], Network]
) -> None:
    compare(folds, scenario, make)


def test_dweights_are_multiplied_out_once_and_only_when_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    compute = FoldedGradient.compute
    monkeypatch.setattr(
        FoldedGradient, "compute", lambda self: (calls.append(self), compute(self))[1]
    )
    net = network(True)
    for _ in range(3):
        passes(net)
        net.update_params()
    assert not calls
    assert net.layers[2].dweights is net.layers[2].dweights
    assert len(calls) == 1


# --- the layers run by themselves ----------------------------------------------------------------


def by_hand(net: Network, x: Array) -> Array:
    for layer in net.layers:
        x = layer.forward(x)
    return x


def layers_go_back_after_the_network(net: Network) -> Iterable[Array]:
    dout = loss_gradient(net.forward(X), Y)
    for layer in reversed(net.layers):
        dout = layer.backward(dout)
        yield dout
    yield from state(net)
    net.update_params()
    yield passes(net, X2, Y2)
    yield from state(net)


def one_layer_goes_back_twice(net: Network) -> Iterable[Array]:
    net.forward(X)
    for _ in range(2):
        yield net.layers[1].backward(np.ones((N, 3, 6, 5)))
        yield net.layers[2].backward(np.ones((N, 4)))
    yield from (net.layers[1].dweights, net.layers[2].dweights)


def layers_first_and_then_the_network(net: Network) -> Iterable[Array]:
    y_pred = net.forward(X)
    net.layers[2].backward(np.ones((N, 4)))
    net.backward(loss_gradient(y_pred, Y))
    yield from state(net)


def other_images_by_hand_in_between(net: Network) -> Iterable[Array]:
    net.forward(X)
    net.backward(loss_gradient(by_hand(net, X2), Y2))
    yield from state(net)


@pytest.mark.parametrize("make", [network, behind_another_convolution, two_pairs])
@pytest.mark.parametrize(
    "scenario", [layers_go_back_after_the_network, other_images_by_hand_in_between]
)
def test_all_layers_may_be_run_by_themselves(
    folds: list[Conv2D], scenario: Scenario, make: Callable[[bool], Network]
) -> None:
    compare(folds, scenario, make)


def the_convolution_alone_in_between(net: Network) -> Iterable[Array]:
    net.forward(X)
    yield net.layers[1].forward(X2)
    dout = net.layers[2].backward(np.ones((N, 4)))
    yield dout
    yield net.layers[1].backward(dout)
    yield from (net.layers[1].dweights, net.layers[2].dweights)


def a_convolution_in_two_networks(net: Network) -> Iterable[Array]:
    twin = Network([net.layers[1], *map(copy.copy, net.layers[2:])], fold=net.fold)
    net.forward(X)
    twin.forward(X2)
    net.backward(np.ones((N, 3)))
    yield from state(net)


def a_copied_layer_goes_back(net: Network) -> Iterable[Array]:
    net.forward(X)
    dense = copy.copy(net.layers[2])
    yield from (dense.backward(np.ones((N, 4))), dense.dweights, dense.dbias)


@pytest.mark.parametrize(
    "scenario",
    [
        one_layer_goes_back_twice,
        layers_first_and_then_the_network,
        the_convolution_alone_in_between,
        a_convolution_in_two_networks,
        a_copied_layer_goes_back,
    ],
)
def test_one_layer_may_be_run_by_itself(folds: list[Conv2D], scenario: Scenario) -> None:
    compare(folds, scenario)


# --- batches and images that change --------------------------------------------------------------


def other_batch_sizes(net: Network) -> Iterable[Array]:
    for n in (N, 1, N - 1, 3 * N, N, 2, N + 1, 5):
        x, y = batch(n, seed=n)
        yield passes(net, x, y)
        yield from state(net)
        net.update_params()
        yield from state(net)


def a_small_batch_between_forward_and_backward(net: Network) -> Iterable[Array]:
    net.forward(X)
    y_pred = net.forward(X2[:3])
    net.backward(loss_gradient(y_pred, Y2[:3]))
    yield from state(net)
    passes(net, X2[:3], Y2[:3])
    y_pred = net.forward(X)
    net.backward(loss_gradient(y_pred, Y))
    yield from state(net)


def prediction_in_between(net: Network) -> Iterable[Array]:
    y_pred = net.forward(X)
    yield net.predict_proba(batch(600)[0])
    yield net.predict(X2)
    net.backward(loss_gradient(y_pred, Y))
    yield net.predict_proba(X2)
    net.update_params()
    yield from state(net)


def images_of_another_form(net: Network) -> Iterable[Array]:
    """Let the dense layer count 30 positions, be they 6 x 5, 5 x 6, 3 x 10 or 30 x 1."""
    for h, w in ((6, 5), (5, 6), (6, 5), (3, 10), (30, 1)):
        x = X.reshape(N, 1, h, w)
        yield passes(net, x)
        net.update_params()
        yield net.predict_proba(x)
        yield from state(net)


@pytest.mark.parametrize(
    "scenario",
    [
        other_batch_sizes,
        a_small_batch_between_forward_and_backward,
        prediction_in_between,
        images_of_another_form,
    ],
)
def test_batches_and_images_may_change(folds: list[Conv2D], scenario: Scenario) -> None:
    compare(folds, scenario)


def test_prediction_folds_once(folds: list[Conv2D]) -> None:
    network(True).predict_proba(batch(600)[0])  # three batches, the same weights
    assert len(folds) == 1


# --- when it is chosen ---------------------------------------------------------------------------


class MyConv2D(Conv2D):
    """A convolution that may do anything."""


class MyHiddenLayer(HiddenLayer):
    """A hidden layer that may do anything."""


@pytest.mark.parametrize(
    ("conv", "dense"), [(MyConv2D, HiddenLayer), (Conv2D, MyHiddenLayer), (InputLayer, Conv2D)]
)
def test_only_the_layers_themselves_are_folded(conv: type, dense: type) -> None:
    first = conv(1, 3, 3) if conv is not InputLayer else conv()
    second = dense(12, 4) if dense is not Conv2D else dense(1, 3, 3)
    assert not is_worth_folding(first, second, 1000)
    assert is_worth_folding(Conv2D(1, 3, 3), HiddenLayer(12, 4), 1000)


def test_it_is_folded_where_there_are_more_images_than_taps(folds: list[Conv2D]) -> None:
    net = network(True)
    for n in (0, 1, N - 1):  # 3*3 taps of one channel, and the bias
        net.forward(batch(n)[0])
    assert not folds
    net.forward(X)
    assert len(folds) == 1


def test_weights_that_are_not_c_contiguous_are_not_folded(folds: list[Conv2D]) -> None:
    net = network(True)
    net.layers[2].weights = np.asfortranarray(net.layers[2].weights)
    net.forward(X)
    assert not folds


def test_it_can_be_switched_off(folds: list[Conv2D]) -> None:
    for net in (network(False), network(False).with_parameters(network(True).parameters())):
        passes(net)
        net.update_params()
        net.predict(X)
    assert not folds


# --- arrays --------------------------------------------------------------------------------------


def arrays_in(thing: object, seen: set[int]) -> Iterable[Array]:
    """Yield every array that can be reached from `thing`."""
    if isinstance(thing, np.ndarray):
        yield thing
    elif isinstance(thing, dict):
        yield from arrays_in([*thing.keys(), *thing.values()], seen)
    elif isinstance(thing, list | tuple):
        for item in thing:
            yield from arrays_in(item, seen)
    elif isinstance(thing, Network | Layer | FoldedGradient) and id(thing) not in seen:
        seen.add(id(thing))
        yield from arrays_in(vars(thing), seen)


@pytest.mark.parametrize("given", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("make", [network, behind_another_convolution])
def test_float32_stays_float32(
    monkeypatch: pytest.MonkeyPatch,
    folds: list[Conv2D],
    given: type,
    make: Callable[[bool], Network],
) -> None:
    """In all that is returned, kept, or multiplied by another matrix."""
    multiplied: list[Array] = []
    matmul = np.matmul

    def spy(*factors: Array, out: Array) -> Array:
        multiplied.extend([*factors, out])
        return matmul(*factors, out=out)

    monkeypatch.setattr(np, "matmul", spy)
    net = make(True)
    for layer in net.layers:
        layer.learning_rate = np.float64(0.002)
        for name, parameter in layer.parameters().items():
            setattr(layer, name, parameter.astype(np.float32))
    x, y = np.abs(X).astype(given), Y.astype(given)
    for _ in range(2):
        y_pred = passes(net, x, y)
        reached = list(arrays_in(net, set()))
        assert len(reached) > 15
        net.update_params()
        results = [y_pred, net.predict_proba(x), *state(net), *reached, *multiplied]
        assert {a.dtype for a in results if a is not x and a.dtype != bool} == {np.dtype("f4")}
    assert folds


def test_float32_is_as_exact_as_float32_is(folds: list[Conv2D]) -> None:
    rounding = {"rtol": 1e-3, "atol": 1e-5}
    compare(
        folds,
        training(SMALL, 3, N, 20),
        lambda fold: network(fold, dtype=np.float32),
        rounding,
    )


def test_results_are_the_callers_own() -> None:
    """What one step returned is not written into by the next, nor is it part of anything else."""
    net = behind_another_convolution(True)
    seen, kept = [], []
    for step in range(3):
        x, y = batch(N + 5, seed=step)
        arrays = [passes(net, x, y), net.predict_proba(x), *net.gradients().values()]
        net.update_params()
        for array in arrays:
            others = [*seen, *net.parameters().values()]
            assert not any(np.shares_memory(array, other) for other in others)
            seen.append(array)
            kept.append(array.copy())
    for array, copied in zip(seen, kept, strict=True):
        np.testing.assert_array_equal(array, copied)


@pytest.mark.parametrize("make", [network, behind_another_convolution, two_pairs])
@pytest.mark.parametrize("spoil", ["gradients", "output"])
def test_results_may_be_overwritten(
    folds: list[Conv2D], spoil: str, make: Callable[[bool], Network]
) -> None:
    """What the caller does with a result is no concern of the next step."""

    def scenario(net: Network) -> Iterable[Array]:
        for step in range(3):
            x, y = batch(N, seed=step)
            y_pred = net.forward(x)
            dout = loss_gradient(y_pred, y)
            if spoil == "output":
                y_pred[...] = 9
            net.backward(dout)
            dout[...] = 9
            net.update_params()
            yield from state(net)
            if spoil == "gradients":
                for gradient in net.gradients().values():
                    gradient[...] = 9

    compare(folds, scenario, make)


@pytest.mark.parametrize("make", [network, behind_another_convolution, two_pairs])
def test_x_and_dout_are_never_written_into(
    folds: list[Conv2D], make: Callable[[bool], Network]
) -> None:
    net, x = make(True), X.copy()
    dout = loss_gradient(net.forward(x), Y)
    kept = dout.copy()
    x.flags.writeable = dout.flags.writeable = False
    net.forward(x)
    net.backward(dout)
    net.update_params()
    net.predict(x)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(dout, kept)
    assert folds


@pytest.mark.parametrize("spread", [np.asfortranarray, lambda x: np.repeat(x, 2, 3)[..., ::2]])
def test_images_may_lie_in_memory_as_they_like(
    folds: list[Conv2D], spread: Callable[[Array], Array]
) -> None:
    def scenario(net: Network) -> Iterable[Array]:
        yield passes(net, spread(X))
        yield from state(net)

    compare(folds, scenario)


@pytest.mark.parametrize("name", ["layer1.weights", "layer1.bias", "layer2.weights", "layer2.bias"])
def test_nan_in_a_parameter_shows(folds: list[Conv2D], name: str) -> None:
    net = network(True, last=True)
    y = batch(N, classes=4)[1]
    passes(net, X, y)
    net.parameters()[name].flat[-1] = np.nan
    y_pred = net.forward(X)
    assert np.isnan(y_pred).any(axis=1).all()  # in the output for every image
    net.backward(loss_gradient(y_pred, y))
    net.update_params()
    assert all(np.isnan(array).any() for array in net.parameters().values())
    assert folds


# --- copies --------------------------------------------------------------------------------------


def a_deep_copy(moment: str) -> Scenario:
    """Copy the network at some moment of a step; both go on from there, on different batches."""

    def scenario(net: Network) -> Iterable[Array]:
        twin = copy.deepcopy(net) if moment == "new" else net
        net.forward(X)
        twin = copy.deepcopy(net) if moment == "forward" else twin
        y_pred = net.forward(X)
        if moment == "forward":
            twin.backward(loss_gradient(y_pred, Y2))
            yield from state(twin)
        net.backward(loss_gradient(y_pred, Y))
        twin = copy.deepcopy(net) if moment == "backward" else twin
        net.update_params()
        if moment == "backward":
            twin.layers[2].learning_rate = 0.1
            twin.update_params()
            yield from state(twin)
        yield from state(net)
        twin = copy.deepcopy(net) if moment == "update" else twin
        edited(twin)
        for _ in range(2):
            yield passes(twin, X2, Y2)
            yield passes(net)
            twin.update_params()
            net.update_params()
            yield from (*state(twin), *state(net))

    return scenario


@pytest.mark.parametrize("make", [network, behind_another_convolution])
@pytest.mark.parametrize("moment", ["new", "forward", "backward", "update"])
def test_deep_copies_go_their_own_way(
    folds: list[Conv2D], moment: str, make: Callable[[bool], Network]
) -> None:
    compare(folds, a_deep_copy(moment), make)


def test_a_shallow_copy_shares_the_layers(folds: list[Conv2D]) -> None:
    def scenario(net: Network) -> Iterable[Array]:
        twin = copy.copy(net)
        passes(net)
        net.update_params()
        yield passes(twin, X2, Y2)
        yield from state(net)

    compare(folds, scenario)


def test_with_parameters_goes_its_own_way(folds: list[Conv2D]) -> None:
    def scenario(net: Network) -> Iterable[Array]:
        passes(net)
        twin = net.with_parameters({k: v / 2 for k, v in net.parameters().items()})
        y_pred = net.forward(X)
        yield passes(twin, X2, Y2)
        net.backward(loss_gradient(y_pred, Y))
        twin.update_params()
        yield from (*state(net), *state(twin))

    compare(folds, scenario)
