"""`train_step` and `predict_proba` with images split between threads, against literal calls.

Oracle: forward, backward and update_params of the same network, which test_layers.py and
test_network.py compare with loops. The fixture `parts` forces even small batches to be split and
counts the parts, so that no test compares the literal path with itself.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
from builders import close, compare, copies, filled_network, literal_step, random, refused

import handcnn.fast
from handcnn import Conv2D, HiddenLayer, InputLayer, MaxPool2D, Network, OutputLayer, ReLU
from handcnn.kernels import threads
from handcnn.kernels.threads import share, use_threads
from handcnn.layers import ParameterLayer
from handcnn.models import NETWORKS
from handcnn.types import Array, Shape

SHAPE = 2, 17, 16
CLASSES = 4
Make = Callable[..., Network]


def prepared(net: Network) -> Network:
    """Return the network with nonzero biases and a different learning rate for each layer."""
    trained = [layer for layer in net.layers if isinstance(layer, ParameterLayer)]
    for i, layer in enumerate(trained):
        layer.bias[...] = 0.3 * random(layer.bias.shape, i)
        layer.learning_rate = 0.01 / (i + 1)
    return net


def pooled(dtype: npt.DTypeLike = np.float64, relu: type[ReLU] = ReLU) -> Network:
    """Return a network with every kind of layer; the first one has no parameters."""
    layers = [
        InputLayer(),
        ReLU(),
        Conv2D(2, 3, 3, padding=1, dtype=dtype),
        MaxPool2D(3, 2),
        relu(),
        Conv2D(3, 4, 3, stride=2, dtype=dtype),
        MaxPool2D(2, 1),
        HiddenLayer(4 * 2 * 2, 5, dtype=dtype),
        OutputLayer(5, CLASSES, dtype=dtype),
    ]
    return prepared(filled_network(layers))


def dense(dtype: npt.DTypeLike = np.float64) -> Network:
    hidden = HiddenLayer(int(np.prod(SHAPE)), 6, dtype=dtype)
    return prepared(filled_network([hidden, OutputLayer(6, CLASSES, dtype=dtype)]))


def named(make: Make) -> Make:
    def made(dtype: npt.DTypeLike = np.float64) -> Network:
        rng = np.random.default_rng(0)
        return prepared(make(input_shape=SHAPE, classes=CLASSES, rng=rng, dtype=dtype))

    return made


MAKERS: dict[str, Make] = {
    "every layer": pooled,
    "dense": dense,
    **{name: named(make) for name, make in NETWORKS.items() if name != "documented"},  # is fused
}
every_network = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def batch(n: int, seed: int = 1) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, *SHAPE)), np.eye(CLASSES)[rng.integers(CLASSES, size=n)]


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Split even small batches; return a list of the numbers of parts."""
    counts: list[int] = []

    def counting(work: Callable[[slice], Any], length: int, multiplications: int) -> list[Any]:
        results = share(work, length, multiplications)
        counts.append(len(results))
        return results

    monkeypatch.setattr(handcnn.fast, "share", counting)
    with mock.patch.object(threads, "WAKING_COST", 1):
        yield counts


# --- the same numbers ----------------------------------------------------------------------------


@every_network
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_shared_step_is_the_three_calls(parts: list[int], make: Make, count: int, n: int) -> None:
    """Also with fewer images than threads."""
    net, by_hand = make(), make()
    with use_threads(count):
        for seed in range(2):
            close(net.train_step(*batch(n, seed)), literal_step(by_hand, *batch(n, seed)))
            compare(net.parameters(), by_hand.parameters())
        close(net.predict_proba(batch(n)[0]), by_hand.forward(batch(n)[0]))
    assert parts == [min(count, n)] * 3


@every_network
def test_float32_is_as_exact_as_float32_is(parts: list[int], make: Make) -> None:
    """Nothing becomes float64, although images and labels are float64."""
    net, by_hand, (x, y) = make(np.float32), make(np.float32), batch(9)
    with use_threads(2):
        y_pred = net.train_step(x, y)
    close(y_pred, literal_step(by_hand, x, y), 1e-5)
    compare(net.parameters(), by_hand.parameters(), 1e-5)
    assert {array.dtype.name for array in (y_pred, *net.parameters().values())} == {"float32"}
    assert parts == [2]


@pytest.mark.parametrize("count", [2, 3])
def test_the_same_number_of_threads_gives_the_same_bits(parts: list[int], count: int) -> None:
    ends = []
    for _ in range(2):
        net = pooled()
        with use_threads(count):
            y_preds = [net.train_step(*batch(11, seed)) for seed in range(3)]
        ends.append([*y_preds, *net.parameters().values()])
    for a, b in zip(*ends, strict=True):
        np.testing.assert_array_equal(a, b)
    assert set(parts) == {count}


def test_images_in_another_order_of_memory(parts: list[int]) -> None:
    net, by_hand, (x, y) = pooled(), pooled(), batch(6)
    rearranged = np.asfortranarray(x), np.repeat(x, 2, axis=3)[..., ::2], x[::-1]
    with use_threads(2):
        for images in rearranged:
            close(net.train_step(images, y), literal_step(by_hand, images, y))
    compare(net.parameters(), by_hand.parameters())
    assert parts == [2] * 3


@pytest.mark.parametrize("index", [2, 8])
def test_a_bias_of_another_dtype_than_the_weights(parts: list[int], index: int) -> None:
    """It is converted once, before the threads start, and the converted array is updated."""
    ends, (x, y) = [], batch(9)
    for step in (Network.train_step, literal_step):
        net = pooled(np.float32)
        layer = net.layers[index]
        assert isinstance(layer, ParameterLayer)
        layer.bias = layer.bias.astype(np.float64)
        before = layer.bias.copy()
        with use_threads(3):
            for _ in range(2):
                step(net, x, y)
        assert layer.bias.dtype == np.float32
        assert (layer.bias != before).all()
        ends.append(net.parameters())
    compare(ends[0], ends[1], 1e-5)
    assert set(parts) == {3}


