"""How the images of a data set were prepared, so that pictures are prepared in the same way.

Digits are found in a picture, cut out and drawn as MNIST draws them. All other images, such as
clothes, are scaled whole, with their grey values. A network's weights file says which of the two.
`handcnn.pictures.prepare` does it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from handcnn.text import DIGITS
from handcnn.types import Array

PREPARATIONS = ("digits", "whole")
BACKGROUNDS = ("dark", "bright", "any")
BRIGHT = 128  # grey values from here on are nearer to white
BIN = 16  # grey levels counted as one
CLEAR = 0.95  # the share of images whose backgrounds agree, if those of the set do
MAX_EXAMINED = 5_000  # images


class Preparation(NamedTuple):
    """How a picture becomes an image of a data set.

    Attributes:
        name: one in PREPARATIONS.
        background: one in BACKGROUNDS. If the images of the set have a dark background, a picture
            with a bright one is inverted, and vice versa; with "any" it never is. Digits are
            always drawn bright on black.
    """

    name: str
    background: str = "dark"


def usual_preparation(class_names: Sequence[str]) -> str:
    """Return how pictures of these classes are prepared if nobody says: "digits" if all are."""
    return "digits" if set(class_names) <= set(DIGITS) else "whole"


def background_of(images: Array) -> str:
    """Return the background that nearly all of the images (N, H, W) have: one in BACKGROUNDS."""
    bright = np.mean(background_levels(some_of(images, MAX_EXAMINED)) >= BRIGHT)
    return "bright" if bright >= CLEAR else "dark" if bright <= 1 - CLEAR else "any"


def some_of(images: Array, count: int) -> Array:
    """Return at most `count` of the images (N, ...), from all over the set."""
    return images[:: -(-len(images) // count)]


def background_levels(images: Array) -> Array:
    """Return the grey of the background of each image (N, H, W) in [0, 255]: (N,).

    It is the most common grey on the border. What is shown may touch more than half of the border,
    but varies in grey, while the background hardly does.
    """
    n, h, w = images.shape
    edges = [images[:, 0], images[:, h - 1], images[:, :, 0], images[:, :, w - 1]]
    border = np.concatenate(edges, axis=1)
    bins = 256 // BIN
    places = border.astype(np.intp) // BIN + bins * np.arange(n)[:, None]
    counts = np.bincount(places.ravel(), minlength=bins * n).reshape(n, bins)
    inside = border.astype(np.intp) // BIN == counts.argmax(axis=1)[:, None]
    levels: Array = np.nanmedian(np.where(inside, border, np.nan), axis=1)
    return levels
