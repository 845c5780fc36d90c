"""Limits on the memory and time that a picture may cost.

Most files here are only headers with the size of a picture. Such a file must be refused before it
is decoded. For pictures that are read, the oracle is the system's record of the peak memory of a
process.
"""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from handcnn.errors import HandcnnError
from handcnn.pictures import limits, load_picture
from handcnn.pictures.formats import FORMATS

BOMB = "has more than 100 megapixels; crop it or make it smaller"
INSTEAD = "make it smaller, or save it as PNG"
SLOW = f"takes too long to read as {{}}; {INSTEAD}"
HUNGRY = f"takes more than 500 MB of memory to read as {{}}; {INSTEAD}"


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("it is decoded"))


by_its_header = pytest.mark.usefixtures("no_decoding")


def refusal(path: Path) -> str:
    """Return the reason for which a picture is refused."""
    with pytest.raises(HandcnnError) as caught:
        load_picture(path)
    return str(caught.value).removeprefix(f"{path} ")


# --- Files of any size ------------------------------------------------------------------------


def png(width: int, height: int, channels: int = 1, *, whole: bool = False) -> bytes:
    """Return a black PNG; unless it is whole, its header claims more than it holds."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    colour = {1: 0, 3: 2, 4: 6}[channels]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    pixels = zeros(height * (1 + width * channels) if whole else 100_000)
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    """Return this many zeros, compressed."""
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(10**6)) for _ in range(count // 10**6))
    return packed + packer.compress(bytes(count % 10**6)) + packer.flush()


def bitmap(width: int, height: int, bits: int = 1, compression: int = 0) -> bytes:
    """Return the header of a Windows bitmap with its palette."""
    colours = 1 << bits
    sizes = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, colours, 0
    )
    return sizes + bytes(4 * colours)


def bmp_rle(width: int, height: int) -> bytes:
    return struct.pack("<2sIII", b"BM", 0, 0, 1078) + bitmap(width, height, 8, 1)


def jpeg(width: int, height: int, frame: int, scans: int, components: int = 3) -> bytes:
    """Return a JPEG of a kind of frame, its scans without data, each of so many components."""
    every = b"".join(bytes([i, 0x11, 0]) for i in (1, 2, 3))
    one = b"".join(bytes([i + 1, 0]) for i in range(components))
    scan = b"\xff\xda" + struct.pack(">HB", 6 + len(one), components) + one + b"\0\x3f\0\x55"
    size = struct.pack(">BHHB", 8, height, width, 3)
    head = bytes([0xFF, frame]) + struct.pack(">H", 2 + len(size + every)) + size + every
    return b"\xff\xd8" + head + scans * scan + b"\xff\xd9"


def tiff(
    width: int,
    height: int,
    samples: int = 3,
    compression: int = 8,
    data: bytes = b"",
    **more: int,
) -> bytes:
    """Return a TIFF of one strip or one tile, which may hold less than it claims."""
    tag = ExifTags.Base
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory[tag.ImageWidth], directory[tag.ImageLength] = width, height
    directory[tag.BitsPerSample], directory[tag.SamplesPerPixel] = (8,) * samples, samples
    directory[tag.Compression] = compression
    directory[tag.PhotometricInterpretation] = 2
    if samples == 4:
        directory[tag.ExtraSamples] = 2
    for name, value in more.items():
        directory[tag[name]] = value
    if "TileWidth" in more:
        directory[tag.TileOffsets], directory[tag.TileByteCounts] = 0, len(data)
        directory[tag.TileOffsets] = 8 + len(directory.tobytes(8))
    else:  # Pillow counts from the end of the directory
        directory[tag.StripOffsets], directory[tag.StripByteCounts] = 0, len(data)
    return b"II*\0" + struct.pack("<I", 8) + directory.tobytes(8) + data


def decoder_of(header: bytes) -> str:
    """Return Pillow's name for the decoder of a picture."""
    (tile,) = Image.open(io.BytesIO(header)).tile
    name: str = tile[0]
    return name


IN_PYTHON: dict[str, tuple[str, Callable[[int, int], bytes]]] = {
    "a bitmap in runs": ("BMP", bmp_rle),
    "plain PBM": ("PPM", lambda w, h: b"P1 %d %d\n" % (w, h)),
    "plain PGM": ("PPM", lambda w, h: b"P2 %d %d 255\n" % (w, h)),
    "plain PPM": ("PPM", lambda w, h: b"P3 %d %d 255\n" % (w, h)),
    "PGM of a hundred greys": ("PPM", lambda w, h: b"P5 %d %d 99\n" % (w, h)),
    "PPM of 12 bits": ("PPM", lambda w, h: b"P6 %d %d 4095\n" % (w, h)),
}


# --- What is refused --------------------------------------------------------------------------


