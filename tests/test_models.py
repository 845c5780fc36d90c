"""Named networks and their recipes. test_network.py tests the documented network.

Oracles: shapes and parameters counted by hand; finite differences; the variance derived by He et
al., within the sampling error; the options of train.py.
"""

import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, fields, replace
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from builders import close, compare, refused

from app.options import Options, flag, parse
from handcnn import Network, load_network, loss_gradient
from handcnn.augmentation import AUGMENTATIONS
from handcnn.estimator import CNNClassifier
from handcnn.gradient_check import check_gradients
from handcnn.layers import (
    Conv2D,
    HiddenLayer,
    Layer,
    MaxPool2D,
    OutputLayer,
    ParameterLayer,
    ReLU,
)
from handcnn.models import NETWORKS, RECIPES, network_name
from handcnn.schedule import SCHEDULES
from handcnn.types import Array, Shape

every_network = pytest.mark.parametrize("name", NETWORKS)
except_documented = pytest.mark.parametrize("name", [n for n in NETWORKS if n != "documented"])


def smallest(name: str) -> int:
    """Return the side of the smallest images for which this network can be made."""
    for side in range(1, 28):
        with suppress(ValueError):
            NETWORKS[name](input_shape=(1, side, side))
            return side
    return 28


def made(name: str, shape: Shape = (1, 17, 20), classes: int = 3, **extras: object) -> Network:
    rng = np.random.default_rng(0)
    return NETWORKS[name](input_shape=shape, classes=classes, rng=rng, **extras)


def batch(n: int, shape: Shape = (1, 17, 20), classes: int = 3) -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    return rng.random((n, *shape)), np.eye(classes)[rng.integers(classes, size=n)]


# --- images of other shapes ----------------------------------------------------------------------


@every_network
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("n", "channels", "more", "classes"),
    [(1, 1, (0, 0), 2), (2, 3, (1, 6), 7), (3, 2, (13, 0), 10), (2, 1, (12, 12), 1)],
)
def test_any_images_and_classes(
    name: str, n: int, channels: int, more: Shape, classes: int, dtype: npt.DTypeLike
) -> None:
    shape = channels, *(smallest(name) + pixels for pixels in more)
    net, (x, y) = made(name, shape, classes, dtype=dtype), batch(n, shape, classes)
    y_pred = net.forward(x)
    net.backward(loss_gradient(y_pred, y))
    assert y_pred.shape == (n, classes)
    close(y_pred.sum(axis=1), np.ones(n), 1e-6)
    for parameter, gradient in zip(
        net.parameters().values(), net.gradients().values(), strict=True
    ):
        assert gradient.shape == parameter.shape
        assert gradient.dtype == parameter.dtype == dtype
        assert np.isfinite(gradient).all()
        assert gradient.any() == (classes > 1)  # one class is always right
    dx = loss_gradient(y_pred, y)
    for layer in reversed(net.layers):
        dx = layer.backward(dx)
    assert dx.shape == x.shape


@pytest.mark.parametrize(
    ("name", "side", "message"),
    [
        (
            *("lenet", 16),
            "MaxPool2D(2x2) expects images of at least 2 x 2 pixels, got (N, 32, 1, 2); "
            "use smaller windows or pool less often",
        ),
        (
            *("deep", 8),
            "MaxPool2D(2x2) expects images of at least 2 x 2 pixels, got (N, 64, 1, 2); "
            "use smaller windows or pool less often",
        ),
    ],
)
def test_images_that_are_too_small(name: str, side: int, message: str) -> None:
    assert smallest(name) == side  # leaves one pixel at the end
    assert refused(lambda: NETWORKS[name](input_shape=(1, side - 1, side))) == message


# --- their gradients, tables and files -----------------------------------------------------------


@except_documented  # whose gradients are tested in test_network.py, and are tiny here
def test_every_gradient_agrees_with_finite_differences(name: str) -> None:
    """On small images; otherwise a step of 1e-6 would move one of many numbers across a kink."""
    shape = 2, smallest(name) + 1, smallest(name)
    net, (x, y) = made(name, shape, dtype=np.float64), batch(3, shape)
    for check in check_gradients(net, x, y, np.random.default_rng(0)):
        assert check.error < 1e-7, check


