"""Pictures are turned into images like those of MNIST.

The oracles are digits drawn here with known place, size and pen, and the definition of MNIST
(longer side 20 pixels, centre of mass in the middle, bright on 0), measured by plain sums. If a
digit is stored, lit or rotated in another way, the oracle is the plain picture of it.
"""

import contextlib
import io
import itertools
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import NO_PICTURE
from damaged_files import Damage, damages, fuzzed
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFile, ImageFont
from PIL._util import DeferredError
from scipy import ndimage
from sklearn.datasets import load_digits

from handcnn.errors import HandcnnError
from handcnn.pictures import (
    Tile,
    examine_picture,
    load_picture,
    prepare_picture,
    reading,
    save_sheet,
    to_batch,
)
from handcnn.text import one_line
from handcnn.types import Array

# Polylines in a unit square: (x, y), y downwards.
DIGITS = {
    "1": [[(0.3, 0.2), (0.5, 0), (0.5, 1)]],
    "2": [[(0.1, 0.2), (0.4, 0), (0.7, 0.2), (0.6, 0.5), (0.1, 1), (0.8, 1)]],
    "4": [[(0.5, 0), (0.1, 0.6), (0.8, 0.6)], [(0.6, 0.3), (0.6, 1)]],
    "5": [[(0.7, 0), (0.2, 0), (0.2, 0.45), (0.7, 0.5), (0.7, 0.9), (0.1, 1)]],
    "0": [[(0.4, 0), (0.1, 0.3), (0.1, 0.7), (0.4, 1), (0.7, 0.7), (0.7, 0.3), (0.4, 0)]],
}
BLANK = (
    "the picture is blank: no stroke stands out from the background; "
    "draw one digit, dark on light or light on dark"
)


def drawn(
    digit: str = "2",
    size: int = 200,
    pen: int = 14,
    canvas: tuple[int, int] = (300, 280),
    at: tuple[int, int] = (50, 40),
) -> Array:
    """Return a black digit on white, `size` high, with its upper left corner at (x, y)."""
    image = Image.new("L", canvas, 255)
    draw = ImageDraw.Draw(image)
    for line in DIGITS[digit]:
        draw.line([(at[0] + x * size, at[1] + y * size) for x, y in line], 0, pen, "curve")
    return np.asarray(image)


def assert_like_mnist(prepared: Array) -> None:
    assert prepared.shape == (28, 28)
    assert prepared.dtype == np.uint8
    assert prepared.max() == 255
    rows, columns = np.nonzero(prepared)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20)  # as in MNIST
    mass = prepared.sum(dtype=float)
    centre = (prepared.sum(1) @ np.arange(28) / mass, prepared.sum(0) @ np.arange(28) / mass)
    assert np.abs(np.subtract(centre, 14)).max() <= 0.5 + 1e-9  # whole pixels, as in MNIST


