"""Read a picture file as grey values: upright, within 500 MB of memory.

formats.py says which formats are read. The cost of a picture is checked before it is decoded
(limits.py). Then it is reduced, strip by strip, before anything else is computed. No setting of
Pillow or Python is changed, so several threads may read pictures concurrently.
"""

import errno
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from handcnn.errors import HandcnnError
from handcnn.pictures.colour import to_grey
from handcnn.pictures.formats import BROKEN, open_picture
from handcnn.pictures.limits import TOO_LARGE, check_file, check_picture
from handcnn.text import one_line
from handcnn.types import Array

WORKING_SIDE = 1000  # pixels; larger pictures are reduced to this size, which removes noise
SIDEWAYS = (5, 6, 7, 8)  # orientations in EXIF whose width becomes the height
STRIP_PIXELS = 500_000


def load_picture(source: str | os.PathLike[str] | BinaryIO, name: str = "standard input") -> Array:
    """Return a picture file as grey values (H, W) in [0, 255], float32.

    The picture is turned upright. Of an animation, the first frame is read. Colours become the grey
    that separates ink and paper best. Transparency becomes black behind light ink and white behind
    dark ink. Pictures much larger than 1000 pixels are reduced.

    Args:
        source: a path or an open file.
        name: the name of an open file in messages.

    Raises:
        HandcnnError: the file cannot be read, is not a complete picture of a known format
            (formats.py), or would take more than 500 MB of memory or much more than ten seconds to
            decode (limits.py).
    """
    shown = Path(source) if isinstance(source, str | os.PathLike) else name
    try:
        with _opened(source) as file:
            length = check_file(file)
            with open_picture(file) as image:
                check_picture(image, file, length)
                small = _small_and_upright(image)
                image.close()  # frees the memory of a large one
        grey = to_grey(small)
        # Such values are black on black, but prepare_picture would take them for a scale of 0 to 1.
        return grey if grey.max() > 1 else np.zeros_like(grey)
    except HandcnnError as fault:
        message = str(fault)
    except Image.DecompressionBombError:  # Pillow's own limit
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


def picture_size(source: str | os.PathLike[str] | BinaryIO) -> tuple[int, int]:
    """Return the width and height, in pixels and upright, of a file that `load_picture` can read.

    A picture that it has reduced is smaller.
    """
    with _opened(source) as file, open_picture(file) as image:
        width, height = image.size
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in SIDEWAYS
        return (height, width) if turned else (width, height)


def _opened(source: str | os.PathLike[str] | BinaryIO) -> BinaryIO:
    """Return the open file. Refuse pipes and devices, which may never end."""
    if not isinstance(source, str | os.PathLike):
        return source
    path = Path(source)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise HandcnnError("is a pipe or a device; save the picture in a file first")
    return path.open("rb")


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