def test_they_print_themselves_as_tables() -> None:
    # 16*1*5*5 + 16 = 416; 32*16*5*5 + 32 = 12,832; 512*128 + 128 = 65,664; 128*10 + 10 = 1,290
    assert str(NETWORKS["lenet"]()) == (
        "layer                    output           parameters\n"
        "InputLayer()             (N, 1, 28, 28)            0\n"
        "Conv2D(1 -> 16, 5x5)     (N, 16, 24, 24)         416\n"
        "MaxPool2D(2x2)           (N, 16, 12, 12)           0\n"
        "ReLU()                   (N, 16, 12, 12)           0\n"
        "Conv2D(16 -> 32, 5x5)    (N, 32, 8, 8)        12,832\n"
        "MaxPool2D(2x2)           (N, 32, 4, 4)             0\n"
        "ReLU()                   (N, 32, 4, 4)             0\n"
        "HiddenLayer(512 -> 128)  (N, 128)             65,664\n"
        "OutputLayer(128 -> 10)   (N, 10)               1,290\n"
        "total                                         80,202"
    )
    # 16*1*9 + 16 = 160; 16*16*9 + 16 = 2,320; 32*16*9 + 32 = 4,640; 32*32*9 + 32 = 9,248;
    # 64*32*9 + 64 = 18,496; 64*64*9 + 64 = 36,928; 576*128 + 128 = 73,856; 128*10 + 10 = 1,290
    assert str(NETWORKS["deep"]()) == (
        "layer                             output           parameters\n"
        "InputLayer()                      (N, 1, 28, 28)            0\n"
        "Conv2D(1 -> 16, 3x3, padding 1)   (N, 16, 28, 28)         160\n"
        "ReLU()                            (N, 16, 28, 28)           0\n"
        "Conv2D(16 -> 16, 3x3, padding 1)  (N, 16, 28, 28)       2,320\n"
        "MaxPool2D(2x2)                    (N, 16, 14, 14)           0\n"
        "ReLU()                            (N, 16, 14, 14)           0\n"
        "Conv2D(16 -> 32, 3x3, padding 1)  (N, 32, 14, 14)       4,640\n"
        "ReLU()                            (N, 32, 14, 14)           0\n"
        "Conv2D(32 -> 32, 3x3, padding 1)  (N, 32, 14, 14)       9,248\n"
        "MaxPool2D(2x2)                    (N, 32, 7, 7)             0\n"
        "ReLU()                            (N, 32, 7, 7)             0\n"
        "Conv2D(32 -> 64, 3x3, padding 1)  (N, 64, 7, 7)        18,496\n"
        "ReLU()                            (N, 64, 7, 7)             0\n"
        "Conv2D(64 -> 64, 3x3, padding 1)  (N, 64, 7, 7)        36,928\n"
        "MaxPool2D(2x2)                    (N, 64, 3, 3)             0\n"
        "ReLU()                            (N, 64, 3, 3)             0\n"
        "HiddenLayer(576 -> 128)           (N, 128)             73,856\n"
        "OutputLayer(128 -> 10)            (N, 10)               1,290\n"
        "total                                                 146,938"
    )


@every_network
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_saved_is_what_is_loaded(name: str, dtype: npt.DTypeLike, tmp_path: Path) -> None:
    net, (x, _) = made(name, learning_rate=0.125, dtype=dtype), batch(3)
    net.save(tmp_path / "weights.npz")
    loaded = load_network(tmp_path / "weights.npz")
    assert loaded.architecture() == net.architecture()
    assert str(loaded) == str(net)
    compare(loaded.parameters(), net.parameters(), rounding=0)
    np.testing.assert_array_equal(loaded.predict_proba(x), net.predict_proba(x))


@every_network
@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 130])
def test_predictions_of_any_number_of_images(name: str, n: int) -> None:
    net, (x, _) = made(name, dtype=np.float64), batch(n)
    probabilities = net.predict_proba(x)
    assert probabilities.shape == (n, 3)
    close(probabilities, net.forward(x), 1e-12)
    np.testing.assert_array_equal(net.predict(x), probabilities.argmax(axis=1))


# --- initial weights -----------------------------------------------------------------------------


def variances(name: str, networks: int) -> list[tuple[float, float]]:
    """Return for every layer the variance of its initial weights times its inputs, and the error.

    The inputs of a unit are all numbers that contribute to one number of the output. The relative
    standard error of the variance of n normal numbers is sqrt(2/n).
    """
    found = []
    nets = [NETWORKS[name](rng=np.random.default_rng(seed)) for seed in range(networks)]
    for layers in zip(*(net.layers for net in nets), strict=True):
        if isinstance(layers[0], ParameterLayer):
            weights = np.stack([layer.weights.astype(np.float64) for layer in layers])
            shape = weights.shape[1:]
            inputs = prod(shape[1:]) if len(shape) == 4 else shape[0]
            found.append((inputs * (weights**2).mean(), (2 / weights.size) ** 0.5))
            assert not any(layer.bias.any() for layer in layers)
            mean = abs(weights.mean())
            assert mean < 4 * (weights.std() / weights.size**0.5)
    return found


@except_documented
def test_initial_weights_have_the_variance_of_he(name: str) -> None:
    """2 / inputs, within 4 standard errors (2 to 7 %). Without the 2 it would be 50 % off."""
    for variance, error in variances(name, networks=40):
        assert abs(variance / 2 - 1) < 4 * error < 0.08


def test_initial_weights_of_the_documented_network_are_the_documented_ones() -> None:
    inputs = 9, 25088, 64
    for (variance, error), count in zip(variances("documented", networks=1), inputs, strict=True):
        assert abs(variance / count / 0.01**2 - 1) < 4 * error < 0.4


