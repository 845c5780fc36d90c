"""Pictures become MNIST images.

The oracles are digits drawn here, of known place, size and pen, and MNIST's own definition (longer
side 20 pixels, centre of mass in the middle, bright on 0), measured by plain sums. Where the same
digit is stored, lit or turned in another way, the oracle is the plain picture of it.
"""

import contextlib
import io
import itertools
import os
import re
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image, ImageDraw, ImageFile
from scipy import ndimage

from handcnn.errors import HandcnnError
from handcnn.pictures import load_picture, prepare_picture, reading, to_batch
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
    """Return a digit in black on white, `size` high, its upper left corner at (x, y)."""
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
    """Centring rounds to whole pixels: either may stand one pixel beside the other."""
    shifts = [np.roll(other, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    assert max(np.corrcoef(one.ravel(), shift.ravel())[0, 1] for shift in shifts) > least


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(HandcnnError) as caught:
        load_picture(path)
    return str(caught.value)


# --- What comes out, wherever and however the digit was drawn --------------------------------


@settings(max_examples=50)
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
    """The oracle is the same digit drawn straight into the 20x20 box, sixteen times as fine."""
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

FINE = 16  # pixels of the drawing in one of the picture


def thick(digit: str, pen: float) -> Array:
    """Return the true ink, True on False, as fine as needed, cropped to the digit."""
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
    """Return how much ink is in each pixel of a square: its longer side fills the margins."""
    length = side - 2 * margin
    height, width = (max(1, round(n * length / max(ink.shape))) for n in ink.shape)
    fine = Image.fromarray(ink).convert("L").resize((width * FINE, height * FINE))
    shares = np.asarray(fine, float).reshape(height, FINE, width, FINE).mean((1, 3)) / 255
    square = np.zeros((side, side))
    y, x = (side - height) // 2, (side - width) // 2
    square[y : y + height, x : x + width] = shares
    return square


def as_mnist(ink: Array) -> Array:
    """Return the ink in a box of 20 pixels, its centre of mass in the middle of 28x28."""
    picture = averaged(ink, 60, 20)
    y, x = (round(30 - at) for at in ndimage.center_of_mass(picture))
    return np.roll(picture, (y, x), (0, 1))[16:44, 16:44]


def as_jpeg(picture: Array) -> Array:
    file = io.BytesIO()
    Image.fromarray(np.rint(picture).astype(np.uint8)).save(file, "jpeg", quality=50)
    return np.asarray(Image.open(file), float)


@pytest.mark.parametrize("pen", [0.2, 0.3, 0.45])
@pytest.mark.parametrize("digit", ["0", "8", "1", "2", "4", "5"])
def test_thick_digits_in_small_pictures(digit: str, pen: float) -> None:
    """Whatever their margin, light on dark and dark on light, clean and as a JPEG in greys."""
    ink = thick(digit, pen)
    expected = as_mnist(ink)
    for side, margin, light in itertools.product((20, 28, 64, 200), (0, 1, 3), (True, False)):
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


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (28, 28), (300, 200)])
def test_blank_pictures_are_refused(shape: tuple[int, int], level: int) -> None:
    with pytest.raises(HandcnnError, match=f"^{re.escape(BLANK)}$"):
        prepare_picture(np.full(shape, level))


@pytest.mark.parametrize("seed", range(3))
def test_noise_and_lighting_are_blank(seed: int) -> None:
    light = np.linspace(240, 120, 400) + np.random.default_rng(seed).normal(0, 4, (300, 400))
    with pytest.raises(HandcnnError, match="blank"):
        prepare_picture(light)