def assert_alike(one: Array, other: Array, least: float = 0.97) -> None:
    """Centring rounds to whole pixels, so one may be shifted by a pixel."""
    shifts = [np.roll(other, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    assert max(np.corrcoef(one.ravel(), shift.ravel())[0, 1] for shift in shifts) > least


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(HandcnnError) as caught:
        load_picture(path)
    return str(caught.value)


# --- The result, wherever and however the digit was drawn -------------------------------------


@settings(max_examples=30)
@given(
    st.sampled_from(sorted(DIGITS)),
    st.integers(40, 300),
    st.floats(0.02, 0.15),
    st.tuples(st.floats(0.02, 0.98), st.floats(0.02, 0.98)),
    st.booleans(),
)
def test_every_drawing_becomes_an_mnist_image(
    digit: str, size: int, pen: float, at: tuple[float, float], negative: bool
) -> None:
    width = max(1, round(pen * size))
    room = 380 - size - 2 * width
    x, y = (width + round(share * room) for share in at)
    picture = drawn(digit, size, width, (380, 380), (x, y))
    prepared = prepare_picture(255 - picture if negative else picture)
    assert_like_mnist(prepared)
    assert (prepare_picture(prepared) == prepared).all()
    assert_alike(prepared, prepare_picture(drawn(digit, 200, round(pen * 200), at=(50, 40))), 0.85)


def test_the_drawing_is_what_it_was() -> None:
    """The oracle is the same digit drawn directly into the 20x20 box, on a 16 times finer grid."""
    picture = 255 - drawn("2", 280, 40, (448, 448), (80, 80)).astype(float)
    expected = picture.reshape(28, 16, 28, 16).mean((1, 3))
    rows, columns = (np.indices((28, 28)) * expected).sum((1, 2)) / expected.sum()
    expected = np.roll(expected, (14 - round(rows), 14 - round(columns)), (0, 1))
    assert_alike(prepare_picture(picture), expected.astype(np.uint8), 0.95)


def test_a_negative_is_the_same_picture() -> None:
    for digit in DIGITS:
        one, other = prepare_picture(drawn(digit)), prepare_picture(255 - drawn(digit))
        assert np.abs(one.astype(int) - other).max() <= 1  # rounding


@pytest.mark.parametrize(("canvas", "size", "pen"), [(400, 300, 1), (1000, 700, 2), (60, 45, 1)])
def test_thin_lines_get_the_width_of_a_pen(canvas: int, size: int, pen: int) -> None:
    prepared = prepare_picture(drawn("1", size, pen, (canvas, canvas), (10, 10)))
    widths = (prepared[12:20] > 127).sum(1)
    assert ((widths >= 2) & (widths <= 3)).all()  # MNIST: most strokes are 2 to 4 pixels wide


@pytest.mark.parametrize("contrast", [0.06, 0.2, 1])
def test_faint_digits_become_bright(contrast: float) -> None:
    faint = 200 - contrast * (255 - drawn().astype(float)) / 255 * 150
    assert_alike(prepare_picture(np.rint(faint)), prepare_picture(drawn()), 0.99)


# --- Small pictures of thick digits ------------------------------------------------------------

FINE = 16  # pixels of the drawing per pixel of the picture, in each direction


def thick(digit: str, pen: float) -> Array:
    """Return the true ink as a fine mask, cropped to the digit."""
    image = Image.new("L", (1600, 1600))
    draw, width = ImageDraw.Draw(image), round(pen * 1000)
    rings = {"0": [(400, 300, 1100, 1300)], "8": [(500, 300, 1000, 800), (450, 750, 1050, 1300)]}
    for box in rings.get(digit, []):
        outside = np.add(box, (-width / 2, -width / 2, width / 2, width / 2))
        draw.ellipse(tuple(outside), outline=255, width=width)
    for line in [] if digit in rings else DIGITS[digit]:
        points = [(300 + 1000 * x, 300 + 1000 * y) for x, y in line]
        draw.line(points, 255, width, "curve")
        for x, y in points:  # round ends
            draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), 255)
    ink = np.asarray(image) > 127
    rows, columns = np.nonzero(ink)
    return ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def averaged(ink: Array, side: int, margin: int) -> Array:
    """Return the ink in each pixel of a square, with its longer side between the margins."""
    length = side - 2 * margin
    height, width = (max(1, round(n * length / max(ink.shape))) for n in ink.shape)
    fine = Image.fromarray(ink).convert("L").resize((width * FINE, height * FINE))
    shares = np.asarray(fine, float).reshape(height, FINE, width, FINE).mean((1, 3)) / 255
    square = np.zeros((side, side))
    y, x = (side - height) // 2, (side - width) // 2
    square[y : y + height, x : x + width] = shares
    return square


def as_mnist(ink: Array) -> Array:
    """Return the ink scaled to 20 pixels, with its centre of mass in the middle of 28x28."""
    picture = averaged(ink, 60, 20)
    y, x = (round(30 - at) for at in ndimage.center_of_mass(picture))
    return np.roll(picture, (y, x), (0, 1))[16:44, 16:44]


def as_jpeg(picture: Array) -> Array:
    file = io.BytesIO()
    Image.fromarray(np.rint(picture).astype(np.uint8)).save(file, "jpeg", quality=50)
    return np.asarray(Image.open(file), float)


@pytest.mark.parametrize("pen", [0.2, 0.45])
@pytest.mark.parametrize("digit", ["0", "8", "1", "2", "4", "5"])
def test_thick_digits_in_small_pictures(digit: str, pen: float) -> None:
    """With any margin, light on dark and dark on light, clean and as a grey JPEG."""
    ink = thick(digit, pen)
    expected = as_mnist(ink)
    for side, margin, light in itertools.product((20, 28, 200), (0, 1, 3), (True, False)):
        square = averaged(ink, side, margin)
        square = square if light else 1 - square
        for grey in (255 * square, as_jpeg(60 + 140 * square)):
            assert_alike(prepare_picture(grey), expected, 0.85)


