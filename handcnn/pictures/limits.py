"""Limits on the cost of a picture, checked before it is decoded: 500 MB, about ten seconds.

A decoded picture may take 400 MB: 100 megapixels of 4 bytes. Pillow also keeps 8 bytes per row, and
a strip is at least a thousandth of the longer side high, so the longer side is limited, too. Most
of Pillow's decoders need little more than the picture. The tables here list what the others need,
and which are slow.
"""

import os
import re
from itertools import pairwise
from typing import Any, BinaryIO

from PIL import ExifTags, Image, TiffImagePlugin

MAX_MEGAPIXELS = 100
MAX_SIDE = 65_535  # pixels, the limit of JPEG
MAX_FILE = 100_000_000  # bytes; some plugins keep two copies, or search it byte by byte
MAX_DECODING = 410_000_000  # bytes; Python and its libraries need the rest of the 500 MB

# Bytes per pixel, for decoders that keep more than the picture.
HUNGRY = {
    "JPEG2000": 27,  # each sample twice, in 32 bits
    "WEBP": 18,  # the canvas, a frame and copies of both
    "AVIF": 18,
    "progressive JPEG": 12,  # all coefficients, in 16 bits; a thin one is not reduced on the way
    "turned TIFF": 8,  # the picture before and after
    "TGA": 8,  # the same, for a mirrored picture
    "GBR": 8,  # the picture and the file
    "CUR": 14,  # a bitmap and its mask, before and after they are converted
    "ICO": 14,
}
KEEPING_THE_FILE = ("WEBP", "AVIF", "FLI", "FTEX")

# A decoder written in Python takes up to 2.5 microseconds per pixel.
MAX_SLOW_MEGAPIXELS = 4
MAX_SLOW_FILE = 50_000_000  # bytes; not all of them must be pixels
MAX_COMMENTS = 10_000  # in a plain PBM, PGM or PPM; removing one can copy a megabyte
MAX_SCANS = 5000  # of a JPEG, times its megapixels; each scan visits all coefficients

POSTSCRIPT = "may contain PostScript, which is a program; save it as PNG or JPEG"
TOO_LARGE = "has more than 100 megapixels; crop it or make it smaller"
INSTEAD = "make it smaller, or save it as PNG"

MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # in a JPEG; after \xff, the rest are data
START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
Tag = ExifTags.Base


class UnreadableError(Exception):
    """A file that cannot be used; the message gives the reason and the fix, but not the name."""


def check_file(file: BinaryIO) -> int:
    """Return the length of an open file in bytes; refuse one that is too large, or a program."""
    length = file.seek(0, os.SEEK_END)
    if length > MAX_FILE:
        raise UnreadableError(f"is a file of more than {MAX_FILE // 10**6} MB; {INSTEAD}")
    file.seek(0)
    if file.read(4) in (b"%!PS", b"\xc5\xd0\xd3\xc6"):  # Pillow would search all of it
        raise UnreadableError(POSTSCRIPT)
    return length


def check_picture(
    image: Image.Image, file: BinaryIO, length: int, in_icon: tuple[int, int] | None = None
) -> None:
    """Refuse a picture that would cost too much, before it is decoded.

    Args:
        image: the picture, identified by Pillow but not decoded.
        file: the open file that contains it.
        length: of the file, in bytes.
        in_icon: the (width, height) of a bitmap in an icon; its `image` includes the mask.
    """
    width, height = in_icon or image.size
    megapixels = width * height / 1e6
    if megapixels > MAX_MEGAPIXELS:
        raise UnreadableError(TOO_LARGE)
    if max(width, height) > MAX_SIDE:
        raise UnreadableError("has a side of more than 65,535 pixels; crop it")
    scans = _scans(file, length) if image.format in ("JPEG", "MPO") else 0
    decoder = "ICO" if in_icon else _decoder(image, scans)
    if megapixels * scans > MAX_SCANS or _is_slow(image, megapixels, file, length):
        raise UnreadableError(f"takes too long to read as {decoder}; {INSTEAD}")
    bytes_a_pixel = HUNGRY.get(decoder, 1 if image.mode in ("1", "L", "P") else 4)
    memory = width * height * bytes_a_pixel + 2 * _largest_piece(image, file)
    if decoder in KEEPING_THE_FILE:
        memory += length
    if memory > MAX_DECODING:
        raise UnreadableError(f"takes more than 500 MB of memory to read as {decoder}; {INSTEAD}")


def _is_slow(image: Image.Image, megapixels: float, file: BinaryIO, length: int) -> bool:
    """Return whether a picture is decoded by Python code and too large for that."""
    decoders = {tile[0] for tile in _tiles(image)} & Image.DECODERS.keys()
    if not decoders:
        return False
    if megapixels > MAX_SLOW_MEGAPIXELS or length > MAX_SLOW_FILE:
        return True
    file.seek(0)
    return "ppm_plain" in decoders and file.read().count(b"#") > MAX_COMMENTS


def _scans(file: BinaryIO, length: int) -> int:
    """Return the number of scans in a JPEG file."""
    file.seek(0)
    content = file.read(length)  # without a length, Python would make copies
    scans, place = 0, len(b"\xff\xd8")
    while (marker := MARKER.search(content, place)) and marker[0] != END_OF_IMAGE:
        scans += marker[0] == START_OF_SCAN
        place = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2])
    return scans


def _decoder(image: Image.Image, scans: int) -> str:
    """Return a name for the decoder of a picture: its format, or a variant of it."""
    if scans > 1:
        return "progressive JPEG"
    if image.format == "TIFF" and image.getexif().get(Tag.Orientation, 1) != 1:
        return "turned TIFF"
    return image.format or ""


def _tiles(image: Image.Image) -> list[Any]:
    """Return the (decoder, box, offset, arguments) of each stored part of a picture."""
    return list(getattr(image, "tile", None) or [])


def _largest_piece(image: Image.Image, file: BinaryIO) -> int:
    """Return the size in bytes of the largest part that is read or unpacked at once."""
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.use_load_libtiff:
        _check_directory(file, image.tag_v2.offset)
        return _piece_of_tiff(image.tag_v2)
    offsets = sorted(tile[2] for tile in _tiles(image))
    return int(max((end - start for start, end in pairwise(offsets)), default=0))


def _piece_of_tiff(tags: TiffImagePlugin.ImageFileDirectory_v2) -> int:
    """Return the bytes of a strip or a tile, which can be larger than the picture."""
    width, height = tags[Tag.ImageWidth], tags[Tag.ImageLength]
    rows = tags.get(Tag.RowsPerStrip, height)
    if Tag.TileWidth in tags or Tag.TileLength in tags:
        width, height = tags[Tag.TileWidth], tags[Tag.TileLength]
    elif 0 < rows < height:
        height = rows
    bits = max(tags.get(Tag.BitsPerSample, (1,))) * tags.get(Tag.SamplesPerPixel, 1)
    return int(width * height * bits // 8)


def _check_directory(file: BinaryIO, place: int) -> None:
    """Refuse a TIFF that gives a tag twice: libtiff uses the first one, Pillow the last."""
    file.seek(0)
    start = file.read(4)
    big = 43 in start  # a BigTIFF
    file.seek(place)
    count = int.from_bytes(file.read(8 if big else 2), "little" if start[0] == ord("I") else "big")
    step = 20 if big else 12
    entries = file.read(count * step)
    tags = [entries[i : i + 2] for i in range(0, len(entries), step)]
    if len(set(tags)) < len(tags):
        raise UnreadableError("gives one of its tags twice; save it again as PNG or JPEG")
