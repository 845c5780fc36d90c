"""The small set: scikit-learn's own handwritten digits, redrawn the way MNIST was drawn.

`sklearn.datasets.load_digits` is part of scikit-learn, so it is there without a network: 1,797
digits of 8x8 pixels and 17 grey levels, written by 13 people (E. Alpaydin, C. Kaynak: Optical
Recognition of Handwritten Digits, UCI 1998). They are no replacement for MNIST: they are blurred,
easier to read, and there is one of them for 39 of MNIST.

Size and place are the work of the code that prepares pictures for predict.py, so that a network
trained on these digits meets other people's digits drawn in the same way.
"""

import numpy as np

from handcnn.types import Array

LEVELS = 16  # the darkest ink of load_digits
FINER = 5  # 8x8 pixels become 40x40, twice as fine as the box that the ink is fitted to
# Enlarging spreads the strokes. Taking off the faint rim and stretching the rest gives them about
# the width and the blackness of MNIST's.
RIM, STRETCH = 0.15, 1.5


def load_digits_like_mnist() -> tuple[Array, Array]:
    """Return the digits bundled with scikit-learn: images (1797, 28, 28), labels (1797,), uint8."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return draw_like_mnist(bunch.images), bunch.target.astype(np.uint8)


def draw_like_mnist(images: Array) -> Array:
    """Return digits (N, 8, 8) of 0..16 drawn as MNIST does: uint8 (N, 28, 28)."""
    from handcnn.pictures.drawing import fit_and_centre  # loads Pillow and SciPy

    ink = np.clip((_enlarged(images / LEVELS) - RIM) * STRETCH, 0, 1)
    return np.stack([fit_and_centre(digit) for digit in ink])


def _enlarged(images: Array) -> Array:
    """Return images (N, 8, 8) as (N, 40, 40), by cubic splines; outside an image there is paper.

    Each output row is the same sum of input rows in every image, and so are the columns.
    """
    from scipy import ndimage

    weights = ndimage.zoom(
        np.eye(images.shape[1]), (FINER, 1), order=3, mode="grid-constant", grid_mode=True
    )  # (40, 8)
    enlarged: Array = weights @ images @ weights.T
    return enlarged