@by_its_header
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_001, 20_000, 2**31 - 1])
def test_bombs_are_refused(tmp_path: Path, side: int) -> None:
    assert refusal(written(tmp_path / "bomb.png", png(side, side))) == BOMB


@by_its_header
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("width", "height"), [(1, 99_999_999), (65_536, 10)])
def test_very_thin_pictures_are_refused(tmp_path: Path, width: int, height: int) -> None:
    """Pillow keeps 8 bytes per row in addition to the pixels."""
    fault = "has a side of more than 65,535 pixels; crop it"
    assert refusal(written(tmp_path / "thin.png", png(width, height))) == fault


@by_its_header
@pytest.mark.parametrize("kind", IN_PYTHON)
def test_what_is_decoded_in_python_is_refused_above_four_megapixels(
    tmp_path: Path, kind: str
) -> None:
    name, header = IN_PYTHON[kind]
    if decoder_of(header(9, 9)) not in Image.DECODERS:
        pytest.skip("this Pillow does not decode it in Python")
    assert refusal(written(tmp_path / "slow", header(2000, 2001))) == SLOW.format(name)
    path = written(tmp_path / "not_as_slow", header(2000, 1999))
    with pytest.raises(pytest.fail.Exception, match="it is decoded"):
        load_picture(path)


@by_its_header
def test_a_plain_picture_of_very_many_comments_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pgm", b"P2 9 9 9\n" + b"1 #\n" * 10_001)
    assert refusal(path) == SLOW.format("PPM")


def test_every_decoder_in_python_is_known() -> None:
    """If Pillow gets another one, add a header for it to the table above."""
    Image.init()
    plugins = {Image.OPEN[name][0].__module__ for name in FORMATS if name in Image.OPEN}
    in_python = {name for name, kind in Image.DECODERS.items() if kind.__module__ in plugins}
    assert in_python <= {decoder_of(header(9, 9)) for _, header in IN_PYTHON.values()}


LARGE = {
    "progressive JPEG": ("progressive JPEG", jpeg(8000, 8000, 0xC2, 10)),
    "a scan for each component": ("progressive JPEG", jpeg(8000, 8000, 0xC0, 3, components=1)),
    "one strip": ("TIFF", tiff(9990, 9990)),
    "one strip by LZW": ("TIFF", tiff(9990, 9990, samples=4, compression=5)),
    "one strip by JPEG": ("TIFF", tiff(9990, 9990, compression=7, RowsPerStrip=9990)),
    "high strips": ("TIFF", tiff(9990, 9990, RowsPerStrip=2000)),
    "a tile larger than the picture": ("TIFF", tiff(9, 9, TileWidth=20_000, TileLength=20_000)),
    "a turned TIFF": ("turned TIFF", tiff(9990, 9990, compression=1, Orientation=6)),
}


@by_its_header
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", LARGE)
def test_what_takes_too_much_memory_is_refused(tmp_path: Path, kind: str) -> None:
    name, content = LARGE[kind]
    assert refusal(written(tmp_path / "large", content)) == HUNGRY.format(name)


@by_its_header
@pytest.mark.parametrize("prefix", [b"II", b"MM"])
def test_a_tiff_that_gives_a_tag_twice_is_refused(tmp_path: Path, prefix: bytes) -> None:
    """Pillow would use the small tile, but libtiff would unpack the large one."""
    order = "<" if prefix == b"II" else ">"
    tags = {256: [9], 257: [9], 258: [8], 259: [8], 262: [1], 322: [20_000, 9], 323: [20_000, 9]}
    tags |= {324: [8], 325: [9]}
    entries = [struct.pack(f"{order}HHII", tag, 4, 1, value) for tag in tags for value in tags[tag]]
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
    head = prefix + struct.pack(f"{order}HI", 42, 8)
    fault = "gives one of its tags twice; save it again as PNG or JPEG"
    assert refusal(written(tmp_path / "twice.tif", head + directory)) == fault


@by_its_header
def test_a_jpeg_of_very_many_scans_is_refused(tmp_path: Path) -> None:
    content = jpeg(7000, 7000, 0xC2, 200)
    assert refusal(written(tmp_path / "scans.jpg", content)) == SLOW.format("progressive JPEG")


@by_its_header
@pytest.mark.parametrize("start", [png(9, 9), b"RIFF\0\0\0\0WEBPVP8 ", b"GIF89a\1\0\1\0\0\0\0"])
def test_a_file_larger_than_any_picture_is_refused(tmp_path: Path, start: bytes) -> None:
    path = written(tmp_path / "large", start)
    with path.open("r+b") as file:
        file.truncate(100_000_001)  # takes no disk space
    assert refusal(path) == f"is a file of more than 100 MB; {INSTEAD}"


