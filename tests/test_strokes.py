"""Flags and bases of 1s, bars of 7s.

Oracles: digits composed here from a stem of known place, width, slope and grey; distances to many
points along a line; the limits declared in the module. Strokes are measured on what was added.
"""

from math import cos

import numpy as np
import pytest
import reference

from data.digits import load_digits_like_mnist
from handcnn import augmentation, strokes
from handcnn.augmentation import distort, handwriting
from handcnn.strokes import ACROSS, ANGLE, CROSSING, FLAG, TILT, _lines, add_strokes, find_stems
from handcnn.types import Array

TOP, FOOT, MIDDLE = 4, 23, 13.5  # first and last row of the stems, and their column halfway
FINE = 8  # each pixel is the mean of 8x8 points


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def stem(width: float = 3, slope: float = 0, grey: float = 1) -> Array:
    """Return an image (28, 28) of a straight stem, `slope` columns to the right for each row."""
    rows, columns = (np.indices((28 * FINE, 28 * FINE)) + 0.5) / FINE - 0.5
    across = (columns - MIDDLE - slope * (rows - (TOP + FOOT) / 2)) / np.hypot(1, slope)
    ink = (abs(across) <= width / 2) & (rows >= TOP - 0.5) & (rows <= FOOT + 0.5)
    image: Array = grey * ink.reshape(28, FINE, 28, FINE).mean(axis=(1, 3))
    return image


def repeated(image: Array, digit: int, n: int = 1) -> tuple[Array, Array]:
    """Return n copies of an image (28, 28) as images (n, 1, 28, 28), with one-hot labels."""
    x = np.repeat(image[None, None], n, axis=0).astype(np.float32)
    return x, np.repeat(np.eye(10, dtype=np.float32)[[digit]], n, axis=0)


