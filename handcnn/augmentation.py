"""Data augmentation: training images moved or distorted at random, so that no two epochs are alike.

Each pixel of the new image is read at a place of the old one, with bilinear interpolation between
pixels (Simard, Steinkraus and Platt, 2003). The place comes from a random affine map and a random
smooth field of displacements. Both are linear in the random numbers, so one matrix product gives
the places of all pixels of a batch:

    places (N, H*W) = coefficients (N, 3 + GRID**2) @ basis (3 + GRID**2, H*W)

once for the rows and once for the columns. Outside the image, all pixels are 0.

Clothes and letters may be distorted like digits, but nobody writes a 1 among them: `fitting` says
which augmentation the classes allow.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from handcnn.strokes import add_strokes
from handcnn.text import are_digits
from handcnn.types import Array

# Takes images (N, C, H, W), one-hot labels (N, K) and a random generator; returns new images.
Augmentation = Callable[[Array, Array, np.random.Generator], Array]

SHIFT = 2  # pixels, the farthest that `shift` moves an image in each direction
# The largest values that `distort` uses: degrees; shares for scale and shear; pixels.
ROTATION, SCALE, SHEAR, MOVE, ELASTIC = 10.0, 0.1, 0.12, 1.6, 1.0
CACHED_IMAGES = 16  # images processed together, few enough to stay in cache
GRID = 5  # 5x5 random displacements, smoothly interpolated, form the field


def none(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Return the images as they are."""
    return x


def shift(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Return every image (N, C, H, W) moved by up to two whole pixels in each direction."""
    N = len(x)
    coefficients = np.zeros((2, N, 3 + GRID**2), np.float32)
    coefficients[0, :, 0] = coefficients[1, :, 1] = 1
    coefficients[:, :, 2] = rng.integers(-SHIFT, SHIFT, (2, N), endpoint=True)
    return _read_at(x, coefficients)


def distort(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Return every image (N, C, H, W) slightly rotated, scaled, sheared, moved and bent."""
    return _read_at(x, _random_maps(len(x), rng))


def handwriting(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Return images of digits distorted, after some 1s got a flag or a base, and some 7s a bar.

    The strokes move the centre of mass; the map moves it back to where it was, as MNIST has it.
    """
    coefficients = _random_maps(len(x), rng)
    x, moved = add_strokes(x, y, rng)
    coefficients[:, :, 2] += moved.imag, moved.real
    return _read_at(x, coefficients)


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": none,
    "shift": shift,
    "distort": distort,
    "handwriting": handwriting,
}


def fitting(name: str, class_names: Sequence[str]) -> str:
    """Return the name of an augmentation, with "distort" for "handwriting" if these are no digits.

    Whoever trains calls it, so that only the ten digits ever get strokes.
    """
    return "distort" if name == "handwriting" and not are_digits(class_names) else name


def _random_maps(N: int, rng: np.random.Generator) -> Array:
    """Return the coefficients of N slight random distortions, as `_read_at` takes them."""
    angle, shear, *scales = rng.uniform(-1, 1, (4, N)) * [[ROTATION], [SHEAR], [SCALE], [SCALE]]
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    down, right = 1 + scales[0], 1 + scales[1]
    coefficients = np.empty((2, N, 3 + GRID**2), np.float32)
    # The rows of the affine matrix: a rotation, times a shear, times the scales.
    coefficients[0, :, :2] = np.stack([cos * down, (cos * shear - sin) * right], axis=1)
    coefficients[1, :, :2] = np.stack([sin * down, (sin * shear + cos) * right], axis=1)
    coefficients[:, :, 2] = rng.uniform(-MOVE, MOVE, (2, N))
    coefficients[:, :, 3:] = rng.uniform(-ELASTIC, ELASTIC, (2, N, GRID**2))
    return coefficients


def _read_at(x: Array, coefficients: Array) -> Array:
    """Return images (N, C, H, W) whose pixels are read from x, each at a place of its own.

    Args:
        x: the images.
        coefficients: (2, N, 3 + GRID**2), for the rows and for the columns: the factors of y and
            x, a shift, and the displacements on the grid.
    """
    parts = [slice(start, start + CACHED_IMAGES) for start in range(0, len(x), CACHED_IMAGES)]
    return np.concatenate([_few_read_at(x[few], coefficients[:, few]) for few in parts])


def _few_read_at(x: Array, coefficients: Array) -> Array:
    """Do `_read_at` for so few images that they stay in cache."""
    N, C, H, W = x.shape
    rows, columns = coefficients @ _basis(H, W)  # (N, H*W) each
    # A frame of zeros, 1 pixel wide above and left, 2 below and right: no read goes beyond it.
    framed = np.zeros((C, N, H + 3, W + 3), np.float32)
    framed[:, :, 1:-2, 1:-2] = x.swapaxes(0, 1)
    above, down = _whole_and_rest(rows + (H + 1) / 2, H + 1)
    left, right = _whole_and_rest(columns + (W + 1) / 2, W + 1)
    corner = (above * (W + 3) + left).astype(np.intp)
    corner += np.arange(N)[:, None] * ((H + 3) * (W + 3))
    out = np.empty((C, N, H * W), np.float32)
    for channel, pixels in zip(out, framed.reshape(C, -1), strict=True):
        # `take` is faster than an index. From a later start, it finds the other three corners.
        upper = _between(pixels.take(corner), pixels[1:].take(corner), right)
        lower = _between(pixels[W + 3 :].take(corner), pixels[W + 4 :].take(corner), right)
        channel[:] = _between(upper, lower, down)
    return out.swapaxes(0, 1).reshape(N, C, H, W)


def _whole_and_rest(places: Array, largest: int) -> tuple[Array, Array]:
    """Return the whole and the fractional part of `places` clipped to 0..largest."""
    places = np.clip(places, 0, largest)
    whole = np.floor(places)  # kept as floats: converting costs more than the arithmetic
    return whole, places - whole


def _between(a: Array, b: Array, share: Array) -> Array:
    """Return a + share * (b - a). `b` is overwritten."""
    b -= a
    b *= share
    b += a
    return b


@cache
def _basis(H: int, W: int) -> Array:
    """Return what a coefficient of 1 adds to each pixel's position: (3 + GRID**2, H*W).

    Rows: y, x (both measured from the middle of the image), 1, and a smooth bump around each grid
    point. The bumps add up to 1 at every pixel.
    """
    y, x = (np.arange(size) - (size - 1) / 2 for size in (H, W))
    grid = _bumps(H)[:, None, :, None] * _bumps(W)[None, :, None, :]  # (GRID, GRID, H, W)
    flat = [*np.meshgrid(y, x, indexing="ij"), np.ones((H, W)), *grid.reshape(-1, H, W)]
    return np.stack(flat).reshape(len(flat), H * W).astype(np.float32)


def _bumps(size: int) -> Array:
    """Return bumps (GRID, size) along a line of pixels: half a cosine up, half a cosine down."""
    if size == 1:
        return np.full((GRID, 1), 1 / GRID)  # all points are at the one pixel
    points = np.linspace(0, size - 1, GRID)[:, None]
    distance = np.minimum(np.abs(np.arange(size) - points) / (points[1] - points[0]), 1)
    bumps: Array = (1 + np.cos(np.pi * distance)) / 2
    return bumps