# --- What is not the digit ---------------------------------------------------------------------


def with_shadow(picture: Array) -> Array:
    light = np.where(np.add.outer(np.arange(280), 0.5 * np.arange(300)) > 200, 1.0, 0.6)
    shaded: Array = picture * light
    return shaded


def with_gradient(picture: Array) -> Array:
    graded: Array = (20 + picture * (200 / 255)) * np.linspace(1, 0.35, 300)
    return graded


def with_vignette(picture: Array) -> Array:
    y, x = np.mgrid[-1:1:280j, -1:1:300j]
    dark_corners: Array = (20 + picture * (200 / 255)) * (1 - 0.4 * (x * x + y * y))
    return dark_corners


def with_noise(picture: Array) -> Array:
    return 50 + picture * 0.6 + np.random.default_rng(0).normal(0, 15, picture.shape)


def with_specks(picture: Array) -> Array:
    picture = picture.copy()
    for y, x in [(20, 20), (10, 270), (255, 30), (260, 260), (150, 20)]:
        picture[y : y + 13, x : x + 13] = 0
    return picture


def with_lines(picture: Array) -> Array:
    ruled = picture.copy()
    ruled[15::30] = np.minimum(picture[15::30], 190)
    return ruled


def with_frame(picture: Array) -> Array:
    framed = picture.copy()
    framed[:4] = framed[-4:] = framed[:, :4] = framed[:, -4:] = 0
    return framed


def with_inner_frame(picture: Array) -> Array:
    framed = np.full((360, 380), 255, np.uint8)
    framed[20:-20, 20:-20] = 0
    framed[24:-24, 24:-24] = 255
    framed[40:-40, 40:-40] = picture
    return framed


def with_table(picture: Array) -> Array:
    return np.where(np.add.outer(np.arange(280), np.arange(300)) < 60, 70, picture).astype(np.uint8)


@pytest.mark.parametrize(
    "damage",
    [
        with_shadow,
        with_gradient,
        with_vignette,
        with_noise,
        with_specks,
        with_lines,
        with_frame,
        with_inner_frame,
        with_table,
    ],
)
@pytest.mark.parametrize("digit", sorted(DIGITS))
def test_what_is_not_the_digit_goes(damage: Callable[[Array], Array], digit: str) -> None:
    picture = drawn(digit, 180, 12, at=(80, 60))
    assert_alike(prepare_picture(damage(picture)), prepare_picture(picture), 0.9)


def test_broken_strokes_stay() -> None:
    picture = drawn("1").copy()
    for y in range(150, 250, 16):
        picture[y : y + 8] = 255
    assert_alike(prepare_picture(picture), prepare_picture(drawn("1")), 0.8)


@pytest.mark.parametrize("digit", sorted(DIGITS))
def test_ink_may_touch_the_border(digit: str) -> None:
    picture = drawn(digit, 200, 20)
    rows, columns = np.nonzero(picture == 0)
    tight = picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert_alike(prepare_picture(tight), prepare_picture(picture))


def test_a_small_digit_on_a_large_page() -> None:
    page = drawn("5", 150, 10, (3000, 2000), (2500, 200))
    assert_alike(prepare_picture(page[::2, ::2]), prepare_picture(drawn("5", 150, 10)), 0.95)


@pytest.mark.parametrize("level", [0, 128, 255, 0.5, 1, 1000, -3.5, 1e38])
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (28, 28), (300, 200)])
def test_blank_pictures_are_refused(shape: tuple[int, int], level: int) -> None:
    with pytest.raises(HandcnnError, match=f"^{re.escape(BLANK)}$"):
        prepare_picture(np.full(shape, level))


@pytest.mark.parametrize("seed", range(3))
def test_noise_and_lighting_are_blank(seed: int) -> None:
    light = np.linspace(240, 120, 400) + np.random.default_rng(seed).normal(0, 4, (300, 400))
    with pytest.raises(HandcnnError, match="blank"):
        prepare_picture(light)


@pytest.mark.parametrize(
    ("dtype", "scale", "start"),
    [
        (np.float32, 1 / 255, 0),
        (np.float64, 1 / 255, 0),
        (np.float64, 2 / 255, -1),
        (np.float64, 1e-9, 300),
        (np.uint16, 257, 0),
        (np.int64, 10**14, -(10**10)),
        (np.float32, 1e36, 0),
        (np.float64, 1e300, -2e302),
    ],
)
def test_values_may_be_on_any_scale(dtype: type[Any], scale: float, start: float) -> None:
    values = drawn().astype(dtype) * dtype(scale) + dtype(start)
    assert_alike(prepare_picture(values), prepare_picture(drawn()), 0.999)