@every_network
def test_the_same_generator_gives_the_same_network(name: str) -> None:
    compare(made(name).parameters(), made(name).parameters(), rounding=0)
    others = NETWORKS[name](input_shape=(1, 17, 20), classes=3)  # with its own random generator
    assert (
        others.parameters()["layer1.weights"] != made(name).parameters()["layer1.weights"]
    ).all()


# --- recipes -------------------------------------------------------------------------------------


def options(*words: str) -> Options:
    return parse(list(words), None).options


@every_network
def test_a_recipe_can_be_typed(name: str) -> None:
    """It is complete, and train.py accepts each of its values."""
    typed = [(flag(option), str(value)) for option, value in asdict(RECIPES[name]).items()]
    words = [word for pair in typed for word in pair]
    assert options("--network", name) == options(*words, "--network", name)
    assert options("--network", name).network == name


def test_every_network_has_a_recipe_and_the_default_is_the_documented_one() -> None:
    assert RECIPES.keys() == NETWORKS.keys()
    assert options() == options("--network", "documented") == Options()
    documented = RECIPES["documented"]
    assert (documented.batch_size, documented.learning_rate) == (64, 0.001)
    assert (documented.schedule, documented.augment) == ("constant", "none")


@every_network
def test_an_option_overrides_its_part_of_the_recipe_and_no_other(name: str) -> None:
    others = {
        "epochs": 7,
        "batch_size": 5,
        "learning_rate": 0.25,
        "schedule": next(other for other in SCHEDULES if other != RECIPES[name].schedule),
        "augment": next(other for other in AUGMENTATIONS if other != RECIPES[name].augment),
    }
    assert others.keys() == {entry.name for entry in fields(RECIPES[name])}
    recipe = options("--network", name)
    for option, value in others.items():
        found = options("--network", name, flag(option), str(value))
        assert found == replace(recipe, **{option: value}) != recipe  # type: ignore[arg-type]


@every_network
def test_the_learning_rate_of_a_network_is_that_of_its_recipe(name: str) -> None:
    for net, rate in (
        (NETWORKS[name](), RECIPES[name].learning_rate),
        (NETWORKS[name](0.5), 0.5),
        (NETWORKS[name](learning_rate=0.25), 0.25),
    ):
        layers = [layer for layer in net.layers if isinstance(layer, ParameterLayer)]
        assert {layer.learning_rate for layer in layers} == {rate}


# --- which network is this -----------------------------------------------------------------------


def largest_allocation(action: Callable[[], object]) -> int:
    """Return the most bytes that an action has allocated at once."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@every_network
def test_a_network_is_recognised_whatever_its_images_and_classes(name: str) -> None:
    for shape, classes in (((1, 28, 28), 10), ((3, 18, 21), 1), ((2, 40, 16), 4)):
        for dtype in (np.float32, np.float64):
            net = NETWORKS[name](0.5, input_shape=shape, classes=classes, dtype=dtype)
            assert network_name(net) == name


@every_network
def test_another_network_has_no_name(name: str) -> None:
    """Without one of its layers, or with one that is different in any one respect."""
    original = made(name).layers
    for position, layer in enumerate(original):
        for change in CHANGES:
            layers = [*original[:position], *change(layer), *original[position + 1 :]]
            assert network_name(Loose(layers)) is None, (position, layers)


CHANGES: list[Callable[[Layer], list[Layer]]] = [
    lambda layer: [],
    lambda layer: [layer, ReLU()],
    lambda layer: [Conv2D(layer.in_channels, 8, 3)] if isinstance(layer, Conv2D) else [],
    lambda layer: [Conv2D(layer.in_channels, 32, 4)] if isinstance(layer, Conv2D) else [],
    lambda layer: [Conv2D(layer.in_channels, 32, 3, 2, 1)] if isinstance(layer, Conv2D) else [],
    lambda layer: [Conv2D(layer.in_channels, 32, 3, 1, 2)] if isinstance(layer, Conv2D) else [],
    lambda layer: [MaxPool2D(2, 1)] if isinstance(layer, MaxPool2D) else [],
    lambda layer: [HiddenLayer(layer.input_size, 65)] if isinstance(layer, HiddenLayer) else [],
]


class Loose(Network):
    """A network whose layers need not fit."""

    def output_shapes(self) -> list[Shape | None]:
        return [None] * len(self.layers)


def test_a_network_for_large_images_is_recognised_without_its_like_being_built(
    tmp_path: Path,
) -> None:
    """Regression: a file of 2 kB took 3.5 GB, because networks for its images were built.

    One for 380x380 images has 296 million weights. Only those for 28x28 are built.
    """
    path = tmp_path / "weights.npz"
    net = Network([MaxPool2D(380), HiddenLayer(1, 2), OutputLayer(2, 10)], (1, 380, 380))
    net.save(path)
    assert path.stat().st_size < 4000
    assert largest_allocation(lambda: CNNClassifier.load(path)) < 50_000_000
