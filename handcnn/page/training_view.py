"""What the training page shows, as JSON values: figures, curves, and snapshots of the network.

These functions know nothing of threads: `watching` calls those that take the network between two
steps, and the others on what it has copied.
"""

from collections.abc import Mapping, Sequence
from math import ceil, isfinite
from typing import Any, NamedTuple

import numpy as np

from handcnn.layers import Layer, ParameterLayer
from handcnn.layers.sequence import copied, first_convolution, forward
from handcnn.network import Network
from handcnn.page.encoding import base64_text, levels
from handcnn.preparation import Preparation
from handcnn.training import confusion_matrix
from handcnn.types import Array

SAMPLE = 200_000  # weights of a layer whose size is taken for that of all
MAX_POINTS = 1000  # of a curve
SHOWN_COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")
MAX_CLASSES = 20  # of a confusion matrix that is legible


class Scene(NamedTuple):
    """What the page shows of the training as a whole, and what does not change.

    Attributes:
        epochs: of the whole training.
        steps: in an epoch.
        batch_size: images per step.
        past: the loss and accuracy of the steps taken before, (S, 2).
        done: the number of epochs trained before.
        images: fixed validation images, uint8 (n, H, W).
        labels: their classes.
        class_names: the name of each class.
        preparation: how the images were prepared.
        about: what the page shows at its top, as JSON values.
    """

    epochs: int
    steps: int
    batch_size: int
    past: Array
    done: int
    images: Array
    labels: Array
    class_names: Sequence[str]
    preparation: Preparation
    about: Mapping[str, Any]


def describe(net: Network, scene: Scene) -> dict[str, Any]:
    """Return what the page shows that does not change during the training."""
    layers = [
        {
            "index": i,
            "title": str(layer).replace("->", "\N{RIGHTWARDS ARROW}"),
            "kind": type(layer).__name__,
            "units": shape[0],
        }
        for i, (layer, shape) in enumerate(zip(net.layers, net.output_shapes(), strict=True))
        if isinstance(layer, ParameterLayer) and shape
    ]
    return {
        **scene.about,
        "classes": scene.class_names,
        "epochs": scene.epochs,
        "steps": scene.steps,
        "images": base64_text(scene.images),
        "labels": scene.labels.tolist(),
        "layers": layers,
    }


def snapshot(
    net: Network,
    scene: Scene,
    x: Array,
    recent: Sequence[tuple[Array, Array]],
    sizes: list[dict[str, float]],
) -> dict[str, Any]:
    """Return what the page shows of the network now. It needs `show` to become JSON values.

    Args:
        net: the network.
        scene: what does not change.
        x: its images as a batch.
        recent: the labels and the probabilities of the latest batches.
        sizes: from `sizes_of`.
    """
    y_pred = np.nan_to_num(net.predict_proba(x))
    first = first_convolution(net.layers)
    return {
        "answers": y_pred.argmax(axis=1).tolist(),
        "right": np.round(y_pred[np.arange(len(y_pred)), scene.labels], 4).tolist(),
        "front": [] if first is None else frozen(net.layers[: first + 1]),
        "confusion": _confusion(recent, len(scene.class_names)),
        "changes": sizes,
    }


def _confusion(recent: Sequence[tuple[Array, Array]], classes: int) -> list[list[int]]:
    if not recent or classes > MAX_CLASSES:
        return []
    pairs = zip(*recent, strict=True)
    y, y_pred = (np.concatenate(arrays).argmax(axis=1) for arrays in pairs)
    return [[int(count) for count in row] for row in confusion_matrix(y, y_pred, classes)]


def show(snapshot: Mapping[str, Any], image: Array) -> dict[str, Any]:
    """Return a snapshot as JSON values, with the maps of one image (1, 1, H, W)."""
    front: list[Layer] = snapshot["front"]
    shown = {name: value for name, value in snapshot.items() if name != "front"}
    if front:
        with np.errstate(all="ignore"):  # a training may diverge
            maps = forward(copied(front), image)[0]
            kernels = front[-1].parameters()["weights"].mean(axis=1)
            shown["kernels"] = base64_text(levels(kernels))
            shown["maps"] = base64_text(levels(maps, axis=(1, 2)))
        shown["sizes"] = [*kernels.shape, *maps.shape[1:]]
    return shown


def short_history(history: Sequence[Mapping[str, float]]) -> list[list[float]]:
    """Return some columns of the history; of very many rows, evenly chosen ones and the last."""
    rows = [*history]
    shown = rows[:: ceil(len(rows) / MAX_POINTS) or 1]
    if rows and shown[-1] is not rows[-1]:
        shown.append(rows[-1])
    return [[row[name] for name in SHOWN_COLUMNS] for row in shown]


def curves(losses: Array, accuracies: Array, first: int) -> dict[str, Any]:
    """Return the loss and the accuracy of every step, as at most MAX_POINTS points.

    Each point stands for `stride` steps: their smallest, mean and largest loss, and their mean
    accuracy. The steps are numbered from `first` + 1.
    """
    if not len(losses):
        return {"stride": 1, "first": first, "count": 0, "losses": "", "accuracies": ""}
    stride = max(1, ceil(len(losses) / MAX_POINTS))
    starts = np.arange(0, len(losses), stride)
    counts = np.diff([*starts, len(losses)])
    mean = np.add.reduceat(losses, starts) / counts
    low, high = (reduce.reduceat(losses, starts) for reduce in (np.minimum, np.maximum))
    accuracy = np.add.reduceat(accuracies, starts) / counts
    return {
        "stride": stride,
        "first": first,
        "count": len(losses),
        "losses": base64_text(np.array([low, mean, high], np.float32)),
        "accuracies": base64_text(accuracy.astype(np.float32)),
    }


def frozen(layers: Sequence[Layer]) -> list[Layer]:
    """Return copies of layers whose parameters are copies, too."""
    frozen = copied(layers)
    for layer in frozen:
        for name, parameter in layer.parameters().items():
            setattr(layer, name, parameter.copy())
    return frozen


def sampled(net: Network) -> dict[int, Array]:
    """Return copies of the weights of each layer, by index; of very many, evenly chosen rows."""
    weights = {
        i: layer.parameters()["weights"]
        for i, layer in enumerate(net.layers)
        if isinstance(layer, ParameterLayer)
    }
    return {i: array[:: ceil(array.size / SAMPLE)].copy() for i, array in weights.items()}


def sizes_of(
    before: Mapping[int, Array], after: Mapping[int, Array], rate: float
) -> list[dict[str, float]]:
    """Return how large the weights, their gradient and their update are in each layer.

    The update is what the step really subtracted, and the gradient follows from it.
    """
    updates = [_size(before[i] - weights) for i, weights in after.items()]
    return [
        {"weights": _size(weights), "gradient": update / rate, "update": update}
        for weights, update in zip(after.values(), updates, strict=True)
    ]


def _size(values: Array) -> float:
    """Return the root mean square; 0 if it is too large to compute."""
    flat = values.ravel()
    size = float(np.sqrt(np.dot(flat, flat) / flat.size))
    return size if isfinite(size) else 0.0