def test_an_image_as_a_network_gets_it_comes_back() -> None:
    prepared = prepare_picture(drawn())
    assert (prepare_picture(to_batch([prepared])[0, 0]) == prepared).all()
    assert (prepare_picture(1 - to_batch([prepared])[0, 0]) == prepared).all()
    assert_alike(prepare_picture(drawn() > 127), prepared, 0.99)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    picture = drawn().astype(float)
    picture[5, 5] = value
    fault = "the picture has values that are NaN or infinite; give it finite ones"
    with pytest.raises(HandcnnError, match=f"^{fault}$"):
        prepare_picture(picture)


def test_a_black_file_is_blank(tmp_path: Path) -> None:
    """Also with a few pixels that are almost black."""
    hot = np.zeros((300, 200), np.uint8)
    hot[100:110, 100:103] = 1
    with pytest.raises(HandcnnError, match=f"^{re.escape(BLANK)}$"):
        prepare_picture(load_picture(saved(tmp_path / "black.png", Image.fromarray(hot))))


def test_a_wrong_number_of_axes_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"^prepare_picture expects a grey picture \(H, W\), got \(9, 9, 3\)$"
    ):
        prepare_picture(np.zeros((9, 9, 3)))


# --- Several digits ----------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [40, 100])
@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("digits", ["15", "40", "22", "04", "512"])
def test_digits_side_by_side_are_noticed(digits: str, gap: int, noisy: bool) -> None:
    """Of 200 pixels, in ink and in light; far apart also in an MNIST image of all of them."""
    page = np.full((290, 900), 255, np.uint8)
    x = 50
    for i, digit in enumerate(digits):
        ink = drawn(digit, 200, 14)
        ink = ink[:, (ink < 255).any(0)]
        page[10 + 20 * i :, x : x + ink.shape[1]] = ink[: 280 - 20 * i]
        x += ink.shape[1] + gap
    page = page[:, : x + 50]
    for grey in (page, 255 - page, page[::4, ::4]):
        found = examine_picture(with_noise(grey) if noisy else grey)
        assert found.several
        assert gap < 100 or examine_picture(found.image).several


def broken(digit: str, x: float, y: float, size: float) -> Array:
    """Return a digit with a square removed; the square's middle and side are shares of its size."""
    picture = drawn(digit).copy()
    top, bottom, left, right = (
        round(start + 200 * (middle + half))
        for start, middle in ((40, y), (50, x))
        for half in (-size / 2, size / 2)
    )
    picture[top:bottom, left:right] = 255
    return picture


