"""What the page shows for a picture: the answer, the output of every layer, and why.

Oracles: central differences of a logit in float64; the layers' forward passes, one by one; a
network without biases, whose logits are the sums of the votes; matplotlib's colours.
"""

import base64
import copy
import io
import re
from importlib.resources import files
from typing import Any

import matplotlib
import numpy as np
import pytest
from builders import EXAMPLE_SHAPE, EXAMPLES, NO_PICTURE, filled_network
from PIL import Image

from handcnn import (
    Conv2D,
    HandcnnError,
    HiddenLayer,
    InputLayer,
    Network,
    OutputLayer,
    documented_network,
)
from handcnn.layers import Layer, MaxPool2D, ReLU
from handcnn.models import NETWORKS
from handcnn.page import view
from handcnn.page.explanations import describe_layer
from handcnn.pictures import prepare_picture, to_batch
from handcnn.preparation import Preparation
from handcnn.types import Array

K = 3
NAMES = ["a", "b", "c"]
DIGITS = [*"0123456789"]
AS_DIGITS = Preparation("digits")


def pooled_network(dtype: Any = np.float64, side: int = 28) -> Network:
    """Return a network with pooling, for pictures (1, side, side)."""
    after = (side - 2) // 2  # no padding, kernel 3, then pooling
    layers = [
        InputLayer(),
        Conv2D(1, 4, 3, dtype=dtype),
        MaxPool2D(2),
        ReLU(),
        Conv2D(4, 2, 3, padding=1, dtype=dtype),
        HiddenLayer(2 * after * after, 5, dtype=dtype),
        OutputLayer(5, K, dtype=dtype),
    ]
    net = filled_network(layers)
    return Network(net.layers, (1, side, side))


def logits(net: Network, x: Array) -> Array:
    """Return z of the output layer, (N, K), from the layers before it and a plain product."""
    *layers, last = (copy.copy(layer) for layer in net.layers)
    for layer in layers:
        x = layer.forward(x)
    parameters = last.parameters()
    z: Array = x @ parameters["weights"] + parameters["bias"]
    return z


def picture(digit: Array) -> bytes:
    """Return a grey picture (H, W) as a file."""
    file = io.BytesIO()
    Image.fromarray(digit).save(file, "PNG")
    return file.getvalue()


def seven() -> Array:
    digit = np.full((100, 100), 255, np.uint8)
    digit[20:28, 20:75] = 0
    for row in range(28, 85):
        left = 66 - (row - 28) // 2
        digit[row, left : left + 9] = 0
    return digit


def numbers(text: str, dtype: Any = np.int8) -> Array:
    return np.frombuffer(base64.b64decode(text), dtype)


def scaled(values: Array, axis: tuple[int, ...]) -> Array:
    """Return the values divided by the largest along some axes, times 127."""
    shares: Array = values / np.abs(values).max(axis, keepdims=True)
    return 127 * shares


