"""Convert a Pillow image of any mode into grey values in which ink and paper differ most."""

import numpy as np
from PIL import Image

from handcnn.types import Array


def to_grey(image: Image.Image) -> Array:
    """Return the picture as grey values (H, W) in [0, 255], float32."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _stretched(image)
    rgb = _opaque(image) if image.has_transparency_data else _values(image, "RGB")
    if (rgb == rgb[..., :1]).all():
        grey = rgb[..., 0]
    else:
        weights = _weights(rgb.reshape(-1, 3))
        grey = rgb @ weights - 255 * np.minimum(weights, 0).sum()  # so that no colour is below 0
    within: Array = np.clip(grey, 0, 255)  # but for rounding errors
    return within


def _values(image: Image.Image, mode: str) -> Array:
    return np.asarray(image.convert(mode), np.float32)


def _stretched(image: Image.Image) -> Array:
    """Scale values of 16 bits or more to 0..255; Pillow's convert() would clip them."""
    values = np.nan_to_num(np.asarray(image, np.float64), posinf=0, neginf=0)
    values = (values - values.min()) / max(np.ptp(values), 1e-30) * 255
    return np.asarray(values, np.float32)


def _opaque(image: Image.Image) -> Array:
    """Return the colours (H, W, 3) on a black background if the ink is light, else on white."""
    rgba = _values(image, "RGBA")
    rgb, alpha = rgba[..., :3], rgba[..., 3:] / 255
    light_ink = (rgb * alpha).mean() > 127.5 * alpha.mean()
    on_background: Array = rgb * alpha + (0 if light_ink else 255) * (1 - alpha)
    return on_background


def _weights(pixels: Array) -> Array:
    """Return weights (3,) of red, green and blue for which the pixels (n, 3) differ most.

    They are the first principal axis. Red ink on white is invisible in the red channel and pale in
    the usual grey.
    """
    centred = pixels - np.median(pixels, axis=0)
    axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    weights: Array = axis * np.copysign(1, axis.sum()) / np.abs(axis).sum()
    return weights.astype(np.float32)
