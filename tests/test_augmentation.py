"""Shifted and distorted images.

Oracles: the map and the interpolation as loops over pixels; slices of the image for shifts by whole
pixels; the largest values declared in the module. `coefficients` holds the numbers of an
augmentation, the argument of `_read_at`; the fixture `recorded` records it.
"""

from collections.abc import Sequence
from math import ceil, cos, floor, pi
from unittest import mock

import numpy as np
import pytest
import reference
from builders import close

from handcnn import augmentation
from handcnn.augmentation import (
    AUGMENTATIONS,
    ELASTIC,
    GRID,
    MOVE,
    ROTATION,
    SCALE,
    SHEAR,
    SHIFT,
    _read_at,
    distort,
    fitting,
    handwriting,
    shift,
)
from handcnn.types import Array, Shape

SHAPES = [(3, 1, 28, 28), (2, 3, 7, 10), (1, 2, 6, 5), (40, 1, 9, 8), (2, 1, 1, 9)]
every_shape = pytest.mark.parametrize("shape", SHAPES)
RANDOM = {name: augment for name, augment in AUGMENTATIONS.items() if name != "none"}
every_augmentation = pytest.mark.parametrize("augment", RANDOM.values(), ids=RANDOM)
moving = pytest.mark.parametrize("augment", [shift, distort, handwriting])


def images(shape: Shape, seed: int = 0) -> Array:
    return np.random.default_rng(seed).random(shape, np.float32)


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def labels(x: Array) -> Array:
    """Return one-hot labels (N, 10): 0 to 9, again and again."""
    return np.eye(10, dtype=np.float32)[np.arange(len(x)) % 10]


def maps(n: int, rows: tuple[float, ...], columns: tuple[float, ...]) -> Array:
    """Return the same coefficients for n images: factors of y and x, a shift, no displacements."""
    coefficients = np.zeros((2, n, 3 + GRID**2), np.float32)
    coefficients[:, :, :3] = np.array([rows, columns])[:, None]
    return coefficients


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Array]:
    """Return a list that records every `coefficients`."""
    collected: list[Array] = []

    def collecting(x: Array, coefficients: Array) -> Array:
        collected.append(coefficients.copy())
        return _read_at(x, coefficients)

    monkeypatch.setattr(augmentation, "_read_at", collecting)
    return collected


# --- the loops -----------------------------------------------------------------------------------


def bump(place: int, point: int, size: int) -> float:
    """Return the bump of a grid point: half a cosine up, then half a cosine down."""
    spacing = (size - 1) / (GRID - 1)
    distance = abs(place - point * spacing) / spacing
    return (1 + cos(pi * distance)) / 2 if distance < 1 else 0.0


def place_by_loops(line: Array, i: int, j: int, h: int, w: int) -> float:
    """Return the row or column, measured from the middle, at which pixel (i, j) is read."""
    place = line[0] * (i - (h - 1) / 2) + line[1] * (j - (w - 1) / 2) + line[2]
    for u, v in reference.indices(GRID, GRID):
        place += line[3 + u * GRID + v] * bump(i, u, h) * bump(j, v, w)
    return float(place)


def pixel(image: Array, row: int, column: int) -> float:
    """Return a pixel, or 0 outside the image."""
    h, w = image.shape
    return float(image[row, column]) if 0 <= row < h and 0 <= column < w else 0.0


def read_by_loops(x: Array, coefficients: Array) -> Array:
    """Return the expected result of `_read_at`, by bilinear interpolation of four pixels."""
    out = np.zeros(x.shape)
    h, w = x.shape[2:]
    for n, c, i, j in reference.indices(*x.shape):
        row = place_by_loops(coefficients[0, n].astype(float), i, j, h, w) + (h - 1) / 2
        column = place_by_loops(coefficients[1, n].astype(float), i, j, h, w) + (w - 1) / 2
        for y in {floor(row), ceil(row)}:
            for z in {floor(column), ceil(column)}:
                nearness = (1 - abs(row - y)) * (1 - abs(column - z))
                out[n, c, i, j] += nearness * pixel(x[n, c], y, z)
    return out


@pytest.mark.parametrize("shape", [(2, 1, 12, 11), (2, 3, 7, 10), (1, 2, 5, 6)])
@pytest.mark.parametrize("strength", [1, 4])
def test_distortions_agree_with_the_loops(
    recorded: list[Array], shape: Shape, strength: float
) -> None:
    """At four times the strength, many places lie outside the image."""
    x = images(shape)
    close(distort(x, labels(x), rng()), read_by_loops(x, recorded[0]), 1e-5)
    wild = recorded[0] * strength
    close(_read_at(x, wild), read_by_loops(x, wild), 1e-5)


