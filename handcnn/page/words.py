"""What stands beside each layer on the page: a sentence or two that a beginner understands."""

from collections.abc import Callable
from math import prod

from handcnn.layers import Conv2D, HiddenLayer, Layer, OutputLayer
from handcnn.network import Network
from handcnn.types import Shape


def describe_layer(net: Network, i: int) -> str:
    """Return what layer `i` does, for a reader who sees what it makes of the picture."""
    before, after = net.input_shape if i == 0 else net.output_shapes()[i - 1], net.output_shapes()[i]
    if before is None or after is None:
        return ""
    words = WORDS.get(type(net.layers[i]))
    return "" if words is None else words(net.layers[i], before, after)


def _convolution(layer: Layer, before: Shape, after: Shape) -> str:
    k, sources = layer.config()["kernel_size"], before[0]
    what = "the picture" if sources == 1 else f"all {sources} maps above at once"
    text = (
        f"{after[0]} filters of {k}\N{MULTIPLICATION SIGN}{k} numbers slide over {what}. Each paints a map: red where it "
        "finds its pattern, blue where it finds the opposite."
    )
    return f"{text} The filter stands above its map." if sources == 1 else text


def _hidden(layer: Layer, before: Shape, after: Shape) -> str:
    return (
        f"{after[0]} units. Each weighs all {prod(before):,} numbers above, adds them up, and "
        "stays silent (white) if the sum is below zero. The redder, the more active."
    )


def _output(layer: Layer, before: Shape, after: Shape) -> str:
    return (
        f"{after[0]} units, one for each answer. Their sums become probabilities, which together "
        "make 100 %."
    )


WORDS: dict[type[Layer], Callable[[Layer, Shape, Shape], str]] = {
    Conv2D: _convolution,
    HiddenLayer: _hidden,
    OutputLayer: _output,
}
