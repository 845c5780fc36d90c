"""From a picture to everything that the page shows: the answer, each layer's view of it, and why.

"Why" is the gradient of a class's logit with respect to the image. docs/why.md derives what is
drawn. It is computed by the layers' own `backward`, one after the other, all the way to `dx`.

Everything here is plain Python values, ready for JSON. Arrays travel as base64 text of their bytes.
Signed values become whole numbers from -127 to 127, and 0 stays 0, so that it keeps its colour.
"""

import base64
import copy
import io
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from handcnn.errors import HandcnnError
from handcnn.formatting import percent
from handcnn.layers import Conv2D, InputLayer, Layer
from handcnn.network import Network
from handcnn.page.words import describe_layer
from handcnn.pictures import examine_picture, load_picture, to_batch
from handcnn.types import Array

LEVELS = 127  # of each sign
SEVERAL = "there seem to be several digits, and the network takes them for one; draw one at a time"


def describe(net: Network, classes: Sequence[str], origin: str) -> dict[str, Any]:
    """Return what is shown before anything is drawn: the network and its layers.

    Args:
        net: for inputs (1, H, W), with a row of classes as its output.
        classes: the name of each class.
        origin: what the weights were trained on, and how well.
    """
    shapes = [net.input_shape, *net.output_shapes()]
    layers = [
        {
            "title": str(layer).replace("->", "\N{RIGHTWARDS ARROW}"),
            "shape": after,
            "text": describe_layer(layer, before, after),
            "kernels": _kernels(layer) if i == _first_convolution(net) else None,
        }
        for i, (layer, (before, after)) in enumerate(zip(net.layers, pairwise(shapes), strict=True))
        if before and after and not isinstance(layer, InputLayer)
    ]
    parameters = sum(array.size for array in net.parameters().values())
    return {"classes": classes, "origin": origin, "parameters": f"{parameters:,}", "layers": layers}


def read(net: Network, classes: Sequence[str], content: bytes) -> dict[str, Any]:
    """Return what is shown for one picture.

    Any number of threads may do this with the same network at a time.

    Args:
        net: as in `describe`.
        classes: as in `describe`.
        content: of a picture file.

    Raises:
        HandcnnError: it is not a picture, nothing is drawn on it, or the weights are too large to
            compute with.
    """
    seen, several = examine_picture(load_picture(io.BytesIO(content), "the picture"))
    with np.errstate(all="ignore"):  # what overflows is refused below
        outputs, gradients = look(net, seen)
    probabilities = outputs[-1]
    if not all(np.isfinite(array).all() for array in (*outputs, gradients)):
        raise HandcnnError(
            "the weights give no probabilities: their numbers are too large to compute with; "
            "use other weights"
        )
    votes = gradients * to_batch([seen])[0]
    return {
        "answer": int(probabilities.argmax()),
        "probabilities": [round(float(p), 6) for p in probabilities],
        "percents": [percent(p) for p in probabilities],
        "seen": _base64(seen),
        "remark": SEVERAL if several and [*classes] == [*"0123456789"] else "",
        "layers": [
            _base64(_levels(output, axis=tuple(range(1, output.ndim))))
            for layer, output in zip(net.layers, outputs, strict=True)
            if not isinstance(layer, InputLayer)
        ],
        "gradients": _base64(_levels(gradients, axis=(1, 2, 3))),
        "votes": _base64(_levels(votes, axis=(1, 2, 3))),
    }


def look(net: Network, image: Array) -> tuple[list[Array], Array]:
    """Return what each layer makes of an image, and the gradient of every logit by its pixels.

    The image goes through the network K times, as a batch. On the way back, row k asks for class
    k: `dout` is 1 for its logit and 0 for the others, and so `dx[k]` is the gradient of logit k.

    Args:
        net: its last layer gives (N, K).
        image: prepared, uint8 (H, W).

    Returns:
        The output of every layer, without N; and the gradients (K, 1, H, W).
    """
    layers = [copy.copy(layer) for layer in net.layers]  # they keep their own x
    shape = net.output_shapes()[-1]
    assert shape is not None
    x = np.repeat(to_batch([image]), shape[0], axis=0)  # (K, 1, H, W)
    outputs = []
    for layer in layers:
        x = layer.forward(x)
        outputs.append(x[0])
    dx = np.eye(shape[0])  # (K, K)
    for layer in reversed(layers):
        dx = layer.backward(dx)
    return outputs, dx


def _first_convolution(net: Network) -> int | None:
    return next((i for i, layer in enumerate(net.layers) if isinstance(layer, Conv2D)), None)


def _kernels(layer: Layer) -> str:
    """Return the kernels (F, k, k), as means over their channels if there are several."""
    return _base64(_levels(layer.parameters()["weights"].mean(axis=1)))


def _levels(values: Array, axis: tuple[int, ...] | None = None) -> Array:
    """Return signed values as int8 from -127 to 127: the largest along the axes is at one end."""
    largest = np.abs(values).max(axis or None, keepdims=True)
    return np.rint(values * (LEVELS / np.where(largest == 0, 1, largest))).astype(np.int8)


def _base64(array: Array) -> str:
    return base64.b64encode(array.tobytes()).decode()