def bundled(*digits: int) -> tuple[Array, Array]:
    """Return people's digits that come with scikit-learn, drawn like MNIST, with their labels."""
    images, numbers = load_digits_like_mnist()
    chosen = np.isin(numbers, digits)
    x = images[chosen, None] / np.float32(255)
    return x, np.eye(10, dtype=np.float32)[numbers[chosen]]


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let every 1 get a flag, no 1 a base, and every 7 a bar."""
    for name, share in {"FLAGS": 1, "BASES": 0, "BARS": 1}.items():
        monkeypatch.setattr(strokes, name, share)
    return monkeypatch


# --- one line ------------------------------------------------------------------------------------


def line_by_loops(start: complex, end: complex, pen: float, h: int, w: int) -> Array:
    """Return the ink of a line, from the distance of each pixel to the nearest of many points."""
    points = start + np.linspace(0, 1, 1000) * (end - start)
    out = np.empty((h, w))
    for i, j in reference.indices(h, w):
        distance = np.abs(j + 1j * i - points).min()
        out[i, j] = min(max(pen / 2 + 0.5 - distance, 0), 1)
    return out


def test_lines_agree_with_the_loops() -> None:
    starts, ends = np.array([5 + 2j, 3 + 3j, -4 + 5.5j]), np.array([2.5 + 8j, 9 + 3j, 20 - 1j])
    pens = np.array([1, 2.5, 4])
    expected = [line_by_loops(*line, 10, 12) for line in zip(starts, ends, pens, strict=True)]
    np.testing.assert_allclose(_lines(starts, ends, pens, (10, 12)), expected, atol=2e-3)


# --- the stem ------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [2, 3, 5])
@pytest.mark.parametrize("slope", [-0.4, 0, 0.25])
@pytest.mark.parametrize("grey", [0.3, 1])
def test_the_stem_of_a_composed_digit_is_found(width: float, slope: float, grey: float) -> None:
    (found,) = find_stems(stem(width, slope, grey)[None])
    assert found
    assert found.pen == pytest.approx(width, abs=0.25)
    assert found.slope == pytest.approx(slope, abs=0.05)
    for place, row in (
        (found.top, TOP - 0.5 + width / 2),  # the pen's middle
        (found.crossing, TOP + CROSSING * (FOOT - TOP)),
        (found.foot, FOOT + 0.5 - width / 2),
    ):
        column = MIDDLE + slope * (row - (TOP + FOOT) / 2)
        assert abs(place - (column + 1j * row)) < 1


ROWS, COLUMNS = np.indices((28, 28))
UNCLEAR = {  # what each image shows
    "blank": np.zeros((28, 28)),
    "trousers": (abs(COLUMNS - 13.5) < 6) * 1.0,
    "narrow trousers that fill the height": (abs(COLUMNS - 13.5) < 2) * 1.0,
    "shoe": ((ROWS > 10) & (ROWS < 20)) * 1.0,
    "block": (np.maximum(abs(ROWS - 13.5), abs(COLUMNS - 13.5)) < 9) * 1.0,
    "thick": stem(8),
    "slanting": stem(3, -0.8),
    "broken": stem() * (abs(ROWS - 17) > 2),
    "dark on light": 1 - stem(),
    "standardised": 2 * stem() - 0.4,
}


@pytest.mark.parametrize("name", UNCLEAR)
@pytest.mark.parametrize("digit", [1, 7])
@pytest.mark.usefixtures("always")
def test_what_shows_no_clear_stem_stays_as_it_is(name: str, digit: int) -> None:
    x, y = repeated(UNCLEAR[name], digit)
    out, moved = add_strokes(x, y, rng())
    np.testing.assert_array_equal(out, x)
    assert not moved.any()


# --- what is added -------------------------------------------------------------------------------


def added(image: Array, digit: int, n: int = 400) -> Array:
    """Return only what is added to n copies of an image (28, 28)."""
    x, y = repeated(image, digit, n)
    out, _ = add_strokes(x, y, rng())
    assert (out >= x).all()
    return (out - x)[:, 0]


def reach(ink: Array, start: complex) -> tuple[Array, Array]:
    """Return how far the ink of each image reaches from a place, and its direction from there."""
    arrows = COLUMNS + 1j * ROWS - start
    farthest = np.where(ink > 0.5, np.abs(arrows), 0).reshape(len(ink), -1).max(axis=1)
    return farthest, (ink * arrows).sum(axis=(1, 2)) / ink.sum(axis=(1, 2))


@pytest.mark.parametrize(("pen", "slope"), [(2, 0), (2, -0.3), (3, 0.2)])
@pytest.mark.usefixtures("always")
def test_flags_go_down_to_the_left_from_the_top(pen: float, slope: float) -> None:
    """They come close to the limits of length and angle, and not beyond."""
    ink = added(stem(pen, slope), 1)
    row = TOP - 0.5 + pen / 2
    height = FOOT - TOP + 1 - pen
    start = MIDDLE + slope * (row - (TOP + FOOT) / 2) + 1j * row
    length, arrow = reach(ink, start)
    length -= pen / 2
    shortest, longest = (share * height for share in FLAG)
    assert shortest - 1 < length.min() < shortest + 1
    assert longest - 1 < length.max() < longest + 1
    angle = np.degrees(np.angle(arrow / 1j))[length > 6]  # from straight down, to the left
    lean = np.degrees(np.arctan(-slope))
    assert ANGLE[0] + lean - 4 < angle.min() < ANGLE[0] + lean + 8  # the stem hides a part
    assert min(ANGLE[1] + min(lean, 0), ANGLE[1]) - 5 < angle.max() < ANGLE[1] + 5


@pytest.mark.parametrize(("digit", "share"), [(1, 1), (7, CROSSING)])
def test_bases_and_bars_lie_across_the_stem(
    always: pytest.MonkeyPatch, digit: int, share: float
) -> None:
    """A base at the foot, a bar at the crossing, to the left as well as to the right."""
    always.setattr(strokes, "BASES", 1)
    always.setattr(strokes, "FLAG", (0, 0.01))  # hidden in the stem
    pen, height = 2, FOOT - TOP - 1
    ink = added(stem(pen), digit)
    row = TOP + 0.5 + share * height
    strong: Array = np.any(ink > 0.5, axis=1)
    shortest, longest = (distance * height + pen / 2 for distance in ACROSS)
    for side in (MIDDLE - strong.argmax(axis=1), 27 - strong[:, ::-1].argmax(axis=1) - MIDDLE):
        assert shortest - 1 < side.min() < shortest + 1
        assert longest - 1 < side.max() < longest + 1
    centre = (ink.sum(axis=2) @ np.arange(28)) / ink.sum(axis=(1, 2))
    assert np.abs(centre - row).max() < pen / 2 + TILT * longest / 2
    assert abs(centre.mean() - row) < 0.5


@pytest.mark.parametrize("pen", [2, 4])
@pytest.mark.parametrize("grey", [0.4, 1])
def test_the_pen_is_that_of_the_digit(always: pytest.MonkeyPatch, pen: float, grey: float) -> None:
    """The column of a bar beside the stem holds as much ink as the pen is wide."""
    always.setattr(strokes, "ACROSS", (0.3, 0.35))
    ink = added(stem(pen, 0, grey), 7)
    assert ink.max() == pytest.approx(grey, rel=1e-6)
    column = int(MIDDLE - pen / 2 - 1)
    widths = ink[:, :, column].sum(axis=1) / grey
    assert widths.min() > 0.95 * pen
    assert widths.max() < 1.05 * pen / cos(TILT)


# --- which images --------------------------------------------------------------------------------


def test_some_1s_and_7s_get_strokes_and_no_other_digit() -> None:
    """Shares within four standard deviations of what is declared; the input stays as it is."""
    x, _ = repeated(stem(), 0, 4000)
    numbers = np.arange(4000) % 10
    y = np.eye(10, dtype=np.float32)[numbers]
    x.flags.writeable = False
    out, moved = add_strokes(x, y, rng())
    changed = np.not_equal(moved, 0)
    np.testing.assert_array_equal((out != x).any(axis=(1, 2, 3)), changed)
    for digit in range(10):
        share = {1: strokes.FLAGS, 7: strokes.BARS}.get(digit, 0)
        error = (share * (1 - share) / 400) ** 0.5
        assert abs(changed[numbers == digit].mean() - share) <= 4 * error


def test_images_without_new_strokes_are_exactly_those_of_distort() -> None:
    x, y = bundled(*range(10))
    out, plain = handwriting(x, y, rng(3)), distort(x, y, rng(3))
    differ = (out != plain).any(axis=(1, 2, 3))
    assert not differ[y[:, [0, 2, 3, 4, 5, 6, 8, 9]].any(axis=1)].any()
    assert 10 < differ[y[:, 1] == 1].sum() < 100
    assert 0 < differ[y[:, 7] == 1].sum() < 60  # most have a bar of their own


@pytest.mark.usefixtures("always")
def test_equal_labels_and_generators_give_equal_strokes() -> None:
    """How many numbers are drawn does not depend on the images."""
    x, y = bundled(1, 7)
    one, other = rng(5), rng(5)
    np.testing.assert_array_equal(add_strokes(x, y, one)[0], add_strokes(x, y, other)[0])
    add_strokes(x, y[::-1], one)
    add_strokes(0 * x, y, other)
    assert one.random() == other.random()


def test_no_image_and_no_1_among_them() -> None:
    for x, y in (bundled(3), (np.zeros((0, 1, 28, 28), np.float32), np.zeros((0, 10)))):
        np.testing.assert_array_equal(add_strokes(x, y, rng())[0], x)


@pytest.mark.usefixtures("always")
def test_channels_keep_their_colour() -> None:
    x, y = repeated(stem(), 1, 50)
    coloured = np.concatenate([x, x / 2, 0 * x], axis=1)
    out, _ = add_strokes(coloured, y, rng())
    np.testing.assert_allclose(out, out[:, :1] * [[[[1]], [[0.5]], [[0]]]], atol=1e-6)
    np.testing.assert_array_equal(out[:, :1], add_strokes(x, y, rng())[0])


# --- the frame -----------------------------------------------------------------------------------


def centres(x: Array) -> Array:
    """Return the rows and columns of the centres of mass (2, N)."""
    mass = x[:, 0] / x.sum(axis=(1, 2, 3))[:, None, None]
    return np.array([mass.sum(axis=2) @ np.arange(28), mass.sum(axis=1) @ np.arange(28)])


def test_a_digit_with_strokes_stays_centred_and_whole(always: pytest.MonkeyPatch) -> None:
    """Without distortion: the centre of mass stays where it was, and no ink leaves the image."""
    always.setattr(strokes, "BASES", 0.5)
    maps = np.zeros((2, 1, 3 + augmentation.GRID**2), np.float32)
    maps[0, :, 0] = maps[1, :, 1] = 1
    always.setattr(augmentation, "_random_maps", lambda n, _: np.repeat(maps, n, axis=1))
    x, y = bundled(1, 7)
    out = handwriting(x, y, rng())
    drawn, moved = add_strokes(x, y, rng())
    assert np.mean(moved[y[:, 1] == 1] != 0) > 0.3
    assert np.abs(moved).max() > 1
    np.testing.assert_allclose(out.sum(axis=(1, 2, 3)), drawn.sum(axis=(1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(centres(out), centres(x), atol=0.02)
    seen = (out > 0.5).any(axis=(1, 3)).sum(axis=1), (out > 0.5).any(axis=(1, 2)).sum(axis=1)
    assert np.max(seen) <= 21  # MNIST's box is 20; moved by a part of a pixel, ink fills one more
