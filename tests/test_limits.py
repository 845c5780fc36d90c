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


def in_ico(content: bytes) -> bytes:
    """Return an icon that claims 16x16 pixels but contains a picture of any size."""
    entry = struct.pack("<4B2H2I", 16, 16, 0, 0, 1, 1, len(content), 22)
    return struct.pack("<3H", 0, 1, 1) + entry + content


def in_icns(content: bytes) -> bytes:
    block = b"ic07" + struct.pack(">I", 8 + len(content)) + content  # claims 128x128
    return b"icns" + struct.pack(">I", 8 + len(block)) + block


def bitmap(width: int, height: int, bits: int = 1, compression: int = 0) -> bytes:
    """Return the header of a Windows bitmap with its palette, as in an icon."""
    colours = 1 << bits
    sizes = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, colours, 0
    )
    return sizes + bytes(4 * colours)


def bmp_rle(width: int, height: int) -> bytes:
    return struct.pack("<2sIII", b"BM", 0, 0, 1078) + bitmap(width, height, 8, 1)


def jpeg_2000(width: int, height: int) -> bytes:
    """Return a codestream of three components, up to its first tile."""
    size = struct.pack(">HIIIIIIIIH", 0, width, height, 0, 0, width, height, 0, 0, 3)
    size += 3 * b"\x07\1\1"
    return b"\xff\x4f\xff\x51" + struct.pack(">H", 2 + len(size)) + size + b"\xff\x90"


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


def dds(width: int, height: int) -> bytes:
    head = struct.pack("<7I44x", 124, 0x1007, height, width, 0, 0, 0)
    return b"DDS " + head + struct.pack("<8I20x", 32, 0x40, 0, 24, 0xFF0000, 0xFF00, 0xFF, 0)


def fits(width: int, height: int) -> bytes:
    def unit(**cards: object) -> bytes:
        lines = [f"{key:8}= {value}" for key, value in cards.items()] + ["END"]
        content = b"".join(line.ljust(80).encode() for line in lines)
        return content.ljust(2880)

    first = unit(SIMPLE="T", BITPIX=8, NAXIS=0)
    table = {"XTENSION": "'BINTABLE'", "BITPIX": 8, "NAXIS": 2, "NAXIS1": 8, "NAXIS2": 1}
    packed = {"ZIMAGE": "T", "ZCMPTYPE": "'GZIP_1  '", "ZBITPIX": 8, "ZNAXIS": 2}
    return first + unit(**table, **packed, ZNAXIS1=width, ZNAXIS2=height) + bytes(80)


def msp(width: int, height: int) -> bytes:
    head = struct.pack("<4s12H", b"LinS", width, height, 1, 1, 1, 1, width, height, 0, 0, 0, 0)
    words = struct.unpack("<14H", head)
    checksum = 0
    for word in words:
        checksum ^= word
    return head[:24] + struct.pack("<H", checksum) + bytes(6)


def sgi(width: int, height: int, samples: int = 4, depth: int = 1) -> bytes:
    return struct.pack(">hBBHHHH500x", 474, 0, depth, 3, width, height, samples)


def tga(width: int, height: int, kind: int = 2) -> bytes:
    return struct.pack("<2xB9xHHBB", kind, width, height, 32, 0x38)  # to the left


def gbr(width: int, height: int) -> bytes:
    return struct.pack(">5I4sI", 28, 2, width, height, 4, b"GIMP", 9)


def xpm(width: int, height: int) -> bytes:
    return b'/* XPM */\nstatic char *x[] = {\n"%d %d 1 1",\n". c #000000",\n' % (width, height)


def decoder_of(header: bytes) -> str:
    """Return Pillow's name for the decoder of a picture."""
    (tile,) = Image.open(io.BytesIO(header)).tile
    name: str = tile[0]
    return name


IN_PYTHON: dict[str, tuple[str, Callable[[int, int], bytes]]] = {
    "a bitmap in runs": ("BMP", bmp_rle),
    "a bitmap in runs in an icon": (
        "ICO",
        lambda w, h: in_ico(bitmap(w, 2 * h, 8, 1) + bytes(w * h)),
    ),
    "uncompressed DDS": ("DDS", dds),
    "a gzipped tile of FITS": ("FITS", fits),
    "MSP in runs": ("MSP", msp),
    "plain PBM": ("PPM", lambda w, h: b"P1 %d %d\n" % (w, h)),
    "plain PGM": ("PPM", lambda w, h: b"P2 %d %d 255\n" % (w, h)),
    "plain PPM": ("PPM", lambda w, h: b"P3 %d %d 255\n" % (w, h)),
    "PGM of a hundred greys": ("PPM", lambda w, h: b"P5 %d %d 99\n" % (w, h)),
    "PPM of 12 bits": ("PPM", lambda w, h: b"P6 %d %d 4095\n" % (w, h)),
    "QOI": ("QOI", lambda w, h: b"qoif" + struct.pack(">IIBB", w, h, 4, 0)),
    "SGI of 16 bits": ("SGI", lambda w, h: sgi(w, h, depth=2)),
    "XPM": ("XPM", xpm),
}


