"""Networks by name, each with the recipe that trains it well."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import ceil, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from handcnn.layers import (
    Conv2D,
    HiddenLayer,
    InputLayer,
    Layer,
    MaxPool2D,
    OutputLayer,
    ParameterLayer,
    ReLU,
)
from handcnn.layers.layer import STANDARD_DEVIATION
from handcnn.network import Network
from handcnn.types import Shape

# The epochs of the recipes are for this many training images: MNIST's 60,000 without 5,000 that
# validate. With fewer images an epoch has fewer steps, and a training at least this many.
USUAL_IMAGES = 55_000
MIN_STEPS = 2000
# A trained network needs fewer and smaller steps: docs/fine-tuning.md says how that was found.
FINE_TUNING_STEPS = 300
GENTLER = 0.1


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: the defaults of the train.py options with these names.

    Attributes:
        epochs: passes over the training images, at least; see `for_images`.
        batch_size: images per step.
        learning_rate: the largest rate of the schedule, for the gradient of the summed loss.
        schedule: a name in `handcnn.schedule.SCHEDULES`.
        augment: a name in `handcnn.augmentation.AUGMENTATIONS`.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str
    augment: str

    def steps(self, images: int) -> int:
        """Return the number of steps in an epoch of so many training images."""
        return ceil(images / self.batch_size)

    def for_images(self, images: int, least: int = MIN_STEPS) -> "Recipe":
        """Return the recipe for so many training images: few of them need more epochs.

        Args:
            images: the number of training images.
            least: the number of steps that a training of few images has at least.
        """
        if images >= USUAL_IMAGES:
            return self
        epochs = ceil(least / self.steps(images))
        return replace(self, epochs=max(self.epochs, epochs))

    def fine_tuning(self) -> "Recipe":
        """Return the recipe for a network that was trained before."""
        return replace(self, learning_rate=self.learning_rate * GENTLER)


RECIPES = {
    "documented": Recipe(20, 64, 0.001, "constant", "none"),
    "lenet": Recipe(2, 64, 0.0045, "one-cycle", "handwriting"),
    "deep": Recipe(30, 64, 0.0016, "cosine", "handwriting"),
}
# What differs for images that are no digits. What distorts digits costs accuracy there: two epochs
# of `lenet` on Fashion-MNIST give 85.9 % with it and 88.5 % without. Clothes are also harder than
# digits, so two epochs are too few.
OTHER_IMAGES: dict[str, dict[str, Any]] = {
    "lenet": {"epochs": 10, "augment": "none"},
    "deep": {"augment": "none"},
}


def recipe_for(network: str, preparation: str) -> Recipe:
    """Return the recipe of a network for images that are prepared as "digits" or "whole"."""
    changes = {} if preparation == "digits" else OTHER_IMAGES.get(network, {})
    return replace(RECIPES[network], **changes)


def documented_network(
    learning_rate: float = RECIPES["documented"].learning_rate,
    *,
    input_shape: Shape = (1, 28, 28),
    classes: int = 10,
    rng: np.random.Generator | None = None,
    dtype: npt.DTypeLike = np.float32,
) -> Network:
    """Return the documented network: one convolution and a hidden layer.

    Args:
        learning_rate: of every layer.
        input_shape: (C, H, W) of one image.
        classes: K, the number of outputs.
        rng: source of the initial weights; the same generator gives the same network.
        dtype: of the parameters; `numpy.float64` for gradient checks.
    """
    C, H, W = input_shape
    settings = _settings(learning_rate, rng, dtype)
    layers = [
        InputLayer(),
        Conv2D(C, 32, 3, padding=1, **settings),
        HiddenLayer(32 * H * W, 64, **settings),
        OutputLayer(64, classes, **settings),
    ]
    return Network(layers, input_shape)


def lenet(
    learning_rate: float = RECIPES["lenet"].learning_rate,
    *,
    input_shape: Shape = (1, 28, 28),
    classes: int = 10,
    rng: np.random.Generator | None = None,
    dtype: npt.DTypeLike = np.float32,
) -> Network:
    """Return two 5x5 convolutions with pooling, after LeNet-5 (LeCun et al., 1998).

    The arguments are those of `documented_network`. Each pooling comes before its ReLU, which
    gives the same result with a quarter of the work.
    """
    settings = _settings(learning_rate, rng, dtype)
    features: list[Layer] = [
        InputLayer(),
        Conv2D(input_shape[0], 16, 5, **settings),
        MaxPool2D(2),
        ReLU(),
        Conv2D(16, 32, 5, **settings),
        MaxPool2D(2),
        ReLU(),
    ]
    return _with_dense_layers(features, 128, classes, input_shape, settings)


def deep(
    learning_rate: float = RECIPES["deep"].learning_rate,
    *,
    input_shape: Shape = (1, 28, 28),
    classes: int = 10,
    rng: np.random.Generator | None = None,
    dtype: npt.DTypeLike = np.float32,
) -> Network:
    """Return six 3x3 convolutions in pairs with pooling, after VGG (Simonyan, Zisserman, 2014).

    The arguments are those of `documented_network`.
    """
    settings = _settings(learning_rate, rng, dtype)
    features: list[Layer] = [InputLayer()]
    channels = input_shape[0]
    for filters in (16, 32, 64):
        features += [
            Conv2D(channels, filters, 3, padding=1, **settings),
            ReLU(),
            Conv2D(filters, filters, 3, padding=1, **settings),
            MaxPool2D(2),
            ReLU(),
        ]
        channels = filters
    return _with_dense_layers(features, 128, classes, input_shape, settings)


# Arguments of layers that follow from the images and the learning rate.
IMPLIED = {"in_channels", "input_size", "learning_rate"}

# Every network by name. All take the arguments of `documented_network`.
NETWORKS: dict[str, Callable[..., Network]] = {
    "documented": documented_network,
    "lenet": lenet,
    "deep": deep,
}


def network_name(net: Network) -> str | None:
    """Return the name of a network in `NETWORKS`, for any images and classes; None for others."""
    return next((name for name in NETWORKS if _outline(net) == _named_outline(name)), None)


@cache
def smallest_side(name: str) -> int:
    """Return the height and width of the smallest images for the network of this name."""
    side = 1
    while True:
        try:
            NETWORKS[name](input_shape=(1, side, side))
            return side
        except ValueError:
            side += 1


@cache
def _named_outline(name: str) -> list[dict[str, Any]]:
    return _outline(NETWORKS[name]())


def _outline(net: Network) -> list[dict[str, Any]]:
    """Return the layers without what follows from the images, the classes and the options.

    Networks are compared by it and not by building the named one for the same images, whose weights
    may need gigabytes.
    """
    outline = [{"class": type(layer).__name__, **layer.config()} for layer in net.layers]
    outline[-1].pop("output_size", None)
    return [
        {name: value for name, value in layer.items() if name not in IMPLIED} for layer in outline
    ]


def _settings(
    learning_rate: float, rng: np.random.Generator | None, dtype: npt.DTypeLike
) -> dict[str, Any]:
    """Return the arguments shared by all layers of a network."""
    rng = np.random.default_rng(rng)  # of a number, too
    return {"learning_rate": learning_rate, "rng": rng, "dtype": dtype}


def _with_dense_layers(
    features: Sequence[Layer],
    units: int,
    classes: int,
    input_shape: Shape,
    settings: dict[str, Any],
) -> Network:
    """Return a network of `features`, a hidden and an output layer, all with He initialisation."""
    shape = input_shape
    for layer in features:
        shape = layer.output_shape(shape)
    layers = [
        *features,
        HiddenLayer(prod(shape), units, **settings),
        OutputLayer(units, classes, **settings),
    ]
    for layer in layers:
        if isinstance(layer, ParameterLayer):
            _initialise_he(layer)
    return Network(layers, input_shape)


def _initialise_he(layer: ParameterLayer) -> None:
    """Give the weights a variance of 2 / (inputs of a unit), so that signals keep their size.

    He et al., 2015, section 2.2: a ReLU halves the variance, and the 2 makes up for it.
    """
    inputs = prod(layer.weights.shape[1:]) if layer.weights.ndim == 4 else len(layer.weights)
    layer.weights *= layer.weights.dtype.type(np.sqrt(2 / inputs) / STANDARD_DEVIATION)