# --- what is left behind -------------------------------------------------------------------------


def test_a_step_leaves_nothing_on_the_layers_and_writes_into_nothing(parts: list[int]) -> None:
    net, (x, y) = pooled(), batch(5)
    before = [dict(vars(layer)) for layer in net.layers]
    arrays = net.parameters()
    x.flags.writeable = y.flags.writeable = False
    with use_threads(2):
        y_pred = net.train_step(x, y)
        kept = y_pred.copy()
        net.train_step(x, y)
        net.predict_proba(x)
    for layer, attributes in zip(net.layers, before, strict=True):
        assert vars(layer).keys() == attributes.keys()
        assert all(vars(layer)[name] is value for name, value in attributes.items())
    assert all(net.parameters()[name] is array for name, array in arrays.items())
    np.testing.assert_array_equal(y_pred, kept)
    assert parts == [2] * 3


def test_a_step_between_forward_and_backward_does_not_disturb_them(parts: list[int]) -> None:
    net, by_hand, (x, y), (other, labels) = pooled(), pooled(), batch(5), batch(7, seed=2)
    for layer in (*net.layers, *by_hand.layers):
        if isinstance(layer, ParameterLayer):
            layer.learning_rate = 0.0  # so that the step in between changes no weights
    y_pred = net.forward(x)
    with use_threads(2):
        net.train_step(other, labels)
        net.predict_proba(other)
    net.backward(y_pred - y)
    by_hand.backward(by_hand.forward(x) - y)
    compare(net.gradients(), by_hand.gradients(), rounding=0)
    assert parts == [2, 2]


# --- custom layers -------------------------------------------------------------------------------


class Counting(ReLU):
    """A layer with its own state from step to step."""

    def forward(self, x: Array) -> Array:
        self.seen: list[tuple[int, int]] = [*getattr(self, "seen", []), (id(self), len(x))]
        return super().forward(x)


def test_a_layer_of_ones_own_is_never_copied_nor_its_images_shared(parts: list[int]) -> None:
    """It may depend on the whole batch, so it runs itself, with all images, in this thread."""
    net, by_hand, (x, y) = pooled(relu=Counting), pooled(), batch(7)
    layer = net.layers[4]
    assert isinstance(layer, Counting)
    with use_threads(3):
        for _ in range(2):
            np.testing.assert_array_equal(net.train_step(x, y), literal_step(by_hand, x, y))
    assert layer.seen == [(id(layer), 7)] * 2
    assert layer.x.shape[0] == 7
    compare(net.parameters(), by_hand.parameters(), rounding=0)
    compare(net.gradients(), by_hand.gradients(), rounding=0)
    assert not parts


def test_a_prediction_does_not_disturb_a_layer_of_ones_own(parts: list[int]) -> None:
    net, (x, _) = pooled(relu=Counting), batch(7)
    with use_threads(3):
        close(net.predict_proba(x), pooled().forward(x))
    assert not hasattr(net.layers[4], "seen")
    assert not parts


# --- when something is wrong ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (5, (4, 4), "train_step expects a row of labels for each image, got 5 images and 4 rows"),
        (5, (6, 4), "train_step expects a row of labels for each image, got 5 images and 6 rows"),
        (1, (64, 4), "train_step expects a row of labels for each image, got 1 images and 64 rows"),
        (
            4,
            (4, 3),
            "loss_gradient expects y_pred and one-hot y_true of the same shape (N, K), "
            "got (2, 4) and (2, 3); make labels one-hot with numpy.eye(K)[labels]",
        ),
        (
            0,
            (0, 4),
            "loss_gradient expects y_pred and one-hot y_true of the same shape (N, K), "
            "got (0, 4) and (0, 4); make labels one-hot with numpy.eye(K)[labels]",
        ),
    ],
)
@pytest.mark.usefixtures("parts")
def test_labels_that_do_not_fit_are_refused(images: int, labels: Shape, message: str) -> None:
    net = pooled()
    before = copies(net.parameters())
    with use_threads(2):
        assert refused(lambda: net.train_step(batch(images)[0], np.zeros(labels))) == message
    compare(net.parameters(), before, rounding=0)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("method", ["forward", "backward"])
@pytest.mark.parametrize("place", ["here", "there"])
def test_a_step_that_fails_in_any_thread_leaves_the_parameters_alone(
    parts: list[int],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    method: str,
    error: type[BaseException],
) -> None:
    """The next step works normally."""
    net, by_hand, (x, y) = pooled(), pooled(), batch(6)
    original, here = getattr(Conv2D, method), threading.get_ident()

    def failing(self: Conv2D, array: Array) -> Array:
        if (threading.get_ident() == here) == (place == "here"):
            raise error
        result: Array = original(self, array)
        return result

    with use_threads(2):
        with monkeypatch.context() as patch:
            patch.setattr(Conv2D, method, failing)
            with pytest.raises(error):
                net.train_step(x, y)
        compare(net.parameters(), by_hand.parameters(), rounding=0)
        close(net.train_step(x, y), literal_step(by_hand, x, y))
    compare(net.parameters(), by_hand.parameters())
    assert parts == [2]


def test_a_parameter_that_cannot_be_written_is_named_before_anything_changes() -> None:
    net = pooled()
    before = copies(net.parameters())
    net.parameters()["layer7.bias"].flags.writeable = False
    assert refused(lambda: net.train_step(*batch(6))) == (
        "layer7.bias is a read-only array; assign a copy of it to train it"
    )
    compare(net.parameters(), before, rounding=0)