# --- what is exact -------------------------------------------------------------------------------


@every_shape
def test_the_identity_is_exact(shape: Shape) -> None:
    x = images(shape)
    np.testing.assert_array_equal(_read_at(x, maps(len(x), (1, 0, 0), (0, 1, 0))), x)


def moved(image: Array, down: int, right: int) -> Array:
    """Return an image (C, H, W) shifted by whole pixels; 0 comes in at the edges."""
    h, w = image.shape[1:]
    room = max(abs(down), abs(right), 1)
    wide = np.pad(image, ((0, 0), (room, room), (room, room)))
    return wide[:, room - down : room - down + h, room - right : room - right + w]


@every_shape
@pytest.mark.parametrize(
    ("down", "right"), [(1, 0), (0, -1), (-2, 2), (3, 1), (0, 4), (-5, 0), (99, 0), (0, -99)]
)
def test_moves_by_whole_pixels_are_exact(shape: Shape, down: int, right: int) -> None:
    """Pixels that leave the image are lost, and 0 comes in."""
    x = images(shape)
    out = _read_at(x, maps(len(x), (1, 0, -down), (0, 1, -right)))
    np.testing.assert_array_equal(out, [moved(image, down, right) for image in x])


def test_mirrors_and_a_quarter_turn_are_exact() -> None:
    """Swapped rows and columns, or wrong signs, would fail here."""
    x = images((2, 2, 8, 8))
    for rows, columns, expected in (
        ((-1, 0, 0), (0, 1, 0), x[:, :, ::-1]),
        ((1, 0, 0), (0, -1, 0), x[:, :, :, ::-1]),
        ((0, 1, 0), (1, 0, 0), x.swapaxes(2, 3)),
        ((0, 1, 0), (-1, 0, 0), np.rot90(x, 1, axes=(2, 3))),
    ):
        np.testing.assert_array_equal(_read_at(x, maps(2, rows, columns)), expected)


def test_a_place_half_outside_is_half_as_bright() -> None:
    out = _read_at(np.ones((1, 1, 4, 6), np.float32), maps(1, (1, 0, 0.5), (0, 1, -0.5)))
    np.testing.assert_array_equal(
        out[0, 0],
        [[0.5, 1, 1, 1, 1, 1], [0.5, 1, 1, 1, 1, 1], [0.5, 1, 1, 1, 1, 1], [0.25, *[0.5] * 5]],
    )


@every_shape
def test_equal_displacements_on_the_whole_grid_are_a_move(shape: Shape) -> None:
    """The bumps add up to 1 at every pixel."""
    x = images(shape)
    displaced = maps(len(x), (1, 0, 0), (0, 1, 0))
    displaced[0, :, 3:], displaced[1, :, 3:] = 1, -2
    out = _read_at(x, displaced)
    close(out, np.array([moved(image, -1, 2) for image in x]), 1e-5)


# --- what is random -------------------------------------------------------------------------------


def test_shifts_are_all_moves_of_up_to_two_pixels_and_no_others() -> None:
    """Each of the 25 occurs 40 times on average in 1,000 images; 9 standard deviations allowed."""
    image = images((1, 9, 12))
    x = np.repeat(image[None], 1000, axis=0)
    out = shift(x, labels(x), rng())
    steps = range(-SHIFT, SHIFT + 1)
    counts = [
        (out == moved(image, down, right)).all(axis=(1, 2, 3)).sum()
        for down in steps
        for right in steps
    ]
    assert SHIFT == 2
    assert sum(counts) == 1000
    assert min(counts) >= 8
    assert max(counts) <= 96


