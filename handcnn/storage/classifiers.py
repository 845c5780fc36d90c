"""Networks with named classes: the weights files that train.py and CNNClassifier exchange.

Both save the names of the classes in the metadata (`classes`), for people, and how the
images were prepared (`preparation`, `background`). CNNClassifier also saves the labels that it was
fitted with (`labels`) and the divisor of the images (`scale`).
"""

import os
import re
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from handcnn.layers import OutputLayer
from handcnn.network import Network
from handcnn.preparation import BACKGROUNDS, PREPARATIONS, Preparation, usual_preparation
from handcnn.storage.files import unusable
from handcnn.storage.networks import READER, read_weights
from handcnn.text import one_line
from handcnn.types import Array, Shape

BYTE_SCALE = 255.0  # train.py divides by it


@dataclass(frozen=True)
class SavedNetwork:
    """A network from a weights file. It turns images into probabilities.

    Attributes:
        path: the file.
        net: the network.
        image_shape: (C, H, W) of an image.
        class_names: the name of each class on one line, or its number if the file holds no names.
        preparation: how its training images were prepared.
        metadata: everything else in the file.
    """

    path: Path
    net: Network
    image_shape: Shape
    class_names: list[str]
    preparation: Preparation
    metadata: dict[str, Any]

    @property
    def origin(self) -> str:
        """The data set, epoch and accuracy recorded by train.py, or an empty string."""
        match self.metadata:
            case {"dataset": str(name), "epoch": int(epoch), "val_accuracy": float(accuracy)}:
                return one_line(f"{name}, epoch {epoch}, {100 * accuracy:.2f} % on validation")
        return ""

    def __str__(self) -> str:
        """Return the path and the origin on one line; the path only if the user knows it."""
        place = "those that come with handcnn" if self.path == READER else one_line(self.path)
        return f"{place}{self.origin and f' ({self.origin})'}"


def read_saved_network(path: str | os.PathLike[str]) -> SavedNetwork:
    """Return the network in the weights file at `path`, whoever wrote it.

    Raises:
        HandcnnError: the file cannot be used, or its network does not turn images (C, H, W) into
            probabilities.
    """
    net, metadata = read_weights(path)
    shape, output = net.input_shape, net.layers[-1]
    if shape is None or len(shape) != 3:
        raise unusable(path, f"its network takes inputs of shape {shape}, not images (C, H, W)")
    if not isinstance(output, OutputLayer):
        raise unusable(
            path, f"its network gives no probabilities: its last layer is {output}, no OutputLayer"
        )
    names = _class_names(metadata.get("classes"), output.output_size)
    return SavedNetwork(
        Path(path), net, shape, names, _preparation(path, metadata, names), metadata
    )


def _preparation(
    path: str | os.PathLike[str], metadata: dict[str, Any], class_names: list[str]
) -> Preparation:
    """Return the preparation in a file. Older files do not say it.

    Raises:
        HandcnnError: the file names one that is unknown here.
    """
    preparation = Preparation(
        metadata.get("preparation", usual_preparation(class_names)),
        metadata.get("background", "dark"),
    )
    for value, known in zip(preparation, (PREPARATIONS, BACKGROUNDS), strict=True):
        if value not in known:
            raise unusable(
                path,
                f"its images were prepared in an unknown way, {one_line(value)!r}, not one of "
                f"{', '.join(known)}",
            )
    return preparation


def _class_names(saved: Any, count: int) -> list[str]:
    match saved:
        case [*names] if len(names) == count and all(isinstance(name, str) for name in names):
            return [one_line(name) for name in names]
    return [str(number) for number in range(count)]


def write_classifier(
    path: str | os.PathLike[str],
    net: Network,
    labels: Array,
    scale: float,
    preparation: Preparation,
    epochs: int,
) -> None:
    """Write a classifier to `path`. The errors are those of `Network.save`."""
    names = [str(label) for label in labels.tolist()]
    net.save(
        path,
        classes=names,
        labels=labels.tolist(),
        scale=scale,
        preparation=preparation.name,
        background=preparation.background,
        epoch=epochs,
    )


def read_classifier(path: str | os.PathLike[str]) -> tuple[SavedNetwork, Array, float]:
    """Return what `write_classifier` or train.py wrote to `path`: network, labels and scale.

    The labels (K,) are sorted. If the outputs of the network were not, they are reordered. The
    labels of train.py are the names of the classes, as ints if all of them are whole numbers.

    Raises:
        HandcnnError: the file cannot be used.
    """
    saved = read_saved_network(path)
    metadata, count = saved.metadata, len(saved.class_names)
    labels = metadata.get("labels", _as_labels(metadata.get("classes", list(range(count)))))
    scale = metadata.get("scale", BYTE_SCALE)
    if not _are_labels(labels) or len(set(labels)) != count or len(labels) != count:
        raise unusable(path, "it does not hold a label for each class")
    if type(scale) is not float or not isfinite(scale) or scale < 1:
        raise unusable(path, f"it divides images by {scale!r}")
    order, output = np.argsort(labels), saved.net.layers[-1]
    if order.tolist() != list(range(count)):
        assert isinstance(output, OutputLayer)  # read_saved_network has checked
        output.weights = np.take(output.weights, order, axis=1)
        output.bias = np.take(output.bias, order, axis=1)
    names = [saved.class_names[k] for k in order]
    return replace(saved, class_names=names), np.array(labels)[order], scale


def _as_labels(names: Any) -> Any:
    """Return names as ints if all are whole numbers, written as Python would write them."""
    whole = re.compile("0|-?[1-9][0-9]{0,17}")
    if isinstance(names, list) and all(isinstance(n, str) and whole.fullmatch(n) for n in names):
        return [int(name) for name in names]
    return names


def _are_labels(labels: Any) -> bool:
    """Return whether these are all numbers or all texts."""
    kinds = {type(label) for label in labels} if isinstance(labels, list) else set()
    return len(kinds) == 1 and kinds < {bool, int, float, str}
