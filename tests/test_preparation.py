"""A digit is found in photographs and screens, and what is not the digit is not.

The oracle is the same digit, drawn with the same pen on plain paper. Shadows are a factor on the
light, lines and sheets are drawn around or under the digit.
"""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage
from test_pictures import BLANK, DIGITS, assert_alike, drawn, written_by_people

from handcnn.errors import HandcnnError
from handcnn.pictures import examine_picture, find_strokes, prepare_picture, save_steps
from handcnn.types import Array

SIZE = (480, 400)  # width and height of the photographs
PENS = {"marker": (20, 30.0), "felt": (11, 40.0), "ball": (6, 80.0), "pencil": (6, 150.0)}


def sheet(digit: str, pen: str = "felt", paper: float = 210) -> Array:
    """Return a digit of 200 pixels on even paper, in grey."""
    width, ink = PENS[pen]
    cover = 1 - drawn(digit, 200, width, SIZE, (140, 90)) / 255
    blurred: Array = ndimage.gaussian_filter(paper + (ink - paper) * cover, 0.8)
    return blurred


def photographed(page: Array, seed: int = 0) -> Array:
    """Return the page with the noise of a camera."""
    return np.clip(page + np.random.default_rng(seed).normal(0, 2, page.shape), 0, 255)


def shadow(depth: float, edge: float, diagonal: bool) -> Array:
    """Return the light (H, W) of a shadow whose edge is `edge` pixels soft."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    distance = (x + y - 500) / 1.4 if diagonal else x - 200.0
    light: Array = 1 - depth / (1 + np.exp(-np.clip(distance / edge, -40, 40)))
    return light


@pytest.mark.parametrize("pen", PENS)
@pytest.mark.parametrize("depth", [0.15, 0.25, 0.35])
@pytest.mark.parametrize(("edge", "diagonal"), [(2, True), (30, True), (2, False), (30, False)])
def test_a_shadow_is_no_ink(pen: str, depth: float, edge: float, diagonal: bool) -> None:
    light = shadow(depth, edge, diagonal)
    page = sheet("2", pen)
    for lit in (light, light[::-1, ::-1]):
        found = examine_picture(photographed(page * lit))
        assert_alike(found.image, prepare_picture(page), 0.9)
        assert not found.doubt


@pytest.mark.parametrize("pen", ["felt", "ball", "pencil"])
def test_a_dark_corner_and_a_vignette_are_no_ink(pen: str) -> None:
    y, x = np.mgrid[-1 : 1 : SIZE[1] * 1j, -1 : 1 : SIZE[0] * 1j]
    corner = 1 - 0.6 / (1 + np.exp((np.hypot(x - 1, y - 1) - 0.6) / 0.05))
    for light in (corner, 1 - 0.35 * (x * x + y * y)):
        page = sheet("2", pen)
        assert_alike(prepare_picture(photographed(page * light)), prepare_picture(page), 0.9)


@pytest.mark.parametrize("digit", sorted(DIGITS))
@pytest.mark.parametrize("slope", [0, 0.03])
@pytest.mark.parametrize("squared", [False, True])
def test_printed_lines_go_and_crossing_strokes_stay(
    digit: str, slope: float, squared: bool
) -> None:
    """The lines are as dark as a pencil and cross the digit."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    lines = (y + slope * x + 7) % 40 < 2
    if squared:
        lines |= (x - slope * y) % 40 < 2
    page = sheet(digit, "ball")
    ruled = np.where(lines, np.minimum(page, 150), page)
    assert_alike(prepare_picture(photographed(ruled)), prepare_picture(page), 0.9)


def test_dotted_lines_go() -> None:
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    page = sheet("2", "ball")
    dotted = np.where((x % 40 < 2) & (y % 8 < 4), np.minimum(page, 150), page)
    assert_alike(prepare_picture(photographed(dotted)), prepare_picture(page), 0.9)


def test_a_straight_digit_is_no_line() -> None:
    """Cut out tightly, the strokes of a 1 with a base reach from border to border."""
    image = Image.new("L", (200, 300), 255)
    draw = ImageDraw.Draw(image)
    draw.line([(100, 0), (100, 299)], 0, 9)
    draw.line([(0, 280), (199, 280)], 0, 9)
    whole = prepare_picture(np.pad(np.asarray(image), 60, constant_values=255))
    assert_alike(prepare_picture(np.asarray(image)), whole, 0.9)


@pytest.mark.parametrize("digit", sorted(DIGITS))
def test_a_pencil_of_ten_levels_is_seen(digit: str) -> None:
    page = 200 - (210 - sheet(digit, "ball")) * (10 / 130)
    assert_alike(prepare_picture(photographed(page)), prepare_picture(sheet(digit, "ball")), 0.85)


# --- Sheets and panels --------------------------------------------------------------------------


def on_page(panel: Array, page: float, buttons: bool) -> Array:
    """Return a panel inside a larger page, perhaps with buttons below it."""
    around = np.full((panel.shape[0] + 260, panel.shape[1] + 240), page)
    around[80 : 80 + panel.shape[0], 90 : 90 + panel.shape[1]] = panel
    if buttons:
        around[-150:-120, 90:180] = around[-150:-120, 210:300] = 128
    return around


@pytest.mark.parametrize("buttons", [False, True])
@pytest.mark.parametrize("digit", sorted(DIGITS))
@pytest.mark.parametrize(("pad", "page"), [(255, 30), (0, 245), (45, 245)])
def test_a_panel_is_cut_out(digit: str, pad: int, page: int, buttons: bool) -> None:
    cover = 1 - drawn(digit, 200, 16) / 255
    panel = pad + (255 - 2 * pad if pad == 255 else 255 - pad) * cover
    assert_alike(
        prepare_picture(on_page(panel, page, buttons)), prepare_picture(drawn(digit, 200, 16)), 0.95
    )