# --- What is refused --------------------------------------------------------------------------


@by_its_header
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("inside", [bytes, in_ico, in_icns])
@pytest.mark.parametrize("side", [10_001, 20_000, 2**31 - 1])
def test_bombs_are_refused(tmp_path: Path, side: int, inside: Callable[[bytes], bytes]) -> None:
    assert refusal(written(tmp_path / "bomb.png", inside(png(side, side)))) == BOMB


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
    if name != "ICO" and decoder_of(header(9, 9)) not in Image.DECODERS:
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
    headers = (header(9, 9) for name, header in IN_PYTHON.values() if name != "ICO")
    assert set(Image.DECODERS) - {"BLP1", "BLP2"} <= {decoder_of(header) for header in headers}


LARGE = {
    "JPEG 2000": ("JPEG2000", jpeg_2000(4000, 4000)),
    "JPEG 2000 in an icon": ("JPEG2000", in_icns(jpeg_2000(10_000, 10_000))),
    "a bitmap in an icon": ("ICO", in_ico(bitmap(6000, 12_000))),
    "progressive JPEG": ("progressive JPEG", jpeg(8000, 8000, 0xC2, 10)),
    "a scan for each component": ("progressive JPEG", jpeg(8000, 8000, 0xC0, 3, components=1)),
    "one strip": ("TIFF", tiff(9990, 9990)),
    "one strip by LZW": ("TIFF", tiff(9990, 9990, samples=4, compression=5)),
    "one strip by JPEG": ("TIFF", tiff(9990, 9990, compression=7, RowsPerStrip=9990)),
    "high strips": ("TIFF", tiff(9990, 9990, RowsPerStrip=2000)),
    "a tile larger than the picture": ("TIFF", tiff(9, 9, TileWidth=20_000, TileLength=20_000)),
    "a turned TIFF": ("turned TIFF", tiff(9990, 9990, compression=1, Orientation=6)),
    "a plane after the other": ("SGI", sgi(9990, 9990)),
    "mirrored": ("TGA", tga(9990, 9990)),
    "GBR": ("GBR", gbr(9990, 9990)),
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
def test_a_texture_that_holds_a_jpeg_is_refused(tmp_path: Path) -> None:
    content = struct.pack("<4s3I2iI", b"BLP1", 0, 0, 10, 10, 5, 0) + bytes(132)
    fault = "may contain a JPEG of any size; save it as PNG or JPEG"
    assert refusal(written(tmp_path / "a.blp", content)) == fault


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
    monkeypatch.setattr(limits, "MAX_DECODING", 18 * 200 + path.stat().st_size - 1)
    assert refusal(path) == HUNGRY.format(suffix.upper())


# --- What is read -----------------------------------------------------------------------------


PICTURE = np.arange(192, dtype=np.uint8).reshape(6, 32)


def stored(kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    Image.fromarray(PICTURE).save(content, kind, **options)
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        in_ico(stored("png")),
        in_icns(stored("png")),
        in_icns(stored("jpeg2000", no_jp2=True)),
        stored("ico", bitmap_format="bmp", sizes=[(32, 6)]),
        b"P2 32 6 255\n# by hand\n" + b" ".join(b"%d" % grey for grey in PICTURE.tobytes()),
        b"qoif"
        + struct.pack(">IIBB", 32, 6, 3, 0)
        + b"".join(b"\xfe%c%c%c" % (v, v, v) for v in PICTURE.tobytes()),
    ],
    ids=["PNG in ICO", "PNG in ICNS", "JPEG 2000 in ICNS", "BMP in ICO", "plain PGM", "QOI"],
)
def test_small_ones_of_these_kinds_are_read(tmp_path: Path, content: bytes) -> None:
    assert (load_picture(written(tmp_path / "small", content)) == PICTURE).all()


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


# The largest accepted picture of each kind.
ALLOWED: dict[str, Callable[[], bytes]] = {
    "JPEG 2000 in an icon": lambda: in_icns(saved("RGBA", 3890, 3890, format="jpeg2000")),
    "WebP": lambda: saved("RGB", 4500, 4500, format="webp", method=0),
    "a thin progressive JPEG": lambda: saved("CMYK", 65_000, 520, format="jpeg", progressive=True),
    "a JPEG in a long file": lambda: saved("RGB", 999, 999, format="jpeg").ljust(100_000_000),
    "a mirrored TGA": lambda: tga(7040, 7040, 10) + b"\xff\1\2\3\4" * (7040**2 // 128),
    "one strip": lambda: tiff(6400, 6400, data=zeros(3 * 6400**2)),
    "a tile larger than the picture": lambda: tiff(
        9, 9, data=zeros(3 * 8000**2), TileWidth=8000, TileLength=8000
    ),
}


@pytest.mark.slow
@on_linux
@pytest.mark.parametrize("kind", ALLOWED)
def test_no_decoder_takes_more_than_500_mb(tmp_path: Path, kind: str) -> None:
    said, megabytes = megabytes_to_read(written(tmp_path / "large", ALLOWED[kind]()))
    assert said.startswith("(")  # it is read
    assert 130 < megabytes < 500  # and needs some memory
