"""Limits on the cost of a picture, checked before it is decoded: 500 MB, about ten seconds.

A decoded picture may take 400 MB: 100 megapixels of 4 bytes. Pillow also keeps 8 bytes per row, and
a strip is at least a thousandth of the longer side high, so the longer side is limited, too. Most
decoders need little more than the picture. The tables here list what the others need, and which are
slow.
"""

import os
import re
from typing import BinaryIO

from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from handcnn.errors import HandcnnError

MAX_MEGAPIXELS = 100
MAX_SIDE_PIXELS = 65_535  # the limit of JPEG
MAX_FILE_BYTES = 100_000_000  # some decoders keep two copies of it
MAX_DECODING_BYTES = 410_000_000  # Python and its libraries need the rest of the 500 MB

# Bytes per pixel, for decoders that keep more than the picture.
BYTES_PER_PIXEL = {
    "WEBP": 18,  # the canvas, a frame and copies of both
    "AVIF": 18,
    "HEIF": 8,  # 8 bits, colour at half resolution, as cameras save it
    "HEIF of full colour": 21,
    "progressive JPEG": 12,  # all coefficients, in 16 bits; a thin one is not reduced on the way
    "turned TIFF": 8,  # the picture before and after
}
KEEPS_THE_FILE = ("WEBP", "AVIF", "HEIF")

# A decoder written in Python takes up to 2.5 microseconds per pixel.
MAX_SLOW_MEGAPIXELS = 4
MAX_SLOW_FILE_BYTES = 50_000_000  # not all of them must be pixels
MAX_COMMENTS = 10_000  # in a plain PBM, PGM or PPM; removing one can copy a megabyte
MAX_SCANS_MEGAPIXELS = 5000  # scans of a JPEG times megapixels; a scan visits all coefficients

TOO_LARGE = "has more than 100 megapixels; crop it or make it smaller"
INSTEAD = "make it smaller, or save it as PNG"

MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # in a JPEG; after \xff, the rest are data
START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
Tag = ExifTags.Base


def check_file(file: BinaryIO) -> int:
    """Return the length of an open file in bytes; refuse one that is too large."""
    length = file.seek(0, os.SEEK_END)
    if length > MAX_FILE_BYTES:
        raise HandcnnError(f"is a file of more than {MAX_FILE_BYTES // 10**6} MB; {INSTEAD}")
    return length


def check_picture(image: ImageFile.ImageFile, file: BinaryIO, length: int) -> None:
    """Refuse a picture that would cost too much, before it is decoded.

    Args:
        image: the picture, identified by Pillow but not decoded.
        file: the open file that contains it.
        length: of the file, in bytes.
    """
    pixels = image.width * image.height
    if pixels > MAX_MEGAPIXELS * 1e6:
        raise HandcnnError(TOO_LARGE)
    if max(image.size) > MAX_SIDE_PIXELS:
        raise HandcnnError("has a side of more than 65,535 pixels; crop it")
    scans = _scans(file, length) if image.format in ("JPEG", "MPO") else 0
    decoder = _decoder(image, scans)
    if pixels * scans > MAX_SCANS_MEGAPIXELS * 1e6 or _is_slow(image, file, length):
        raise HandcnnError(f"takes too long to read as {decoder}; {INSTEAD}")
    memory = pixels * BYTES_PER_PIXEL.get(decoder, 1 if image.mode in ("1", "L", "P") else 4)
    if image.format in KEEPS_THE_FILE:
        memory += length
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        memory += 2 * _largest_piece(image, file, length)
    if memory > MAX_DECODING_BYTES:
        raise HandcnnError(f"takes more than 500 MB of memory to read as {decoder}; {INSTEAD}")


def _is_slow(image: ImageFile.ImageFile, file: BinaryIO, length: int) -> bool:
    """Return whether a BMP or PPM is decoded by Python code and too large for that."""
    decoders = {tile[0] for tile in image.tile} & Image.DECODERS.keys()
    if not decoders:
        return False
    if image.width * image.height > MAX_SLOW_MEGAPIXELS * 1e6 or length > MAX_SLOW_FILE_BYTES:
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


def _decoder(image: ImageFile.ImageFile, scans: int) -> str:
    """Return a name for the decoder of a picture: its format, or a variant of it."""
    if scans > 1:
        return "progressive JPEG"
    if image.format == "TIFF" and image.getexif().get(Tag.Orientation, 1) != 1:
        return "turned TIFF"
    if image.format == "HEIF" and (
        image.mode not in ("L", "RGB")
        or image.info.get("bit_depth") != 8
        or image.info.get("chroma", 420) != 420
    ):
        return "HEIF of full colour"
    return image.format or ""


def _largest_piece(image: TiffImagePlugin.TiffImageFile, file: BinaryIO, length: int) -> int:
    """Return the size in bytes of the largest strip or tile, which is read or unpacked at once."""
    if not image.use_load_libtiff:
        return length  # not compressed
    tags = image.tag_v2
    _check_directory(file, tags.offset)
    width, height = tags[Tag.ImageWidth], tags[Tag.ImageLength]
    rows = tags.get(Tag.RowsPerStrip, height)
    if Tag.TileWidth in tags or Tag.TileLength in tags:  # a tile can be larger than the picture
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
        raise HandcnnError("gives one of its tags twice; save it again as PNG or JPEG")
