"""All that the page shows for a picture: what was read, the output of each layer, and why.

"Why" is the gradient of a class's logit with respect to the image, computed by calling `backward`
on all layers, down to the first `dx`. docs/why.md derives it.

The functions return plain Python values, ready for JSON; `encoding` makes text of arrays.
"""

import io
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from handcnn.errors import HandcnnError
from handcnn.layers import InputLayer, Layer
from handcnn.layers.sequence import backward, copied, first_convolution, forward
from handcnn.models import network_name
from handcnn.network import Network
from handcnn.page.encoding import base64_text, levels
from handcnn.page.explanations import describe_layer
from handcnn.pictures import Digit, Reading, load_picture, read_picture, to_batch
from handcnn.pictures.numbers import DOUBTFUL, NO_PROBABILITIES
from handcnn.preparation import Preparation
from handcnn.storage.mistakes import Mistakes
from handcnn.storage.networks import cost_per_image
from handcnn.text import percent
from handcnn.types import Array

# For one drawing, which goes through the network once for each class: 300 MB, about two seconds.
MAX_NUMBERS = 50_000_000
MAX_MULTIPLICATIONS = 2_000_000_000
NAMED_DOUBTS = 2  # digits of a number; the boxes on the pad mark the others


def describe(net: Network, class_names: Sequence[str], origin: str) -> dict[str, Any]:
    """Return what the page shows before anything is drawn: the network and its layers.

    Args:
        net: a network with inputs (1, H, W) and outputs (K,).
        class_names: the name of each class.
        origin: the data set and the accuracy of the weights.

    Raises:
        HandcnnError: a drawing would take too much memory or time.
    """
    _check_cost(net, len(class_names))
    first = first_convolution(net.layers)
    shapes = [net.input_shape, *net.output_shapes()]
    layers = [
        {
            "title": str(layer).replace("->", "\N{RIGHTWARDS ARROW}"),
            "shape": after,
            "text": describe_layer(layer, before, after),
            "kernels": _kernels(layer) if i == first else None,
        }
        for i, (layer, (before, after)) in enumerate(zip(net.layers, pairwise(shapes), strict=True))
        if before and after and not isinstance(layer, InputLayer)
    ]
    parameters = sum(array.size for array in net.parameters().values())
    return {
        "classes": class_names,
        "network": network_name(net) or "network of your own",
        "parameters": f"{parameters:,}",
        "origin": origin,
        "layers": layers,
    }


def read(
    net: Network, class_names: Sequence[str], preparation: Preparation, content: bytes
) -> dict[str, Any]:
    """Return what the page shows for one picture; of several digits, the last one is explained.

    Several threads may call this with the same network concurrently.

    Args:
        net: as in `describe`.
        class_names: as in `describe`.
        preparation: how the training images of the network were prepared.
        content: the bytes of a picture file.

    Raises:
        HandcnnError: it is not a picture, it is empty, it has too many marks or digits, or the
            weights are too large to compute with.
    """
    grey = load_picture(io.BytesIO(content), "the picture")
    with np.errstate(all="ignore"):  # overflow is refused
        reading = read_picture(net, grey, class_names, preparation, _most_digits(net))
    digits = [show_digit(digit) for digit in reading.digits]
    digits[-1] |= explain(net, reading.digits[-1].image)
    return {
        "text": reading.text,
        "percent": percent(reading.probability),
        "remark": remark_about(reading),
        "size": grey.shape[::-1],
        "digits": digits,
    }


def show_digit(digit: Digit) -> dict[str, Any]:
    """Return what the page shows of a digit before it explains it; boxes count in `size`."""
    return {
        "text": digit.text,
        "answer": int(digit.probabilities.argmax()),
        "probabilities": [round(float(p), 6) for p in digit.probabilities],
        "percents": [percent(p) for p in digit.probabilities],
        "row": digit.row,
        "box": digit.box,
        "isDoubtful": digit.probability < DOUBTFUL,
        "seen": base64_text(digit.image),
    }