def test_distortions_stay_within_what_is_declared(recorded: list[Array]) -> None:
    """They also come close to the limits. The affine map is rotation times shear times scale."""
    x = np.zeros((4000, 1, 8, 8), np.float32)
    distort(x, labels(x), rng())
    coefficients = recorded[0].astype(float)
    a, b, c, d = (coefficients[row, :, column] for row in (0, 1) for column in (0, 1))
    down = np.hypot(a, c)  # [a, c] = down * [cos, sin]
    angle = np.degrees(np.arctan2(c, a))
    # After undoing the rotation, the second column is right * [shear, 1].
    right = (a * d - b * c) / down
    shear = (a * b + c * d) / (down * right)
    for name, values, largest in (
        ("angle", angle, ROTATION),
        ("down", down - 1, SCALE),
        ("right", right - 1, SCALE),
        ("shear", shear, SHEAR),
        ("move down", coefficients[0, :, 2], MOVE),
        ("move right", coefficients[1, :, 2], MOVE),
        ("displacements", coefficients[:, :, 3:], ELASTIC),
    ):
        assert np.abs(values).max() <= largest * 1.0001, name
        assert min(values.max(), -values.min()) > 0.98 * largest, name
        error = largest / (3 * values.size) ** 0.5  # of the mean of uniform numbers
        assert abs(values.mean()) < 4 * error, name
    assert (
        np.abs(np.corrcoef([angle, down, right, shear, *coefficients[:, :, 2]]) - np.eye(6)).max()
        < 0.1
    )


def test_a_dot_goes_no_farther_than_declared() -> None:
    """In the middle only shifts and displacements act, and their average is 0."""
    y, x = np.indices((28, 28)) - 13.5
    dot = np.exp(-(x**2 + y**2) / 8).astype(np.float32)
    dots = np.repeat(dot[None, None], 1000, axis=0)
    out = distort(dots, labels(dots), rng())[:, 0]
    weights = out / out.sum(axis=(1, 2), keepdims=True)
    centres = np.array([(weights * y).sum(axis=(1, 2)), (weights * x).sum(axis=(1, 2))])
    assert np.abs(centres).max() < MOVE + ELASTIC + 0.5  # the map distorts the dot a little
    assert 0.5 < np.abs(centres).mean() < MOVE / 2 + ELASTIC / 2
    assert (np.abs(centres.mean(axis=1)) < 4 * centres.std(axis=1) / 1000**0.5).all()


# --- one draw for each image, again and again ----------------------------------------------------


@every_augmentation
def test_equal_images_come_out_differently(augment: augmentation.Augmentation) -> None:
    x = np.repeat(images((1, 1, 12, 12)), 6, axis=0)
    out = augment(x, labels(x), rng(0))
    assert len({image.tobytes() for image in out}) == 6
    assert (augment(x, labels(x), rng(0)) == out).all()
    assert (augment(x, labels(x), rng(2)) != out).any()


@moving
def test_all_channels_of_an_image_move_together(augment: augmentation.Augmentation) -> None:
    x = images((5, 1, 9, 8))
    out = augment(np.concatenate([x, 2 * x], axis=1), labels(x), rng())
    np.testing.assert_array_equal(out[:, 1], 2 * out[:, 0])
    np.testing.assert_array_equal(out[:, :1], augment(x, labels(x), rng()))


@moving
@pytest.mark.parametrize("few", [1, 3, 16, 100])
def test_how_many_are_read_at_a_time_changes_nothing(
    augment: augmentation.Augmentation, few: int
) -> None:
    """Except for rounding: BLAS may add in another order."""
    x = images((40, 2, 9, 8))
    expected = augment(x, labels(x), rng())
    with mock.patch.object(augmentation, "CACHED_IMAGES", few):
        close(augment(x, labels(x), rng()), expected, 1e-6)


@every_augmentation
def test_the_images_are_never_written_into(augment: augmentation.Augmentation) -> None:
    x = images((20, 1, 12, 12))
    kept = x.copy()
    x.flags.writeable = False
    out = augment(x, labels(x), rng())
    assert not np.shares_memory(out, x)
    assert out.dtype == np.float32
    assert out.flags.c_contiguous
    np.testing.assert_array_equal(x, kept)


def test_none_changes_nothing_and_draws_nothing() -> None:
    x, generator = images((2, 1, 5, 5)), rng()
    assert AUGMENTATIONS["none"](x, labels(x), generator) is x
    assert generator.random() == rng().random()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("0123456789", "handwriting"),
        ("9876543210", "distort"),
        ("01234567890", "distort"),
        ("01", "distort"),
        (["T-shirt", "trousers", *"23456789"], "distort"),
        ("abcdefghij", "distort"),
    ],
)
def test_strokes_are_for_the_ten_digits_and_no_other_classes(
    names: Sequence[str], expected: str
) -> None:
    assert fitting("handwriting", names) == expected
    for name in AUGMENTATIONS.keys() - {"handwriting"}:
        assert fitting(name, names) == name