@pytest.mark.parametrize(
    "picture",
    [
        *(drawn(digit) for digit in DIGITS),
        broken("5", 0.2, 0.1, 0.15),  # the bar is detached
        broken("5", 0.2, 0.25, 0.3),
        broken("4", 0.6, 0.6, 0.15),  # three ends
        broken("4", 0.45, 0.6, 0.1),
        broken("4", 0.3, 0.3, 0.2),
        broken("0", 0.4, 0, 0.15),
        broken("0", 0.7, 0.5, 0.2),
        broken("1", 0.5, 0.5, 0.3),
        broken("2", 0.6, 0.5, 0.2),
        255 - 255 * averaged(thick("8", 0.05), 200, 20) * (np.arange(200) // 4 != 24)[:, None],
    ],
)
def test_one_digit_is_never_taken_for_several(picture: Array) -> None:
    """Whole or with a broken stroke. The loops of the last digit, an 8, do not touch."""
    for grey in (picture, 255 - picture, with_noise(picture), picture[::5, ::5]):
        found = examine_picture(grey)
        assert not found.several
        assert not examine_picture(found.image).several


def written_by_people(count: int) -> list[Array]:
    """Return digits of many hands, as light ink of 96 pixels, without the empty columns."""
    images = load_digits().images  # 8x8, 0 to 16
    chosen = np.random.default_rng(0).permutation(len(images))[:count]
    fine = (Image.fromarray(np.uint8(15 * images[i])).resize((96, 96)) for i in chosen)
    return [ink[:, (ink > 80).any(0)] for ink in map(np.asarray, fine)]


def test_the_digits_of_people_are_counted() -> None:
    """None of them alone is taken for several, and of the pairs, all but one at most."""
    digits = written_by_people(60)
    alone = [examine_picture(255 - np.pad(digit, 24)).several for digit in digits]
    pairs = [
        examine_picture(255 - np.pad(np.hstack([one, np.zeros((96, 24)), other]), 24)).several
        for one, other in zip(digits[::2], digits[1::2], strict=True)
    ]
    assert sum(alone) == 0
    assert sum(pairs) >= 29


# --- The contact sheet -------------------------------------------------------------------------

DIGIT = np.random.default_rng(0).integers(0, 255, (28, 28), np.uint8)
SEEN = Tile("a.png", DIGIT, "7", "99.98 %")


def sheet(path: Path, *tiles: Tile) -> Array:
    save_sheet(path / "sheet.png", tiles)
    with Image.open(path / "sheet.png") as image:
        return np.asarray(image.convert("L"))


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (3, 3, 1), (10, 10, 1), (12, 6, 2), (79, 10, 8)]
)
def test_every_picture_has_a_tile(tmp_path: Path, count: int, columns: int, rows: int) -> None:
    """The pictures are equal, so all tiles must be equal. They fill their rows."""
    one = sheet(tmp_path, SEEN)
    tile = one[28:, 28:]  # with the white space up to the next one
    many = sheet(tmp_path, *[SEEN] * count)
    expected = np.tile(tile, (rows, columns))
    expected[-tile.shape[0] :, (count - 1) % columns * tile.shape[1] + tile.shape[1] :] = 255
    assert (many[28:, 28:] == expected).all()
    assert (many[:28] == 255).all()
    assert (many[:, :28] == 255).all()
    assert (tile[:168, :168] == DIGIT.repeat(6, 0).repeat(6, 1)).all()


def test_the_texts_stand_below_the_picture(tmp_path: Path) -> None:
    """They are found as the rows of the sheet that change when a text changes."""
    before = sheet(tmp_path, SEEN, SEEN)
    for change, top, bottom in (
        (SEEN._replace(name="bit.jpg"), 196, 220),
        (SEEN._replace(answer="8"), 220, 246),
        (SEEN._replace(probability="12.34 %"), 220, 246),
    ):
        rows = np.flatnonzero((sheet(tmp_path, change, SEEN) != before).any(1))
        assert top <= rows[0] <= rows[-1] < bottom


def test_a_number_stands_above_its_digits(tmp_path: Path) -> None:
    """Its picture, twice as wide as high, is 756 pixels wide, with a box around its ink."""
    picture = np.full((100, 200), 255.0)
    picture[40:60, 20:180] = 0
    shown = sheet(tmp_path, Tile("two.png", picture, "11", boxes=[(20, 40, 180, 60)]), SEEN, SEEN)
    large = shown[28:406, 28:784]
    ink = np.argwhere(large < 100)
    assert np.abs(ink.min(axis=0) - (151, 76)).max() <= 3
    assert np.abs(ink.max(axis=0) - (227, 680)).max() <= 3
    below = shown[28 + 378 + 68 + 28 :]  # below its texts
    assert (below[:168, 28:196] == DIGIT.repeat(6, 0).repeat(6, 1)).all()
    assert (below[:168, 224:392] == DIGIT.repeat(6, 0).repeat(6, 1)).all()


def test_a_picture_that_could_not_be_read_says_so(tmp_path: Path) -> None:
    shown = sheet(tmp_path, SEEN, Tile("b.png"))[28:196, 224:392]
    assert shown.min() < 130  # the text
    assert np.median(shown) == 235
    assert (shown[:60] == 235).all()


