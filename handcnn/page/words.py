"""What stands beside each layer on the page: a sentence or two that a beginner understands."""

from math import prod

from handcnn.layers import Conv2D, HiddenLayer, Layer, MaxPool2D, OutputLayer, ReLU
from handcnn.types import Shape

TIMES = "\N{MULTIPLICATION SIGN}"


def describe_layer(layer: Layer, before: Shape, after: Shape) -> str:
    """Return what a layer does, for a reader who sees its output.

    Args:
        layer: of any kind; of one that is not known here nothing is said.
        before: the shape of its input, (C, H, W) or (D,).
        after: the shape of its output.
    """
    count = after[0]
    match layer:
        case Conv2D(kernel_size=k):
            what = "the picture" if before[0] == 1 else f"all {before[0]} maps above at once"
            where = " The filter stands above its map." if before[0] == 1 else ""
            return (
                f"{count} filters of {k}{TIMES}{k} numbers slide over {what}. Each paints a map: "
                f"red where it finds its pattern, blue where it finds the opposite.{where}"
            )
        case MaxPool2D(size=n):
            return (
                f"Of every square of {n}{TIMES}{n} numbers only the largest stays. The maps become "
                "smaller, and it matters less where exactly a stroke is."
            )
        case ReLU():
            return "What is below zero becomes zero, so that only what was found goes on."
        case HiddenLayer():
            return (
                f"{count} units. Each weighs all {prod(before):,} numbers above and adds them up. "
                "White ones are silent, because their sum is below zero; the redder, the more "
                "active."
            )
        case OutputLayer():
            return (
                f"{count} units, one for each answer. Their sums, the scores, become "
                "probabilities, which add up to 100 %."
            )
    return ""
