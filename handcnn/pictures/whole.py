"""Prepare a picture for a network: as a digit, or whole, as the network's training images were.

A whole picture keeps its grey values. It is padded to a square with its background, scaled to
28x28, and inverted if its background is dark and that of the training images bright, or vice versa.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from handcnn.pictures.drawing import FIELD, is_like_mnist
from handcnn.pictures.operations import resized
from handcnn.pictures.preparing import Prepared, examine_picture
from handcnn.preparation import (
    BRIGHT,
    Preparation,
    background_levels,
    some_of,
    usual_preparation,
)
from handcnn.types import Array

MAX_COMPARED = 500  # images, with those of MNIST


def prepare(grey: Array, preparation: Preparation) -> Prepared:
    """Return a grey picture (H, W) in [0, 255] as the images of a network's data set are.

    Raises:
        HandcnnError: the picture is to be prepared as a digit, and it is blank.
    """
    if preparation.name == "digits":
        return examine_picture(grey)
    return Prepared(prepare_whole(grey, preparation.background), False)


def prepare_whole(grey: Array, background: str = "any") -> Array:
    """Return a picture (H, W) in [0, 255] scaled whole: uint8 (28, 28).

    A picture of 28x28 with the right background is returned bit for bit.

    Args:
        grey: the picture.
        background: "dark" or "bright" to invert a picture with the other one, "any" to keep it.
    """
    level = background_levels(grey[None])[0]
    if background != "any" and (background == "bright") != (level >= BRIGHT):
        grey, level = 255 - grey, 255 - level
    height, width = grey.shape
    side = max(height, width)
    square = np.full((side, side), level, np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = grey
    method = Image.Resampling.BOX if side > FIELD else Image.Resampling.BILINEAR
    whole: Array = np.rint(resized(square, (FIELD, FIELD), method)).astype(np.uint8)
    return whole


def preparation_of_arrays(images: Array, class_names: Sequence[str]) -> str:
    """Return "digits" if images (N, 28, 28) in [0, 255] are digits drawn as MNIST's, else "whole".

    Clothes often have the labels 0 to 9, too, so the images decide.
    """
    examined = some_of(images, MAX_COMPARED)
    is_drawn = np.mean([is_like_mnist(image) for image in examined]) > 0.5
    return usual_preparation(class_names) if is_drawn else "whole"