@pytest.mark.parametrize("digit", sorted(DIGITS))
def test_a_plot_with_axes_is_read(digit: str) -> None:
    """A thin frame around the digit, ticks and labels outside it."""
    plot = on_page(drawn(digit, 200, 40).astype(float), 255, buttons=False)
    plot[79, 89:391] = plot[361, 89:391] = plot[79:362, 89] = plot[79:362, 391] = 0
    for tick in range(100, 380, 40):
        plot[362:367, tick] = 0
        plot[372:382, tick - 3 : tick + 3 : 5] = 60
    assert_alike(prepare_picture(plot), prepare_picture(drawn(digit, 200, 40)), 0.9)


@pytest.mark.parametrize("pen", ["marker", "pencil"])
@pytest.mark.parametrize("slope", [0.05, -0.1])
def test_a_tilted_sheet_on_a_desk(pen: str, slope: float) -> None:
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    on_sheet = (
        (x - slope * y > 40) & (x - slope * y < 420) & (y + slope * x > 30) & (y + slope * x < 360)
    )
    desk = 45 + ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 40, on_sheet.shape), 2)
    page = sheet("5", pen)
    photo = ndimage.gaussian_filter(np.where(on_sheet, page, desk), 0.8)
    assert_alike(prepare_picture(photographed(photo)), prepare_picture(page), 0.9)


def test_an_empty_frame_is_blank() -> None:
    for width in (2, 6, 15):
        canvas = np.full((300, 280), 255)
        canvas[5:-5, 5:-5] = 0
        canvas[5 + width : -5 - width, 5 + width : -5 - width] = 255
        for picture in (canvas, 255 - canvas):
            with pytest.raises(HandcnnError, match=f"^{re.escape(BLANK)}$"):
                prepare_picture(picture)


# --- The pen ------------------------------------------------------------------------------------


def holes(image: Array) -> int:
    """Return the number of dark regions that light ink encloses."""
    return int(ndimage.label(image < 128)[1]) - 1


def four(gap: float, pen: int) -> Array:
    """Return a 4 with a triangle, open at the top by `gap` pixels (0: closed)."""
    image = Image.new("L", (300, 300), 255)
    draw = ImageDraw.Draw(image)
    draw.line([(150 - gap, 50), (90, 170), (220, 170)], 0, pen, "curve")
    draw.line([(150, 45), (150, 250)], 0, pen)
    return np.asarray(image)


@pytest.mark.parametrize("pen", [2, 5, 10])
def test_thickening_keeps_holes_and_gaps(pen: int) -> None:
    assert holes(prepare_picture(four(0, pen))) == 1
    assert holes(prepare_picture(four(36, pen))) == 0


# --- Doubt --------------------------------------------------------------------------------------


def test_a_blot_is_doubted_and_a_digit_is_not() -> None:
    y, x = np.mgrid[:300, :300]
    for blot in ((x - 150) ** 2 + (y - 150) ** 2 < 50**2, (x < 220) & (y < 140) & (x + y > 120)):
        assert examine_picture(np.where(blot, 30, 220)).doubt
    for digit in DIGITS:
        assert not examine_picture(drawn(digit)).doubt
    for ink in written_by_people(40):
        assert not examine_picture(255 - np.pad(ink, 24)).doubt


def test_digits_one_above_the_other_are_noticed() -> None:
    for pair in ("54", "50", "42"):
        page = np.vstack([drawn(digit, 200, 14, (300, 260)) for digit in pair])
        assert examine_picture(page).several


@pytest.mark.mnist
def test_no_image_of_mnist_is_doubted() -> None:
    cache = Path(__file__).parent.parent / "data" / "cache" / "mnist.npz"
    if not cache.exists():
        pytest.skip(f"there is no {cache}")
    from data import load_dataset

    images = load_dataset("mnist").test.images.reshape(-1, 28, 28)
    assert not any(examine_picture(image).doubt for image in images)


# --- What other readers use ---------------------------------------------------------------------


def test_strokes_of_the_whole_picture() -> None:
    """Two digits on a sheet on a desk: both, where they are, and nothing of the desk."""
    desk = np.full((460, 900), 40.0)
    desk[30:430, 40:860] = np.hstack([sheet("2"), sheet("5")])[:, 70:890]
    strokes = find_strokes(photographed(desk))
    assert strokes.ink.shape == strokes.mask.shape == desk.shape
    truth = ndimage.binary_dilation(
        np.pad(desk[40:420, 50:850] < 120, ((40, 40), (50, 50))), iterations=4
    )
    assert strokes.mask.any()
    assert not (strokes.mask & ~truth).any()
    assert ndimage.label(strokes.mask, np.ones((3, 3)))[1] == 2


def test_the_steps_are_drawn(tmp_path: Path) -> None:
    """Seven pictures in a row, the last of which is what `prepare_picture` returns."""
    save_steps(tmp_path / "steps.png", [drawn("2"), drawn("5")])
    with Image.open(tmp_path / "steps.png") as image:
        strip = np.asarray(image.convert("L"))
    assert strip.shape[1] == 28 + 7 * 196
    side = 168
    for row, digit in enumerate("25"):
        top = 28 + row * (strip.shape[0] - 28) // 2
        last = strip[top : top + side, -196 : -196 + side]
        assert (last == prepare_picture(drawn(digit)).repeat(6, 0).repeat(6, 1)).all()