@pytest.mark.parametrize("suffix", ["webp", "avif"])
def test_what_the_codecs_of_videos_keep(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if f".{suffix}" not in Image.registered_extensions():
        pytest.skip(f"this Pillow has no {suffix}")
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (20, 10), "white").save(path)
    assert load_picture(path).shape == (10, 20)
    monkeypatch.setattr(limits, "MAX_DECODING_BYTES", 18 * 200 + path.stat().st_size - 1)
    assert refusal(path) == HUNGRY.format(suffix.upper())


# --- What is read -----------------------------------------------------------------------------


def test_a_small_plain_picture_is_read(tmp_path: Path) -> None:
    picture = np.arange(192, dtype=np.uint8).reshape(6, 32)
    content = b"P2 32 6 255\n# by hand\n" + b" ".join(b"%d" % grey for grey in picture.tobytes())
    assert (load_picture(written(tmp_path / "small.pgm", content)) == picture).all()


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


def megabytes_to_read(path: Path) -> tuple[str, float]:
    """Return the shape or the refusal, and the peak memory of a separate process that read it."""
    command = [sys.executable, "-W", "ignore", "-c", MEMORY, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    said, megabytes = result.stdout.splitlines()
    return said.removeprefix(f"{path} "), float(megabytes)


on_linux = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="Linux tells the peak of memory"
)


@pytest.mark.slow
@on_linux
@pytest.mark.parametrize(
    ("width", "height", "channels", "outcome"),
    [
        (10_000, 10_000, 4, "(1000, 1000)"),
        (65_535, 1_525, 4, "(24, 1009)"),
        (1_525, 65_535, 4, "(1009, 24)"),
    ],
)
def test_no_png_takes_more_than_500_mb(
    tmp_path: Path, width: int, height: int, channels: int, outcome: str
) -> None:
    path = written(tmp_path / "large.png", png(width, height, channels, whole=True))
    said, megabytes = megabytes_to_read(path)
    assert said == outcome
    assert megabytes < 500


def saved(mode: str, width: int, height: int, **options: Any) -> bytes:
    content = io.BytesIO()
    Image.new(mode, (width, height), "grey").save(content, **options)
    return content.getvalue()


def photographed(mode: str, width: int, height: int, chroma: int) -> bytes:
    """Return a HEIC photograph."""
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif, for HEIC, is not installed")
    content = io.BytesIO()
    image = heif.from_pillow(Image.new(mode, (width, height), "grey"))
    image.save(content, chroma=chroma, enc_params={"preset": "ultrafast"})
    return content.getvalue()


# The largest accepted picture of each kind.
ALLOWED: dict[str, Callable[[], bytes]] = {
    "GIF": lambda: saved("L", 9999, 9999, format="gif"),
    "WebP": lambda: saved("RGB", 4500, 4500, format="webp", method=0),
    "AVIF": lambda: saved("RGB", 4700, 4700, format="avif", speed=10),
    "HEIC of a camera": lambda: photographed("RGB", 8064, 6048, 420),
    "HEIC of full colour": lambda: photographed("RGBA", 4400, 4400, 444),
    "BMP": lambda: saved("RGB", 5700, 5700, format="bmp"),
    "PPM": lambda: saved("RGB", 5700, 5700, format="ppm"),
    "JPEG": lambda: saved("RGB", 9999, 9999, format="jpeg"),
    "a thin progressive JPEG": lambda: saved("CMYK", 65_000, 520, format="jpeg", progressive=True),
    "a JPEG in a long file": lambda: saved("RGB", 999, 999, format="jpeg").ljust(100_000_000),
    "MPO": lambda: saved(
        "RGB", 7000, 7000, format="mpo", save_all=True, append_images=[Image.new("RGB", (9, 9))]
    ),
    "TIFF, not compressed": lambda: saved("RGBA", 4990, 4990, format="tiff"),
    "one strip": lambda: tiff(6400, 6400, data=zeros(3 * 6400**2)),
    "a tile larger than the picture": lambda: tiff(
        9, 9, data=zeros(3 * 8000**2), TileWidth=8000, TileLength=8000
    ),
}


def test_every_format_is_in_the_table() -> None:
    kinds = " ".join([*ALLOWED, "PNG", "HEIF"]).upper()  # a PNG is tested above
    assert [name for name in FORMATS if name not in kinds] == []


@pytest.mark.slow
@on_linux
@pytest.mark.parametrize("kind", ALLOWED)
def test_no_decoder_takes_more_than_500_mb(tmp_path: Path, kind: str) -> None:
    if kind == "AVIF" and ".avif" not in Image.registered_extensions():
        pytest.skip("this Pillow has no AVIF")
    said, megabytes = megabytes_to_read(written(tmp_path / "large", ALLOWED[kind]()))
    assert said.startswith("(")  # it is read
    assert megabytes < 500
