"""A picture file -> grey values: any format of Pillow, upright, within 500 MB of memory.

A decoded picture may take 400 MB: 100 megapixels of 4 bytes. So its size is checked before it is
decoded, and it is reduced, strip by strip, before anything else is computed from it. Pillow also
keeps 8 bytes a row, and a strip is at least a thousandth of the longer side high; so no side may be
much longer than that of a large scan. No setting of Pillow or Python is changed, so that several
threads may read pictures at a time.
"""

import os
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, IcnsImagePlugin, IcoImagePlugin, Image, ImageOps

from handcnn.errors import HandcnnError
from handcnn.pictures.colour import to_grey
from handcnn.text import one_line
from handcnn.types import Array

MAX_MEGAPIXELS = 100
# These decoders keep several copies of a picture, or all its coefficients at once.
HUNGRY = {"JPEG2000": 15, "WEBP": 20, "AVIF": 20, "progressive JPEG": 50}  # megapixels
MAX_SIDE = 65_535  # what a JPEG can have
WORKING_SIDE = 1000  # larger pictures are averaged down to this: noise goes, strokes stay
STRIP_PIXELS = 500_000

TOO_LARGE = "has more than 100 megapixels; crop it or make it smaller"
BROKEN = "is not a complete picture that Pillow can read; save it again as PNG or JPEG"


class UnreadableError(Exception):
    """A file that cannot be used; the message says why and what to do, but not which file."""


def load_picture(source: str | os.PathLike[str] | BinaryIO, name: str = "standard input") -> Array:
    """Return a picture, in a file or an open one, as grey values (H, W) in [0, 255], float32.

    It is upright. Pillow's formats and modes are accepted, but for PostScript. Of an animation, the
    first frame is read.
    Colours become the grey that tells ink and paper apart best. Transparency becomes black behind
    light ink and white behind dark ink. Pictures much larger than 1000 pixels are reduced.

    Args:
        source: a path, or an open file, which messages call `name`.
        name: as above.

    Raises:
        HandcnnError: the file cannot be read, is not a complete picture, or is so large that
            decoding it would take more than 500 MB.
    """
    shown = Path(source) if isinstance(source, str | os.PathLike) else name
    try:
        with _opened(source) as file, _identified(file) as image:
            _check_size(image)
            return to_grey(_small_and_upright(image))
    except UnreadableError as fault:
        message = str(fault)
    except Image.DecompressionBombError:  # Pillow's own limit, for what it decodes on the way
        message = TOO_LARGE
    except FileNotFoundError:
        message = "does not exist; check the path"
    except IsADirectoryError:
        message = "is a folder; name a picture in it"
    except PermissionError:
        message = "may not be read; check its permissions"
    except MemoryError:
        message = "does not fit in memory; make it smaller"
    except Exception as error:  # Pillow's decoders raise nearly everything on damaged files
        message = BROKEN
        if isinstance(error, OSError) and error.errno:  # what the system says, not Pillow
            message = f"cannot be read: {error.strerror}; check the path"
    raise HandcnnError(f"{one_line(shown)} {message}") from None


def _opened(source: str | os.PathLike[str] | BinaryIO) -> BinaryIO:
    """Return the open file; a pipe or a device, which may never end, is not read."""
    if not isinstance(source, str | os.PathLike):
        return source
    path = Path(source)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UnreadableError("is a pipe or a device; save the picture in a file first")
    return path.open("rb")


def _identified(file: BinaryIO) -> Image.Image:
    """Return the picture in an open file, not decoded yet.

    An icon holds another picture, which alone knows how large it is. Pillow would decode that one
    without asking, so it is taken out here.
    """
    start = file.read(4)
    file.seek(0)
    if start == b"\0\0\1\0":
        return IcoImagePlugin.IcoFile(file).frame(0)
    if start == b"icns":
        return IcnsImagePlugin.IcnsFile(file).getimage()
    return Image.open(file)


def _check_size(image: Image.Image) -> None:
    """Refuse what would take more than 500 MB to decode, or would run a program."""
    if image.format in ("EPS", "IPTC"):  # IPTC may contain an EPS
        raise UnreadableError("may hold PostScript, which is a program; save it as PNG or JPEG")
    width, height = image.size
    megapixels = width * height / 1_000_000
    if megapixels > MAX_MEGAPIXELS:
        raise UnreadableError(TOO_LARGE)
    if max(width, height) > MAX_SIDE:
        raise UnreadableError("has a side of more than 65,535 pixels; crop it")
    decoder = "progressive JPEG" if "progressive" in image.info else image.format
    limit = HUNGRY.get(decoder or "", MAX_MEGAPIXELS)
    if megapixels > limit:
        raise UnreadableError(
            f"has more than {limit:g} megapixels, too many to read as {decoder}; "
            "make it smaller, or save it as PNG"
        )


def _small_and_upright(image: Image.Image) -> Image.Image:
    """Return the decoded picture, not much larger than needed, turned as its camera was held."""
    image.draft(None, (WORKING_SIDE, WORKING_SIDE))
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    small = _reduced(image)
    small.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(small)


def _reduced(image: Image.Image) -> Image.Image:
    """Return the picture averaged down towards the working side, a strip at a time.

    Pillow needs copies to convert and reduce. Copies of a whole large picture would not fit.
    """
    factor = max(image.size) // WORKING_SIDE
    if factor < 2:
        return image
    width, height = image.size
    rows = factor * max(1, STRIP_PIXELS // (width * factor))
    strips = []
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        if strip.mode.startswith("I;"):
            strip = strip.convert("I")
        elif strip.mode in ("1", "P", "PA"):
            strip = strip.convert("RGBA" if image.has_transparency_data else "RGB")
        strips.append(strip.reduce(factor))
    small = Image.new(strips[0].mode, (strips[0].width, sum(strip.height for strip in strips)))
    for i, strip in enumerate(strips):
        small.paste(strip, (0, i * (rows // factor)))
    return small
