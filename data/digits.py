"""The small set: scikit-learn's own handwritten digits, redrawn the way MNIST was drawn.

`sklearn.datasets.load_digits` is part of scikit-learn, so it is there without a network: 1,797
digits of 8x8 pixels and 17 grey levels, written by 13 people (E. Alpaydin, C. Kaynak: Optical
Recognition of Handwritten Digits, UCI 1998). They are no replacement for MNIST: a fortieth of the
images, blurred, and easier.
"""

import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]

SIDE = 28  # of an image of MNIST
BOX = 20  # of the ink in it
LEVELS = 16.0  # the darkest ink of load_digits
# Enlarging spreads the strokes. Taking off the faint rim and stretching the rest gives them about
# the width and the blackness of MNIST's.
RIM, STRETCH = 0.15, 1.5


def load_digits_like_mnist() -> tuple[UInt8, UInt8]:
    """Return the digits bundled with scikit-learn: images (1797, 28, 28), labels (1797,)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return draw_like_mnist(bunch.images), bunch.target.astype(np.uint8)


def draw_like_mnist(images: npt.NDArray[np.float64]) -> UInt8:
    """Enlarge (N, 8, 8) images of 0..16 to 20x20 and centre them by mass: (N, 28, 28) uint8."""
    from scipy import ndimage

    factor = BOX / images.shape[1]
    ink = ndimage.zoom(
        images / LEVELS, (1, factor, factor), order=3, mode="grid-constant", grid_mode=True
    )
    ink = np.clip((ink - RIM) * STRETCH, 0.0, 1.0)
    drawn = np.zeros((len(ink), SIDE, SIDE), dtype=np.uint8)
    for canvas, box in zip(drawn, np.rint(255 * ink), strict=True):
        top, left = (_offset(box.sum(axis=axis)) for axis in (1, 0))
        canvas[top : top + BOX, left : left + BOX] = box
    return drawn


def _offset(profile: npt.NDArray[np.float64]) -> int:
    """Return where the box must begin for the mass of `profile` to be in the middle of 28."""
    mass = profile.sum()
    centre = profile @ np.arange(BOX) / mass if mass else (BOX - 1) / 2
    return int(np.clip(round((SIDE - 1) / 2 - centre), 0, SIDE - BOX))
