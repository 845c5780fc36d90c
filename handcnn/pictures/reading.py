"""Read a picture file as grey values: any format of Pillow, upright, within 500 MB of memory.

The cost of a picture is checked before it is decoded (limits.py). Then it is reduced, strip by
strip, before anything else is computed. No setting of Pillow or Python is changed, so several
threads may read pictures concurrently.
"""

import errno
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import (
    BmpImagePlugin,
    ExifTags,
    IcnsImagePlugin,
    IcoImagePlugin,
    Image,
    ImageOps,
    Jpeg2KImagePlugin,
)

from handcnn.errors import HandcnnError
from handcnn.pictures.colour import to_grey
from handcnn.pictures.limits import (
    POSTSCRIPT,
    TOO_LARGE,
    UnreadableError,
    check_file,
    check_picture,
)
from handcnn.text import one_line
from handcnn.types import Array

WORKING_SIDE = 1000  # larger pictures are reduced to this size, which removes noise
STRIP_PIXELS = 500_000

PNG = b"\x89PNG\r\n\x1a\n"  # the first bytes of a PNG file
BROKEN = "is not a complete picture that Pillow can read; save it again as PNG or JPEG"


def load_picture(source: str | os.PathLike[str] | BinaryIO, name: str = "standard input") -> Array:
    """Return a picture file as grey values (H, W) in [0, 255], float32.

    The picture is turned upright. All of Pillow's formats and modes are accepted except PostScript
    and BLP. Of an animation, the first frame is read. Colours become the grey that separates ink
    and paper best. Transparency becomes black behind light ink and white behind dark ink. Pictures
    much larger than 1000 pixels are reduced.

    Args:
        source: a path or an open file.
        name: the name of an open file in messages.

    Raises:
        HandcnnError: the file cannot be read, is not a complete picture, or would take more than
            500 MB of memory or much more than ten seconds to decode (limits.py).
    """
    shown = Path(source) if isinstance(source, str | os.PathLike) else name
    try:
        with _opened(source) as file, _identified(file) as image:
            small = _small_and_upright(image)
            image.close()  # frees the memory of a large one
        grey = to_grey(small)
        # Such values are black on black, but prepare_picture would take them for a scale of 0 to 1.
        return grey if grey.max() > 1 else np.zeros_like(grey)
    except UnreadableError as fault:
        message = str(fault)
    except Image.DecompressionBombError:  # Pillow's own limit, for pictures inside others
        message = TOO_LARGE
    except FileNotFoundError:
        message = "does not exist; check the path"
    except IsADirectoryError:
        message = "is a folder; give a picture in it"
    except PermissionError:
        message = "cannot be read; check its permissions"
    except MemoryError:
        message = "does not fit in memory; make it smaller"
    except Exception as error:  # Pillow's decoders raise almost any class on damaged files
        message = BROKEN
        # A system error, unless a damaged file made Pillow seek to before its start.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            message = f"cannot be read: {error.strerror}; check the path"
    raise HandcnnError(f"{one_line(shown)} {message}") from None


def _opened(source: str | os.PathLike[str] | BinaryIO) -> BinaryIO:
    """Return the open file. Refuse pipes and devices, which may never end."""
    if not isinstance(source, str | os.PathLike):
        return source
    path = Path(source)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UnreadableError("is a pipe or a device; save the picture in a file first")
    return path.open("rb")


def _identified(file: BinaryIO) -> Image.Image:
    """Return the picture in an open file, not decoded yet, after checking its cost.

    An icon contains other pictures with their own sizes. Pillow would decode one of them without a
    check, so it is extracted here.
    """
    length = check_file(file)
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    if start == b"\0\0\1\0":
        _check_ico(file, length)
        image = IcoImagePlugin.IcoFile(file).frame(0)
    elif start == b"icns":
        _check_icns(file, length)
        image = IcnsImagePlugin.IcnsFile(file).getimage()
    else:
        image = Image.open(file)
    if image.format in ("EPS", "IPTC"):  # IPTC may contain an EPS
        raise UnreadableError(POSTSCRIPT)
    if image.format == "BLP":
        raise UnreadableError("may contain a JPEG of any size; save it as PNG or JPEG")
    check_picture(image, file, length)
    return image


def _check_ico(file: BinaryIO, length: int) -> None:
    """Refuse a Windows icon if one of its bitmaps costs too much. Its PNGs are not decoded yet."""
    count = int.from_bytes(file.read(6)[4:], "little")
    for (offset,) in struct.iter_unpack("<12xI", file.read(16 * count)):
        file.seek(offset)
        if file.read(len(PNG)) != PNG:
            file.seek(offset)
            bitmap = BmpImagePlugin.DibImageFile(file)
            check_picture(bitmap, file, length, (bitmap.width, bitmap.height // 2))
    file.seek(0)


def _check_icns(file: BinaryIO, length: int) -> None:
    """Refuse a Mac OS icon if its JPEG 2000 costs too much. A PNG is not decoded yet."""
    icon = IcnsImagePlugin.IcnsFile(file)
    for kind, _ in icon.SIZES[icon.bestsize()]:
        if kind in icon.dct:
            file.seek(icon.dct[kind][0])
            with suppress(SyntaxError):  # it is not a JPEG 2000
                check_picture(Jpeg2KImagePlugin.Jpeg2KImageFile(file), file, length)
    file.seek(0)


def _small_and_upright(image: Image.Image) -> Image.Image:
    """Return the decoded picture, reduced if it is large, and turned upright by its EXIF data."""
    image.draft(None, (WORKING_SIDE, WORKING_SIDE))
    image.load()  # also turns a TIFF upright
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    small = _reduced(image)
    small.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(small)


def _reduced(image: Image.Image) -> Image.Image:
    """Return the picture reduced to about the working side, strip by strip.

    Pillow copies a picture to convert and reduce it. Copies of a whole large picture would not fit.
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