def test_a_wrong_number_of_axes_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"^prepare_picture expects a grey picture \(H, W\), got \(9, 9, 3\)$"
    ):
        prepare_picture(np.zeros((9, 9, 3)))


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
    ("orientation", "stored"),
    [
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_a_telephone_held_sideways(
    tmp_path: Path, orientation: int, stored: Image.Transpose
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = Image.fromarray(drawn()).transpose(stored)
    path = saved(tmp_path / "turned.png", turned, exif=exif)
    assert (load_picture(path) == drawn()).all()


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

BROKEN = "is not a complete picture that Pillow can read; save it again as PNG or JPEG"


def test_what_is_not_a_file_is_named(tmp_path: Path) -> None:
    pipe, loop = tmp_path / "pipe.png", tmp_path / "loop.png"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    for path, fault in {
        tmp_path / "none.png": "does not exist; check the path",
        tmp_path: "is a folder; name a picture in it",
        pipe: "is a pipe or a device; save the picture in a file first",
        Path("/dev/zero"): "is a pipe or a device; save the picture in a file first",
        tmp_path / ("x" * 300): "cannot be read: File name too long; check the path",
        loop: "cannot be read: Too many levels of symbolic links; check the path",
    }.items():
        assert refusal(path) == f"{one_line(path)} {fault}"


@pytest.mark.parametrize("content", [b"", b"\0" * 999, b"hello", b"\x89PNG\r\n\x1a\n"])
def test_files_that_are_no_pictures(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.png"
    path.write_bytes(content)
    assert refusal(path) == f"{path} {BROKEN}"


def in_iptc(content: bytes) -> bytes:
    """Return the news agencies' envelope around a picture of any format."""
    fields = {(3, 60): b"\1\0", (3, 20): b"\0\10", (3, 30): b"\0\10", (3, 120): b"\5"}
    head = [b"\x1c" + bytes(tag) + struct.pack(">H", len(v)) + v for tag, v in fields.items()]
    return b"".join(head) + b"\x1c\x08\x0a\x84" + struct.pack(">I", len(content)) + content


@pytest.mark.parametrize("inside", [bytes, in_iptc])
def test_postscript_is_not_run(
    tmp_path: Path, inside: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("it is run"))
    path = saved(tmp_path / "program.eps", Image.fromarray(drawn()))
    path.write_bytes(inside(path.read_bytes()))
    fault = "may hold PostScript, which is a program; save it as PNG or JPEG"
    assert refusal(path) == f"{one_line(path)} {fault}"


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "webp"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_pictures(tmp_path: Path, suffix: str, share: float) -> None:
    rng = np.random.default_rng(0)
    noisy = Image.fromarray(rng.integers(0, 255, (90, 90), np.uint8)).convert("RGB")
    path = saved(tmp_path / f"cut.{suffix}", noisy)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert refusal(path) == f"{path} {BROKEN}"


def png(width: int, height: int, channels: int = 1, *, whole: bool = False) -> bytes:
    """Return a black PNG; unless it is whole, it says how large it is and holds less."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    colour = {1: 0, 3: 2, 4: 6}[channels]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    length = height * (1 + width * channels) if whole else 100_000
    packer = zlib.compressobj(1)
    pixels = b"".join(packer.compress(bytes(10**6)) for _ in range(length // 10**6))
    pixels += packer.compress(bytes(length % 10**6)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def in_ico(content: bytes) -> bytes:
    """Return an icon that says to be of 16x16 pixels around a PNG of any size."""
    entry = struct.pack("<4B2H2I", 16, 16, 0, 0, 1, 32, len(content), 22)
    return struct.pack("<3H", 0, 1, 1) + entry + content


def in_icns(content: bytes) -> bytes:
    block = b"ic07" + struct.pack(">I", 8 + len(content)) + content  # it says 128x128
    return b"icns" + struct.pack(">I", 8 + len(block)) + block


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("inside", [bytes, in_ico, in_icns])
@pytest.mark.parametrize("side", [10_001, 20_000, 2**31 - 1])
def test_bombs_are_refused_before_they_are_inflated(
    tmp_path: Path, side: int, inside: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("it is inflated"))
    path = tmp_path / "bomb.png"
    path.write_bytes(inside(png(side, side)))
    assert refusal(path) == f"{path} has more than 100 megapixels; crop it or make it smaller"


MEMORY = """
import pathlib, sys
from handcnn.pictures import load_picture
try:
    print(load_picture(sys.argv[1]).shape)
except ValueError as error:
    print(error)
status = pathlib.Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak of memory")
@pytest.mark.parametrize(
    ("width", "height", "channels", "outcome"),
    [
        (10_000, 10_000, 4, "(1000, 1000)"),
        (65_535, 1_525, 4, "(24, 1009)"),
        (1_525, 65_535, 4, "(1009, 24)"),
        (1, 99_999_999, 1, "has a side of more than 65,535 pixels; crop it"),
        (1, 99_999_999, 4, "has a side of more than 65,535 pixels; crop it"),
        (10, 9_999_999, 3, "has a side of more than 65,535 pixels; crop it"),
        (9_999_999, 10, 3, "has a side of more than 65,535 pixels; crop it"),
    ],
)
def test_no_picture_takes_more_than_500_mb(
    tmp_path: Path, width: int, height: int, channels: int, outcome: str
) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(png(width, height, channels, whole=True))
    command = [sys.executable, "-W", "ignore", "-c", MEMORY, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    said, megabytes = result.stdout.splitlines()
    assert said.removeprefix(f"{path} ") == outcome
    assert float(megabytes) < 500


@pytest.mark.parametrize("inside", [bytes, in_ico, in_icns])
def test_icons_are_read(tmp_path: Path, inside: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "icon"
    path.write_bytes(inside(saved(tmp_path / "a.png", Image.fromarray(drawn())).read_bytes()))
    assert (load_picture(path) == drawn()).all()


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


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # damaged metadata, of which Pillow warns
@pytest.mark.parametrize("suffix", ["png", "jpeg", "gif", "bmp", "tiff", "webp"])
@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6))
@example([])
def test_damaged_files_load_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, flips: list[tuple[float, int]]
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(drawn(size=30, pen=4, canvas=(48, 48), at=(9, 9))).save(buffer, suffix)
    content = bytearray(buffer.getvalue())
    for place, value in flips:
        content[int(place * len(content))] = value
    path = tmp_path_factory.getbasetemp() / f"damaged.{suffix}"
    path.write_bytes(content)
    try:
        grey = load_picture(path)
    except HandcnnError:
        assume(flips)
        return
    assert grey.ndim == 2
    assert np.isfinite(grey).all()
    with contextlib.suppress(HandcnnError):  # nothing may be left to see
        assert prepare_picture(grey).shape == (28, 28)


@pytest.mark.parametrize("narrowing", [0, 0.1, 0.2])
@pytest.mark.parametrize("border", [0.02, 0.08, 0.15])
def test_a_sheet_on_a_dark_desk_is_read_like_the_sheet_alone(
    border: float, narrowing: float
) -> None:
    """The desk is darker than the ink and goes all around, so that no border shows the paper.

    Seen from its lower side, the sheet narrows upwards.
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


@pytest.mark.parametrize(
    ("suffix", "options", "name"),
    [
        ("webp", {}, "WEBP"),
        ("jp2", {}, "JPEG2000"),
        ("jpg", {"progressive": True}, "progressive JPEG"),
    ],
)
def test_pictures_whose_decoders_are_hungry_may_have_fewer_pixels(
    tmp_path: Path,
    suffix: str,
    options: dict[str, bool],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = saved(tmp_path / f"a.{suffix}", Image.new("RGB", (20, 10), "white"), **options)
    assert load_picture(path).shape == (10, 20)
    monkeypatch.setitem(reading.HUNGRY, name, 0.0001)
    assert refusal(path) == (
        f"{path} has more than 0.0001 megapixels, too many to read as {name}; "
        "make it smaller, or save it as PNG"
    )


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