def remark_about(reading: Reading) -> str:
    """Return what predict.py says beside an answer, as sentences without a full stop at the end."""
    doubts = reading.doubts
    more = len(doubts) - NAMED_DOUBTS
    and_more = f"{more} more {'is' if more == 1 else 'are'} in doubt" if more > 0 else ""
    sentences = (reading.doubt, *doubts[:NAMED_DOUBTS], and_more, reading.other_marks)
    return "\n".join(filter(None, sentences))


def explain_bytes(net: Network, content: bytes) -> dict[str, Any]:
    """Return the explanation of an image that `read` has found, from its bytes.

    Raises:
        HandcnnError: they are not an image of the network.
    """
    assert net.input_shape is not None
    _, H, W = net.input_shape
    if len(content) != H * W:
        raise HandcnnError(
            f"an explanation needs the {H * W} bytes of an image that was read, got {len(content)}"
        )
    return explain(net, np.frombuffer(content, np.uint8).reshape(H, W))


def explain(net: Network, image: Array) -> dict[str, Any]:
    """Return the output of each layer for a prepared image, uint8 (H, W), and why.

    Raises:
        HandcnnError: the weights are too large to compute with.
    """
    with np.errstate(all="ignore"):  # overflow is refused below
        outputs, gradients = look(net, image)
    if not all(np.isfinite(array).all() for array in (*outputs, gradients)):
        raise HandcnnError(NO_PROBABILITIES)
    votes = gradients * to_batch([image])[0]
    return {
        "layers": [
            base64_text(levels(output, axis=tuple(range(1, output.ndim))))
            for layer, output in zip(net.layers, outputs, strict=True)
            if not isinstance(layer, InputLayer)
        ],
        "gradients": base64_text(levels(gradients, axis=(1, 2, 3))),
        "votes": base64_text(levels(votes, axis=(1, 2, 3))),
    }


def show_mistakes(mistakes: Mistakes) -> dict[str, Any]:
    """Return what the page shows of the mistakes of a run."""
    return {
        "side": mistakes.images.shape[1],
        "mistakes": [
            {
                "image": base64_text(image),
                "number": f"{number:,}",
                "label": int(label),
                "answer": int(answer),
                "percent": percent(p),
            }
            for image, label, answer, p, number in zip(*mistakes, strict=True)
        ],
    }


def look(net: Network, image: Array) -> tuple[list[Array], Array]:
    """Return the output of each layer, and the gradient of every logit with respect to the image.

    For the gradients, the image goes through the network K times, as a batch, and each row belongs
    to a class: its `dout` is 1 for the logit of this class and 0 for the others.

    Args:
        net: a network with outputs (N, K).
        image: the prepared picture, uint8 (H, W).

    Returns:
        The output of every layer, without N; and the gradients (K, 1, H, W).
    """
    x = to_batch([image])
    outputs = [output[0] for output in net.outputs(x)]
    K = len(outputs[-1])
    layers = copied(net.layers)  # so that each thread has its own x
    forward(layers, np.repeat(x, K, axis=0))
    return outputs, backward(layers, np.eye(K))


def _most_digits(net: Network) -> int:
    """Return how many digits may be read at once, for no more work than an explanation may take."""
    numbers, multiplications = cost_per_image(net)
    return min(MAX_NUMBERS // numbers, MAX_MULTIPLICATIONS // multiplications)


def _check_cost(net: Network, K: int) -> None:
    """Refuse a network that takes too much memory or time to explain all of its K classes."""
    numbers, multiplications = cost_per_image(net)
    for cost, limit, what in (
        (K * numbers, MAX_NUMBERS, "numbers"),
        (K * multiplications, MAX_MULTIPLICATIONS, "multiplications"),
    ):
        if cost > limit:
            raise HandcnnError(
                f"the network needs {cost:,} {what} to explain its {K} classes for a drawing, at "
                f"most {limit:,} are allowed; read pictures with predict.py instead"
            )


def _kernels(layer: Layer) -> str:
    """Return the kernels (F, k, k), averaged over their channels, as base64."""
    return base64_text(levels(layer.parameters()["weights"].mean(axis=1)))
