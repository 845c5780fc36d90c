"""What does the network look for? The kernels of the first convolution and their responses."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from handcnn.layers.sequence import first_convolution
from handcnn.network import Network
from handcnn.plots.bands import MAP, MAP_PITCH, bands_of, put_band
from handcnn.plots.figure import (
    GREY,
    HEADER,
    MARGIN,
    check_range,
    default_settings,
    greys,
    ink,
    new_figure,
    put_colour_bar,
    put_text,
    put_tile,
    scaled,
    signed_colours,
)
from handcnn.types import Array

LEFT = MARGIN + 240  # left edge of the pairs, right of the image and of the longest labels
COLUMNS, MAX_PAIRS = 8, 32  # pairs per row; the most pairs
KERNEL, GAP, RESPONSE = 60, 4, 84  # sides of the two tiles of a pair and their gap, in pixels
PITCH, ROW_HEIGHT = 102, 160  # from one pair to the next, in pixels
MAX_VALUE = 1e30  # of weights and responses, so that sums in float32 stay finite
MINUS = "\N{MINUS SIGN}"


@default_settings()
def plot_filters(
    net: Network, image: Array, title: str, names: Sequence[str] | None = None, *, run: str = ""
) -> Figure:
    """Return a plot of the kernels of the first Conv2D, each above its response to one image.

    Below them, a band shows the output of each later layer. Values are signed, so their colours are
    centred on zero. The kernels share one scale. Every response and every map has its own scale,
    because there only the pattern matters.

    Args:
        net: any network; without a Conv2D the plot says so.
        image: one input, (H, W) or (C, H, W), uint8 in 0..255 or floats in 0..1.
        title: the training data; the heading starts with it.
        names: the names of the classes, by default 0 to K-1.
        run: its network and options, shown below the heading.
    """
    index = first_convolution(net.layers)
    if index is None:
        none = "This network has no Conv2D."
        return new_figure(1000, HEADER, f"{title}: filters", none, run)[0]
    weights = net.layers[index].parameters()["weights"]  # (F, C, k, k)
    check_range("weights", weights, -MAX_VALUE, MAX_VALUE)
    kernels = weights.mean(axis=1)[:MAX_PAIRS]  # (f, k, k)
    outputs = _outputs(net, weights.shape[1], image)
    bands = bands_of(net.layers[index + 1 :], outputs[index + 1 :])
    has_maps = any(band.output.ndim == 3 for band in bands)
    pitch = 2 * MAP_PITCH if has_maps else PITCH  # a pair above two maps
    width = COLUMNS * pitch - (MAP_PITCH - MAP if has_maps else PITCH - RESPONSE)
    top = HEADER + max(-(-len(kernels) // COLUMNS) * ROW_HEIGHT, 330) + 10
    figure, axes = new_figure(
        LEFT + width + MARGIN,
        top + 14 + sum(band.height for band in bands),
        f"{title}: filters of {net.layers[index]}".replace("->", "\N{RIGHTWARDS ARROW}"),
        _remark(weights, bool(bands)),
        run,
    )
    _put_pairs(axes, pitch, kernels, outputs[index][:MAX_PAIRS])
    _put_image(axes, image, float(np.abs(kernels).max()))
    for band in bands:
        put_band(axes, LEFT, top, width, band, names)
        top += band.height
    return figure


def _outputs(net: Network, channels: int, image: Array) -> list[Array]:
    """Return the output of each layer for one image, without N."""
    x = np.broadcast_to(ink(image), (1, channels, *image.shape[-2:]))
    with np.errstate(all="ignore"):  # overflow shows in the result
        outputs = net.outputs(x)
    for output in outputs:
        check_range("responses", output, -MAX_VALUE, MAX_VALUE)
    return [output[0] for output in outputs]


def _remark(weights: Array, has_bands: bool) -> str:
    filters, channels = weights.shape[:2]
    remark = "Each pair: a kernel and, below it, its response to the image."
    if filters > MAX_PAIRS:
        remark += f" {MAX_PAIRS} of {filters:,} are shown."
    if channels > 1:
        remark += f" Kernels are shown as means over their {channels} channels."
    if has_bands:
        remark += " Below: what the later layers see."
    return remark


def _put_pairs(axes: Axes, pitch: float, kernels: Array, responses: Array) -> None:
    """Put each kernel (k, k) above its response (OH, OW)."""
    for f, (kernel, response) in enumerate(zip(scaled(kernels), responses, strict=True)):
        row, column = divmod(f, COLUMNS)
        x, y = LEFT + column * pitch, HEADER + row * ROW_HEIGHT
        put_text(axes, x + KERNEL + 2 * GAP, y + 6, str(f), 9, GREY)
        put_tile(axes, x, y, KERNEL, signed_colours(kernel))
        put_tile(axes, x, y + KERNEL + GAP, RESPONSE, signed_colours(scaled(response)))


def _put_image(axes: Axes, image: Array, largest: float) -> None:
    """Put the image and the colour bars left of the pairs; `largest` is the largest weight."""
    grey = ink(image).reshape(-1, *image.shape[-2:]).mean(axis=0)
    put_text(axes, MARGIN, HEADER - 9, "image", 9, GREY)
    put_tile(axes, MARGIN, HEADER, 140, greys(grey))
    ramp = signed_colours(np.linspace(-1, 1, 101))
    limit = f"{largest or 1:.2g}"
    put_colour_bar(axes, MARGIN, HEADER + 200, 140, ramp, [f"{MINUS}{limit}", "0", limit], "kernel")
    put_colour_bar(axes, MARGIN, HEADER + 270, 140, ramp, [MINUS, "0", "+"], "response, own scale")