def test_why_is_the_gradient_of_each_logit_by_the_image() -> None:
    net = pooled_network(side=10)
    image = np.random.default_rng(5).integers(0, 256, (10, 10), np.uint8)
    outputs, gradients = view.look(net, image)
    assert gradients.shape == (K, 1, 10, 10)
    x = to_batch([image]).astype(np.float64)
    step = 1e-6
    for place in np.ndindex(10, 10):
        moved = np.repeat(x, 2, axis=0)
        moved[0, 0][place] += step
        moved[1, 0][place] -= step
        above, below = logits(net, moved)
        slope = (above - below) / (2 * step)
        np.testing.assert_allclose(gradients[:, 0][:, *place], slope, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(outputs[-1], net.predict_proba(x)[0], rtol=1e-12)


def test_without_biases_the_votes_of_the_ink_add_up_to_the_logit() -> None:
    net = pooled_network()
    for name, array in net.parameters().items():
        # Without negative weights, some hidden units are on, whatever the picture.
        array[...] = 0 if name.endswith("bias") else np.abs(array)
    seen = prepare_picture(seven())
    gradients = view.look(net, seen)[1]
    votes = gradients * to_batch([seen])[0]
    np.testing.assert_allclose(votes.sum((1, 2, 3)), logits(net, to_batch([seen]))[0], rtol=1e-9)
    shown = numbers(view.explain(net, seen)["votes"]).reshape(K, 28, 28)
    np.testing.assert_allclose(shown, scaled(votes[:, 0], (1, 2)), atol=0.5001)


def test_everything_that_is_shown_of_a_picture() -> None:
    net = pooled_network(np.float32)
    seen = prepare_picture(seven())
    read = view.read(net, NAMES, AS_DIGITS, picture(seven()))
    (shown,) = read.pop("digits")
    assert read == {
        "text": shown["text"],
        "percent": shown["percents"][shown["answer"]],
        "remark": "",
        "size": (100, 100),
    }
    assert shown.keys() == {
        *("text", "answer", "probabilities", "percents", "row", "box", "isDoubtful", "seen"),
        *("layers", "gradients", "votes"),
    }
    np.testing.assert_array_equal(numbers(shown["seen"], np.uint8).reshape(28, 28), seen)
    probabilities = net.predict_proba(to_batch([seen]))[0]
    np.testing.assert_allclose(shown["probabilities"], probabilities, atol=1e-6)
    assert shown["answer"] == probabilities.argmax()
    assert shown["text"] == NAMES[shown["answer"]]
    assert shown["percents"] == [f"{100 * p:.2f} %" for p in probabilities]
    x = to_batch([seen])
    for text, layer in zip(shown["layers"], net.layers[1:], strict=True):
        x = copy.copy(layer).forward(x)
        output = x[0]
        axis = (1, 2) if output.ndim == 3 else (0,)  # each map has its scale, units share one
        largest = np.abs(output).max(axis, keepdims=True)
        expected = 127 * output / np.where(largest > 0, largest, 1)
        np.testing.assert_allclose(numbers(text).reshape(output.shape), expected, atol=0.5001)


def test_a_number_is_shown_digit_by_digit() -> None:
    """Oracle: the network alone, for the image that each digit has become."""
    net = documented_network(rng=np.random.default_rng(0))
    both = np.hstack([seven(), seven(), np.full((100, 30), 255, np.uint8)])
    both[76:86, 204:214] = 0  # a point
    shown = view.read(net, DIGITS, AS_DIGITS, picture(both))
    first, last = shown["digits"]
    assert shown["size"] == (230, 100)
    assert shown["text"] == first["text"] + last["text"]
    assert [digit["row"] for digit in (first, last)] == [0, 0]
    np.testing.assert_allclose(first["box"], (20, 20, 75, 85), atol=2)
    np.testing.assert_allclose(last["box"], (120, 20, 175, 85), atol=2)
    p = net.predict_proba(to_batch([prepare_picture(seven())]))[0]
    for digit in (first, last):
        np.testing.assert_allclose(digit["probabilities"], p, atol=0.02)
        assert digit["isDoubtful"]
    assert float(shown["percent"].removesuffix(" %")) == pytest.approx(100 * p.max() ** 2, abs=0.5)
    doubts = shown["remark"].split("\n")
    assert [line.split()[:5] for line in doubts[:2]] == [
        ["digit", str(i), "may", "be", digit["text"]] for i, digit in enumerate((first, last), 1)
    ]
    assert doubts[2:] == ["1 other mark left out"]
    assert "layers" not in first
    explained = view.explain_bytes(net, base64.b64decode(last["seen"]))
    assert explained == {key: last[key] for key in ("layers", "gradients", "votes")}


def test_only_digits_make_numbers() -> None:
    net = documented_network(rng=np.random.default_rng(0))
    both = picture(np.hstack([seven(), seven()]))
    letters = [*"abcdefghij"]  # which may consist of parts
    for names, preparation in ((letters, AS_DIGITS), (DIGITS, Preparation("whole", "bright"))):
        shown = view.read(net, names, preparation, both)
        assert len(shown["digits"]) == 1
        assert shown["digits"][0]["box"] == (0, 0, 200, 100)
        assert shown["remark"] == ""


def test_a_costly_network_reads_only_a_few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,857,226 multiplications for a digit."""
    net = documented_network(rng=np.random.default_rng(0))
    monkeypatch.setattr(view, "MAX_MULTIPLICATIONS", 2 * 1_857_226)
    for count in (1, 2):
        view.read(net, DIGITS, AS_DIGITS, picture(np.hstack([seven()] * count)))
    fault = "the picture has 3 digits, at most 2 are allowed; crop it to fewer"
    with pytest.raises(HandcnnError, match=f"^{fault}$"):
        view.read(net, DIGITS, AS_DIGITS, picture(np.hstack([seven()] * 3)))


def test_what_is_known_before_anything_is_drawn() -> None:
    net = pooled_network()
    about = view.describe(net, ["cat", "dog", "<b>"], "mnist, epoch 3")
    assert about["classes"] == ["cat", "dog", "<b>"]
    assert about["origin"] == "mnist, epoch 3"
    assert about["network"] == "network of your own"
    count = 4 * 9 + 4 + 2 * 4 * 9 + 2 + 2 * 13 * 13 * 5 + 5 + 5 * K + K
    assert about["parameters"] == f"{count:,}"
    assert [(layer["title"], layer["shape"]) for layer in about["layers"]] == [
        ("Conv2D(1 → 4, 3x3)", (4, 26, 26)),
        (str(net.layers[2]), (4, 13, 13)),
        ("ReLU()", (4, 13, 13)),
        ("Conv2D(4 → 2, 3x3, padding 1)", (2, 13, 13)),
        ("HiddenLayer(338 → 5)", (5,)),
        ("OutputLayer(5 → 3)", (3,)),
    ]
    kernels = [layer["kernels"] for layer in about["layers"]]
    assert kernels[1:] == [None] * 5  # only those of the first convolution
    weights = net.layers[1].parameters()["weights"][:, 0]
    np.testing.assert_allclose(
        numbers(kernels[0]).reshape(4, 3, 3), scaled(weights, (0, 1, 2)), atol=0.5001
    )


def test_a_named_network_of_a_hundred_classes_is_named_and_not_too_large() -> None:
    for name, make in NETWORKS.items():
        about = view.describe(make(classes=100), [str(k) for k in range(100)], "")
        assert about["network"] == name


@pytest.mark.parametrize(
    ("layers", "k", "cost"),
    [
        # For an image: 784 + (30 * 3 * 28 + 500 * 784) + 500 + 500 numbers.
        (
            [Conv2D(1, 500, 3, padding=1), MaxPool2D(28), OutputLayer(500, 500)],
            500,
            "198,152,000 numbers to explain its 500 classes for a drawing, at most 50,000,000",
        ),
        # For an image: 784 * 100 * (10 + 901 + 1) + 100 * 101, the biases and the pooling included.
        (
            [
                Conv2D(1, 100, 3, padding=1),
                Conv2D(100, 100, 3, padding=1),
                MaxPool2D(28),
                OutputLayer(100, 100),
            ],
            100,
            "7,151,090,000 multiplications to explain its 100 classes for a drawing, "
            "at most 2,000,000,000",
        ),
    ],
    ids=["memory", "time"],
)
def test_the_cost_of_why_is_counted_for_every_class(layers: list[Layer], k: int, cost: str) -> None:
    """Regression: a file of 600 kB took 1 GB and 16 seconds for each drawing."""
    net = Network([InputLayer(), *layers], (1, 28, 28))
    fault = f"the network needs {cost} are allowed; read pictures with predict.py instead"
    with pytest.raises(HandcnnError, match=f"^{re.escape(fault)}$"):
        view.describe(net, [str(number) for number in range(k)], "")


def test_every_layer_of_the_register_has_its_sentence() -> None:
    """EXAMPLES has one of each; test_layers.py checks that."""
    for layer in EXAMPLES.values():
        shape = EXAMPLE_SHAPE[1:]
        sentence = describe_layer(layer, shape, layer.output_shape(shape))
        assert sentence.endswith("."), f"{layer} needs a sentence in handcnn/page/explanations.py"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (
            b"{",
            f"the picture {NO_PICTURE}",
        ),
        (
            picture(np.full((50, 50), 200, np.uint8)),
            "the picture is blank: no stroke stands out from the background; "
            "draw one digit, dark on light or light on dark",
        ),
    ],
)
def test_pictures_that_cannot_be_read(content: bytes, fault: str) -> None:
    with pytest.raises(HandcnnError, match=f"^{re.escape(fault)}$"):
        view.read(pooled_network(), NAMES, AS_DIGITS, content)


def test_weights_too_large_to_compute_with() -> None:
    net = documented_network(rng=np.random.default_rng(0))
    for array in net.parameters().values():
        array[...] = 1e30
    fault = (
        "the network gives no probabilities: its numbers are too large to compute with; "
        "use other weights"
    )
    with pytest.raises(HandcnnError, match=f"^{re.escape(fault)}$"):
        view.read(net, NAMES, AS_DIGITS, picture(seven()))


def test_the_colours_are_those_of_the_plots_of_a_run() -> None:
    script = files("handcnn.page").joinpath("maps.js").read_text()
    stops = re.findall(r'"([0-9a-f]{6})"', script)
    colours = matplotlib.colormaps["RdBu_r"](np.linspace(0, 1, len(stops)))[:, :3]
    written = [[int(stop[i : i + 2], 16) for i in (0, 2, 4)] for stop in stops]
    np.testing.assert_allclose(written, 255 * colours, atol=2)  # its table has 256 steps
