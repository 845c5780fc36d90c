"""Which picture formats are read, and what a file is that has none of them."""

from typing import BinaryIO

from PIL import Image, ImageFile, UnidentifiedImageError

from handcnn.errors import HandcnnError

# Pillow has readers for dozens more. Some run programs or decode pictures inside pictures without a
# check, and hardly anyone keeps a photograph in them.
FORMATS = ("PNG", "JPEG", "MPO", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "HEIF")
BROKEN = (
    "is not a complete PNG, JPEG, GIF, WebP, BMP, TIFF, PPM, AVIF or HEIC picture; "
    "save it again as PNG or JPEG"
)
START_BYTES = 1024  # of a file, enough to recognise its kind

AVIF = {b"avif", b"avis"}  # brands of the container that both formats share
HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def open_picture(file: BinaryIO) -> ImageFile.ImageFile:
    """Return the picture in an open file, identified but not decoded.

    Raises:
        HandcnnError: the file has none of the formats. The message lacks the name of the file.
    """
    file.seek(0)
    start = file.read(START_BYTES)
    file.seek(0)
    brands = _brands(start)
    if brands & HEIC and not brands & AVIF:
        _register_heic()
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]
    if brands & AVIF and "AVIF" not in known:
        raise HandcnnError("is an AVIF picture; install Pillow 11.3 or newer, or save it as PNG")
    try:
        return Image.open(file, formats=known)
    except UnidentifiedImageError:
        raise HandcnnError(_fault(start)) from None


def _brands(start: bytes) -> set[bytes]:
    """Return what a file of the AVIF and HEIC family says it contains; for others, nothing."""
    if start[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(start[:4], "big"), len(start))
    return {start[i : i + 4] for i in range(8, end, 4)}


def _register_heic() -> None:
    """Let Pillow open HEIC photographs, if pillow-heif is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise HandcnnError(
            "is a HEIC photograph; install pillow-heif to read it, or save it as JPEG"
        ) from None
    register_heif_opener()


def _fault(start: bytes) -> str:
    """Return what a file is that Pillow did not recognise, and what to do instead."""
    text = start.lower()
    if not start:
        return "is empty; save the picture again"
    if b"%pdf-" in text:
        return "is a PDF, not a picture; save the page as PNG or JPEG"
    if text.startswith((b"%!ps", b"\xc5\xd0\xd3\xc6")):
        return "is PostScript, not a picture; save it as PNG or JPEG"
    if b"<html" in text or b"<!doctype html" in text:
        return "is a web page, not a picture; save the picture in it as PNG or JPEG"
    if b"<svg" in text:
        return "is an SVG drawing, not a picture of pixels; save it as PNG"
    return BROKEN
