"""Data augmentation: training images moved or distorted at random, so that no two epochs are alike.

Each pixel of the new image is read at a place of the old one, with bilinear interpolation between
pixels (Simard, Steinkraus and Platt, 2003). The place comes from a random affine map and a random
smooth field of displacements. Both are linear in the random numbers, so one matrix product gives
the places of all pixels of a batch:

    places (N, H*W) = drawn (N, 3 + G*G) @ basis (3 + G*G, H*W)

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
# The largest values that `distort` draws: degrees; shares for scale and shear; pixels.
ROTATION, SCALE, SHEAR, MOVE, ELASTIC = 10.0, 0.1, 0.12, 1.6, 1.0
CACHED_IMAGES = 16  # images processed together, few enough to stay in cache
GRID = 5  # G: 5x5 random displacements, smoothly interpolated, form the field


def none(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Return the images as they are."""
    return x


def shift(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Return every image (N, C, H, W) moved by up to two whole pixels in each direction."""
    n = len(x)
    drawn = np.zeros((2, n, 3 + GRID**2), np.float32)
    drawn[0, :, 0] = drawn[1, :, 1] = 1
    drawn[:, :, 2] = rng.integers(-SHIFT, SHIFT, (2, n), endpoint=True)
    return _read_at(x, drawn)


def distort(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Return every image (N, C, H, W) slightly rotated, scaled, sheared, moved and bent."""
    return _read_at(x, _random_maps(len(x), rng))


def handwriting(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Return images of digits distorted, after some 1s got a flag or a base, and some 7s a bar.

    The strokes move the centre of mass; the map moves it back to where it was, as MNIST has it.
    """
    drawn = _random_maps(len(x), rng)
    x, moved = add_strokes(x, y, rng)
    drawn[:, :, 2] += moved.imag, moved.real
    return _read_at(x, drawn)


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


def _random_maps(n: int, rng: np.random.Generator) -> Array:
    """Return `drawn` (2, n, 3 + G*G) of n slight random distortions, as `_read_at` takes it."""
    angle, shear, *scales = rng.uniform(-1, 1, (4, n)) * [[ROTATION], [SHEAR], [SCALE], [SCALE]]
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    down, right = 1 + scales[0], 1 + scales[1]
    drawn = np.empty((2, n, 3 + GRID**2), np.float32)
    # The rows of the affine matrix: a rotation, times a shear, times the scales.
    drawn[0, :, :2] = np.stack([cos * down, (cos * shear - sin) * right], axis=1)
    drawn[1, :, :2] = np.stack([sin * down, (sin * shear + cos) * right], axis=1)
    drawn[:, :, 2] = rng.uniform(-MOVE, MOVE, (2, n))
    drawn[:, :, 3:] = rng.uniform(-ELASTIC, ELASTIC, (2, n, GRID**2))
    return drawn


def _read_at(x: Array, drawn: Array) -> Array:
    """Return images (N, C, H, W) whose pixels are read from x at the places that `drawn` gives.

    Args:
        x: the images.
        drawn: (2, N, 3 + G*G), for the rows and for the columns: the factors of y and x, a shift,
            and the displacements on the grid.
    """
    parts = [slice(start, start + CACHED_IMAGES) for start in range(0, len(x), CACHED_IMAGES)]
    return np.concatenate([_few_read_at(x[few], drawn[:, few]) for few in parts])


def _few_read_at(x: Array, drawn: Array) -> Array:
    """Do `_read_at` for so few images that they stay in cache."""
    n, c, h, w = x.shape
    rows, columns = drawn @ _basis(h, w)  # (N, H*W) each
    # A frame of zeros, 1 pixel wide above and left, 2 below and right: no read goes beyond it.
    framed = np.zeros((c, n, h + 3, w + 3), np.float32)
    framed[:, :, 1:-2, 1:-2] = x.swapaxes(0, 1)
    above, down = _whole_and_rest(rows + (h + 1) / 2, h + 1)
    left, right = _whole_and_rest(columns + (w + 1) / 2, w + 1)
    corner = (above * (w + 3) + left).astype(np.intp)
    corner += np.arange(n)[:, None] * ((h + 3) * (w + 3))
    out = np.empty((c, n, h * w), np.float32)
    for channel, pixels in zip(out, framed.reshape(c, -1), strict=True):
        # `take` is faster than an index. From a later start, it finds the other three corners.
        upper = _between(pixels.take(corner), pixels[1:].take(corner), right)
        lower = _between(pixels[w + 3 :].take(corner), pixels[w + 4 :].take(corner), right)
        channel[:] = _between(upper, lower, down)
    return out.swapaxes(0, 1).reshape(n, c, h, w)


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
def _basis(h: int, w: int) -> Array:
    """Return what one unit of each random number adds to each pixel's position: (3 + G*G, H*W).

    Rows: y, x (both measured from the middle of the image), 1, and a smooth bump around each grid
    point. The bumps add up to 1 at every pixel.
    """
    y, x = (np.arange(size) - (size - 1) / 2 for size in (h, w))
    grid = _bumps(h)[:, None, :, None] * _bumps(w)[None, :, None, :]  # (G, G, H, W)
    flat = [*np.meshgrid(y, x, indexing="ij"), np.ones((h, w)), *grid.reshape(-1, h, w)]
    return np.stack(flat).reshape(len(flat), h * w).astype(np.float32)


def _bumps(size: int) -> Array:
    """Return G bumps (G, size) along a line of pixels: half a cosine up, half a cosine down."""
    if size == 1:
        return np.full((GRID, 1), 1 / GRID)  # all points are at the one pixel
    points = np.linspace(0, size - 1, GRID)[:, None]
    distance = np.minimum(np.abs(np.arange(size) - points) / (points[1] - points[0]), 1)
    bumps: Array = (1 + np.cos(np.pi * distance)) / 2
    return bumps