@pytest.mark.parametrize("freetype", [True, False])
def test_any_name_fits_its_tile(
    tmp_path: Path, freetype: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with the small font of Pillow without FreeType."""
    if not freetype:
        monkeypatch.setattr(ImageFont, "core", DeferredError(ImportError("none")))
    wide = Tile("x" * 1000, DIGIT, "ankle boots with laces", "> 99.99 %")
    assert (sheet(tmp_path, wide, SEEN)[:, 196:224] == 255).all()  # between the two tiles
    odd, escaped = "ö\n\x1b字.png", r"\xf6\n\x1b\u5b57.png"
    one, other = (sheet(tmp_path, SEEN._replace(name=name)) for name in (odd, escaped))
    assert (one == other).all()


# --- The same digit in other files ------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("1", "png"),
        ("L", "png"),
        ("LA", "png"),
        ("P", "png"),
        ("P", "gif"),
        ("RGB", "png"),
        ("RGB", "bmp"),
        ("RGB", "webp"),
        ("RGBA", "png"),
        ("CMYK", "tif"),
        ("I;16", "png"),
        ("I", "tif"),
        ("F", "tif"),
    ],
)
def test_every_mode_is_read_the_same(tmp_path: Path, mode: str, suffix: str) -> None:
    picture = drawn()
    if mode == "I;16":
        image = Image.fromarray(picture.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(picture).convert(mode)
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path / f"picture.{suffix}", image, **options)
    assert (load_picture(path) == picture).all()


def test_jpeg_in_colour_and_cmyk(tmp_path: Path) -> None:
    for mode in ("L", "RGB", "CMYK"):
        path = saved(tmp_path / f"{mode}.jpg", Image.fromarray(drawn()).convert(mode))
        assert_alike(prepare_picture(load_picture(path)), prepare_picture(drawn()), 0.99)


@pytest.mark.parametrize("ink", [0, 255])
def test_transparency_is_composited(tmp_path: Path, ink: int) -> None:
    picture = drawn()
    layer = Image.merge("LA", [Image.new("L", (300, 280), ink), Image.fromarray(255 - picture)])
    for name, image in {"la": layer, "rgba": layer.convert("RGBA")}.items():
        grey = load_picture(saved(tmp_path / f"{name}.png", image))
        assert (grey == (255 - picture if ink else picture)).all()


def test_a_transparent_palette_colour(tmp_path: Path) -> None:
    image = Image.fromarray(drawn()).convert("P")
    background = image.getpixel((0, 0))
    path = saved(tmp_path / "palette.png", image, transparency=background)
    assert (load_picture(path) == drawn()).all()


@pytest.mark.parametrize(
    ("suffix", "canvas"),
    [("png", (300, 280)), ("jpg", (300, 280)), ("tif", (300, 280)), ("tif", (2000, 1600))],
)
@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_a_telephone_held_sideways(
    tmp_path: Path,
    orientation: int,
    stored: Image.Transpose,
    suffix: str,
    canvas: tuple[int, int],
) -> None:
    """The oracle is the same picture, stored upright. The large one is reduced."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = Image.fromarray(drawn(canvas=canvas))
    turned = saved(tmp_path / f"turned.{suffix}", seen.transpose(stored), exif=exif)
    upright = saved(tmp_path / f"upright.{suffix}", seen)
    assert_alike(prepare_picture(load_picture(turned)), prepare_picture(load_picture(upright)))


def test_an_animation_shows_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.fromarray(drawn(digit)) for digit in "251"]
    path = saved(tmp_path / "moving.gif", frames[0], save_all=True, append_images=frames[1:])
    assert (load_picture(path) == drawn("2")).all()


@pytest.mark.parametrize(
    ("paper", "ink"),
    [
        ((255, 255, 255), (255, 220, 0)),
        ((255, 255, 255), (230, 40, 40)),
        ((250, 245, 235), (40, 60, 200)),
        ((60, 130, 60), (200, 60, 60)),
        ((0, 119, 0), (178, 30, 0)),
        ((10, 60, 30), (230, 240, 200)),
    ],
)
def test_coloured_ink_is_seen(
    tmp_path: Path, paper: tuple[int, int, int], ink: tuple[int, int, int]
) -> None:
    rgb = np.where(drawn()[..., None] > 0, paper, ink).astype(np.uint8)
    grey = load_picture(saved(tmp_path / "ink.png", Image.fromarray(rgb)))
    assert 0 <= grey.min() <= grey.max() <= 255
    assert_alike(prepare_picture(grey), prepare_picture(drawn()), 0.99)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16"])
