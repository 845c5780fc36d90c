"""The small set: scikit-learn's own handwritten digits, scaled and centred like MNIST.

`sklearn.datasets.load_digits` is part of scikit-learn, so it works offline: 1,797 digits of 8x8
pixels and 17 grey levels, written by 13 people (E. Alpaydin, C. Kaynak: Optical Recognition of
Handwritten Digits, UCI 1998). They are no replacement for MNIST: they are blurred and easier to
read, and MNIST has 39 times as many.

The code that prepares pictures for predict.py scales and centres them, so that a network trained on
these digits sees other people's digits drawn in the same way.
"""

import numpy as np

from handcnn.types import Array

LEVELS = 16  # the darkest ink of load_digits
FINER = 5  # 8x8 pixels become 40x40, twice the 20x20 box that the ink is fitted to
# Enlarging blurs the strokes. Cutting off the faint rim and stretching the rest gives them about
# the width and darkness of MNIST's.
RIM, STRETCH = 0.15, 1.5


def load_digits_like_mnist() -> tuple[Array, Array]:
    """Return the digits bundled with scikit-learn: images (1797, 28, 28), labels (1797,), uint8."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return draw_like_mnist(bunch.images), bunch.target.astype(np.uint8)


def draw_like_mnist(images: Array) -> Array:
    """Return digits (N, 8, 8) of 0..16 in the form of MNIST: uint8 (N, 28, 28)."""
    from handcnn.pictures.drawing import fit_and_centre  # loads Pillow and SciPy

    ink = np.clip((_enlarged(images / LEVELS) - RIM) * STRETCH, 0, 1)
    return np.stack([fit_and_centre(digit) for digit in ink])


def _enlarged(images: Array) -> Array:
    """Return images (N, 8, 8) enlarged to (N, 40, 40) by cubic splines, with 0 outside an image.

    The enlargement is linear and the same for rows and columns, so it is one matrix from each side.
    """
    from scipy import ndimage

    weights = ndimage.zoom(
        np.eye(images.shape[1]), (FINER, 1), order=3, mode="grid-constant", grid_mode=True
    )  # (40, 8)
    enlarged: Array = weights @ images @ weights.T
    return enlarged
