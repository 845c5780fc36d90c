"""What a beginner reads beside each layer on the page: a sentence or two."""

from math import prod

from handcnn.layers import Conv2D, HiddenLayer, Layer, MaxPool2D, OutputLayer, ReLU
from handcnn.types import Shape

TIMES = "\N{MULTIPLICATION SIGN}"


def describe_layer(layer: Layer, before: Shape, after: Shape) -> str:
    """Return a description of a layer for a reader who sees its output; empty if it is unknown.

    Args:
        layer: any layer.
        before: the shape of its input, (C, H, W) or (D,).
        after: the shape of its output.
    """
    count = after[0]
    match layer:
        case Conv2D(kernel_size=k):
            what = "the picture" if before[0] == 1 else f"all {before[0]} maps above at once"
            where = " Each filter is above its map." if before[0] == 1 else ""
            return (
                f"{count} filters of {k}{TIMES}{k} numbers slide over {what}. Each paints a map: "
                f"red where it finds its pattern, blue where it finds the opposite.{where}"
            )
        case MaxPool2D(size=n):
            return (
                f"Keeps only the largest number of every {n}{TIMES}{n} square. The maps become "
                "smaller, and the exact place of a stroke matters less."
            )
        case ReLU():
            return "Numbers below zero become zero, so only the patterns found are passed on."
        case HiddenLayer():
            return (
                f"{count} units. Each multiplies all {prod(before):,} numbers above by its weights "
                "and adds them up. White units are off, because their sum is below zero; the "
                "redder a unit, the larger its sum."
            )
        case OutputLayer():
            return (
                f"{count} units, one for each class. Their sums, the scores, are turned into "
                "probabilities, which add up to 100 %."
            )
    return ""
