"""What does it look for? The kernels of the first convolution and what each makes of an image."""

import copy
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from handcnn.layers import Conv2D, Layer
from handcnn.network import Network
from handcnn.plots.page import (
    GREY,
    HEADER,
    MARGIN,
    check_range,
    colour_map,
    default_settings,
    greys,
    ink,
    new_page,
    put_colour_bar,
    put_text,
    put_tile,
)
from handcnn.types import Array

LEFT = MARGIN + 190  # of the pairs: the image and the colour bars stand left of them
COLUMNS = 8
KERNEL, GAP, RESPONSE = 60, 4, 84  # sides of the two tiles of a pair and what is between, pixels
PITCH, ROW_HEIGHT = 102, 164  # from one pair to the next, pixels
LARGEST = 1e30  # of the weights and what they make of an image: sums of float32 stay finite
MINUS = "\N{MINUS SIGN}"


@default_settings()
def draw_filters(net: Network, image: Array, title: str) -> Figure:
    """Return the kernels of the first Conv2D, each above its response to one image.

    Both are signed, so their colours are centred on zero. The kernels share one scale; every
    response has its own, because what matters there is the pattern.

    Args:
        net: any network; without a Conv2D the picture says so.
        image: one input, (H, W) or (C, H, W), uint8 in 0..255 or floats in 0..1.
        title: what was trained on; it opens the heading.
    """
    index = next((i for i, layer in enumerate(net.layers) if isinstance(layer, Conv2D)), None)
    if index is None:
        return new_page(1000, HEADER, f"{title}: filters", "This network has no Conv2D.")[0]
    weights = net.layers[index].parameters()["weights"]  # (F, C, k, k)
    check_range("weights", weights, -LARGEST, LARGEST)
    filters, channels = weights.shape[:2]
    kernels = weights.mean(axis=1)  # (F, k, k)
    responses = _responses(net.layers[: index + 1], channels, image)  # (F, OH, OW)
    remark = "Each pair: a kernel and, below it, its response to the image."
    if channels > 1:
        remark += f" Kernels are shown as means over their {channels} channels."
    figure, page = new_page(
        LEFT + COLUMNS * PITCH - (PITCH - RESPONSE) + MARGIN,
        HEADER + max(-(-filters // COLUMNS) * ROW_HEIGHT, 330) + 24,
        f"{title}: filters of {net.layers[index]}",
        remark,
    )
    limit = _largest(kernels)
    for f, (kernel, response) in enumerate(zip(kernels, responses, strict=True)):
        row, column = divmod(f, COLUMNS)
        x, y = LEFT + column * PITCH, HEADER + row * ROW_HEIGHT
        put_text(page, x + KERNEL + 2 * GAP, y + 6, str(f), 9, GREY)
        put_tile(page, x, y, KERNEL, _signed_colours(kernel / limit))
        colours = _signed_colours(response / _largest(response))
        put_tile(page, x, y + KERNEL + GAP, RESPONSE, colours)

    grey = ink(image).reshape(-1, *image.shape[-2:]).mean(axis=0)
    put_text(page, MARGIN, HEADER - 9, "image", 9, GREY)
    put_tile(page, MARGIN, HEADER, 140, greys(grey))
    ramp = _signed_colours(np.linspace(-1, 1, 101))
    ticks = [f"{MINUS}{limit:.2g}", "0", f"{limit:.2g}"]
    put_colour_bar(page, MARGIN, HEADER + 200, 140, ramp, ticks, "kernel")
    put_colour_bar(page, MARGIN, HEADER + 270, 140, ramp, [MINUS, "0", "+"], "response, own scale")
    return figure


def _responses(layers: Sequence[Layer], channels: int, image: Array) -> Array:
    """Return what the layers, the last of them a Conv2D, make of one image: (F, OH, OW)."""
    x = np.broadcast_to(ink(image), (1, channels, *image.shape[-2:]))
    with np.errstate(all="ignore"):  # overflow shows in the result
        for layer in layers:
            x = copy.copy(layer).forward(x)  # a copy: the layer may be waiting for its backward
    check_range("responses", x, -LARGEST, LARGEST)
    return x.squeeze(axis=0)


def _largest(values: Array) -> float:
    """Return the largest absolute value, or 1 where all are zero."""
    return float(np.abs(values).max()) or 1.0


def _signed_colours(values: Array) -> Array:
    """Return colours (..., 3) for values (...) in -1..1: blue, white for 0, red."""
    return colour_map("RdBu_r", 0.5 + 0.5 * values)
