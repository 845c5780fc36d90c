"""Networks with named classes: files that train.py and CNNClassifier exchange.

Both save the names of the classes in the metadata (`classes`), for people. CNNClassifier also saves
the labels that it was fitted with (`labels`) and the divisor of the images (`scale`).
"""

import os
from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from handcnn.layers import OutputLayer
from handcnn.network import Network
from handcnn.storage.archive import unusable
from handcnn.storage.networks import read_weights
from handcnn.types import Array, Shape

BYTES = 255.0  # train.py divides by it


class Classifier(NamedTuple):
    """The content of a file.

    Attributes:
        net: a network for images.
        image_shape: (C, H, W) of an image.
        labels: the label of each output, sorted.
        scale: the divisor of the images.
        epochs: number of epochs trained.
    """

    net: Network
    image_shape: Shape
    labels: Array
    scale: float
    epochs: int


def write_classifier(
    path: str | os.PathLike[str], net: Network, labels: Array, scale: float, epochs: int
) -> None:
    """Write a classifier to `path`. The errors are those of `Network.save`."""
    names = [str(label) for label in labels.tolist()]
    net.save(path, classes=names, labels=labels.tolist(), scale=scale, epoch=epochs)


def read_classifier(path: str | os.PathLike[str]) -> Classifier:
    """Return the classifier that `write_classifier` or train.py wrote to `path`.

    If the outputs are not in the order of the sorted labels, they are reordered.

    Raises:
        HandcnnError: the file cannot be used.
    """
    net, metadata = read_weights(path)
    output = net.layers[-1]
    if net.input_shape is None or len(net.input_shape) != 3 or not isinstance(output, OutputLayer):
        raise unusable(path, "its network does not turn images into classes")
    classes = output.output_size
    labels = metadata.get("labels", metadata.get("classes", list(range(classes))))
    scale, epochs = metadata.get("scale", BYTES), metadata.get("epoch")
    if not _are_labels(labels) or len(set(labels)) != classes or len(labels) != classes:
        raise unusable(path, "it does not hold a label for each class")
    if type(scale) is not float or not isfinite(scale) or scale < 1:
        raise unusable(path, f"it divides images by {scale!r}")
    order = np.argsort(labels)
    if order.tolist() != list(range(classes)):
        output.weights = np.take(output.weights, order, axis=1)
        output.bias = np.take(output.bias, order, axis=1)
    epochs = epochs if type(epochs) is int else 0
    return Classifier(net, net.input_shape, np.array(labels)[order], scale, epochs)


def _are_labels(labels: Any) -> bool:
    """Return whether these are all numbers or all texts."""
    kinds = {type(label) for label in labels} if isinstance(labels, list) else set()
    return len(kinds) == 1 and kinds < {bool, int, float, str}