def test_large_pictures_are_reduced(tmp_path: Path, mode: str) -> None:
    picture = drawn("4", 2400, 150, (4000, 3000), (500, 300))
    if mode == "I;16":
        image = Image.fromarray(picture.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(picture).convert(mode)
    grey = load_picture(saved(tmp_path / "large.png", image, compress_level=1))
    assert max(grey.shape) == 1000
    assert_alike(prepare_picture(grey), prepare_picture(drawn("4", 200, 12)), 0.98)


# --- MNIST itself -----------------------------------------------------------------------------


def test_a_prepared_picture_comes_back_bit_by_bit(tmp_path: Path) -> None:
    for digit in DIGITS:
        prepared = prepare_picture(drawn(digit))
        for image in (prepared, 255 - prepared):
            path = saved(tmp_path / "mnist.png", Image.fromarray(image))
            assert (prepare_picture(load_picture(path)) == prepared).all()


def test_a_batch_is_scaled_as_in_training() -> None:
    pictures = [prepare_picture(drawn(digit)) for digit in "25"]
    batch = to_batch(pictures)
    assert batch.shape == (2, 1, 28, 28)
    assert batch.dtype == np.float32
    assert (batch[1, 0] == pictures[1].astype(np.float32) / 255).all()


@pytest.mark.mnist
def test_all_of_mnist_passes_unharmed(tmp_path: Path) -> None:
    cache = Path(__file__).parent.parent / "data" / "cache" / "mnist.npz"
    if not cache.exists():
        pytest.skip(f"there is no {cache}")
    from data import load_dataset

    images = load_dataset("mnist").test.images.reshape(-1, 28, 28)
    for image in images:
        assert (prepare_picture(image) == image).all()
        assert (prepare_picture(255 - image) == image).all()
    for image in images[:500]:
        path = saved(tmp_path / "mnist.png", Image.fromarray(image))
        assert (prepare_picture(load_picture(path)) == image).all()


# --- Files that are no pictures ---------------------------------------------------------------


def test_what_is_not_a_file_is_named(tmp_path: Path) -> None:
    pipe, loop = tmp_path / "pipe.png", tmp_path / "loop.png"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    for path, fault in {
        tmp_path / "none.png": "does not exist; check the path",
        tmp_path: "is a folder; give a picture in it",
        pipe: "is a pipe or a device; save the picture in a file first",
        Path("/dev/zero"): "is a pipe or a device; save the picture in a file first",
        tmp_path / ("x" * 300): "cannot be read: File name too long; check the path",
        loop: "cannot be read: Too many levels of symbolic links; check the path",
    }.items():
        assert refusal(path) == f"{one_line(path)} {fault}"


WEB_PAGE = "is a web page, not a picture; save the picture in it as PNG or JPEG"
DRAWING = "is an SVG drawing, not a picture of pixels; save it as PNG"
POSTSCRIPT = "is PostScript, not a picture; save it as PNG or JPEG"
SVG = b'<?xml version="1.0"?>\n<!-- by hand -->\n<svg xmlns="http://www.w3.org/2000/svg"></svg>'
MOVIE = b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(99)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is empty; save the picture again"),
        (b"%PDF-1.7\n", "is a PDF, not a picture; save the page as PNG or JPEG"),
        (SVG, DRAWING),
        (b"<svg/>", DRAWING),
        (b"\n <!DOCTYPE html>\n<title>404</title>", WEB_PAGE),
        (b"<HTML><body><svg></svg>", WEB_PAGE),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", POSTSCRIPT),
        (b"\xc5\xd0\xd3\xc6" + bytes(99), POSTSCRIPT),
        (b"\0" * 999, NO_PICTURE),
        (b"hello", NO_PICTURE),
        (b"\x89PNG\r\n\x1a\n", NO_PICTURE),
        (MOVIE, NO_PICTURE),
    ],
)
def test_files_that_are_no_pictures(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "text.png"
    path.write_bytes(content)
    assert refusal(path) == f"{path} {fault}"


@pytest.mark.parametrize("name", ["ICO", "ICNS", "JPEG2000", "TGA", "PCX", "SGI", "DDS", "MSP"])
def test_pillows_other_formats_are_refused(tmp_path: Path, name: str) -> None:
    image = Image.fromarray(drawn()).convert("1" if name == "MSP" else "RGB")
    path = saved(tmp_path / "picture.png", image, format=name)
    Image.open(path).close()  # Pillow would read it
    assert refusal(path) == f"{path} {NO_PICTURE}"


def test_a_photograph_in_heic_is_read_like_a_png(tmp_path: Path) -> None:
    """Also one of a telephone held sideways."""
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif, for HEIC, is not installed")
    picture = drawn("5")
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(picture).transpose(Image.Transpose.ROTATE_90).convert("RGB")
    heif.from_pillow(stored).save(tmp_path / "turned.heic", exif=exif.tobytes(), quality=95)
    assert_alike(prepare_picture(load_picture(tmp_path / "turned.heic")), prepare_picture(picture))


@pytest.mark.parametrize("brands", [b"heic\0\0\0\0mif1heic", b"mif1\0\0\0\0mif1heix"])
def test_without_its_plug_in_a_heic_is_named(
    tmp_path: Path, brands: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\0\0\0\x18ftyp" + brands + bytes(99))
    fault = "is a HEIC photograph; install pillow-heif to read it, or save it as JPEG"
    assert refusal(path) == f"{path} {fault}"


def test_without_its_codec_an_avif_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.init()
    monkeypatch.delitem(Image.OPEN, "AVIF", raising=False)
    path = tmp_path / "photo.avif"
    path.write_bytes(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(99))
    fault = "is an AVIF picture; install Pillow 11.3 or newer, or save it as PNG"
    assert refusal(path) == f"{path} {fault}"


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "webp"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_pictures(tmp_path: Path, suffix: str, share: float) -> None:
    rng = np.random.default_rng(0)
    noisy = Image.fromarray(rng.integers(0, 255, (90, 90), np.uint8)).convert("RGB")
    path = saved(tmp_path / f"cut.{suffix}", noisy)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert refusal(path) == f"{path} {NO_PICTURE}"


def test_no_setting_of_the_process_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settings_now() -> tuple[object, ...]:
        return Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)

    def load(self: ImageFile.ImageFile) -> object:
        seen.append(settings_now())
        return real_load(self)

    path = saved(tmp_path / "a.png", Image.fromarray(drawn()))
    seen: list[object] = []
    real_load, before = ImageFile.ImageFile.load, settings_now()
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    load_picture(path)
    assert seen
    assert all(settings == before for settings in seen)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow warns of damaged metadata
@fuzzed()
@given(suffix=st.sampled_from(["png", "jpeg", "gif", "bmp", "tiff", "webp"]), damage=damages())
def test_damaged_files_load_or_are_refused(tmp_path: Path, suffix: str, damage: Damage) -> None:
    buffer = io.BytesIO()
    Image.fromarray(drawn(size=30, pen=4, canvas=(48, 48), at=(9, 9))).save(buffer, suffix)
    path, content = tmp_path / f"damaged.{suffix}", damage(buffer.getvalue())
    path.write_bytes(content)
    try:
        grey = load_picture(path)
    except HandcnnError:
        assert content != buffer.getvalue()
        return
    assert grey.ndim == 2
    assert np.isfinite(grey).all()
    with contextlib.suppress(HandcnnError):  # the picture may have become blank
        assert prepare_picture(grey).shape == (28, 28)


@pytest.mark.parametrize("narrowing", [0, 0.1, 0.2])
@pytest.mark.parametrize("border", [0.02, 0.08, 0.15])
def test_a_sheet_on_a_dark_desk_is_read_like_the_sheet_alone(
    border: float, narrowing: float
) -> None:
    """The desk is darker than the ink and surrounds the sheet, so no border shows the paper.

    Seen from below, the sheet narrows towards the top.
    """
    grey = drawn("5", 350, 24, (600, 800), (140, 260)) * (130 / 255) + 70  # ink 70, paper 200
    sheet = np.random.default_rng(0).normal(grey, 4)
    desk = np.random.default_rng(1).normal(60, 4, sheet.shape)
    height, width = sheet.shape
    b, narrow = round(border * width), round(narrowing * width)
    outline = Image.new("1", (width, height))
    ImageDraw.Draw(outline).polygon(
        [(b + narrow, b), (width - b - narrow, b), (width - b, height - b), (b, height - b)], 1
    )
    photo = np.where(np.asarray(outline), sheet, desk)
    assert_alike(prepare_picture(photo), prepare_picture(sheet), 0.9)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16", "L"])
def test_strips_make_no_seams(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    grey = np.add.outer(np.arange(4100), np.arange(2050)) // 25
    picture = Image.fromarray(grey.astype(np.uint8))
    if mode == "I;16":
        picture = Image.fromarray((grey * 250).astype(np.uint16))
    picture.convert(mode).save(tmp_path / "a.png", compress_level=1)
    in_strips = load_picture(tmp_path / "a.png")
    monkeypatch.setattr(reading, "STRIP_PIXELS", 10**9)
    np.testing.assert_array_equal(in_strips, load_picture(tmp_path / "a.png"))
