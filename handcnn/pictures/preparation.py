"""From any picture of a digit to what the network was trained on: MNIST's own recipe.

MNIST was made from scans by cropping the ink, fitting its longer side to 20 pixels and shifting its
centre of mass to the middle of 28x28, bright on black (LeCun, Cortes and Burges, "The MNIST
database of handwritten digits"). A scan has an even background; a photograph has shadows, paper
lines and noise, and a mouse draws strokes one pixel thin. So there are four steps: which side is
the ink, how far does each pixel differ from the background around it, which of these pixels are the
digit, and how would a pen of MNIST's width have drawn it.

Constants are shares of the picture or of the digit. They are round values that worked on MNIST test
digits redrawn with forty kinds of damage and on pictures of other people's digits; the result hangs
on none of them closely.
"""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps
from scipy import ndimage

from handcnn.errors import HandcnnError
from handcnn.storage.files import atomic_write

Grey = npt.NDArray[Any]  # float32 or float64
Mask = npt.NDArray[np.bool_]
Box = tuple[slice, ...]  # rows, columns

MAX_PIXELS = 100_000_000
HUNGRY_FORMATS = ("JPEG2000", "WEBP", "AVIF")  # whose decoders need several copies of a picture
MAX_HUNGRY_PIXELS = 20_000_000
STRIP_PIXELS = 500_000
WORKING_SIDE = 1000  # larger pictures are averaged down to this: noise goes, strokes stay
FIELD, BOX, CENTRE = 28, 20, 14  # MNIST: the picture, the ink's longer side, its centre of mass
FINE_BOX = 5 * BOX  # strokes are thickened on a grid five times as fine
PEN_WIDTH = 2.4  # pixels in the 20x20 box; MNIST's median stroke
MIN_CONTRAST = 5  # of 255 grey levels: less is no stroke
EIGHT_NEIGHBOURS = np.ones((3, 3), bool)


def load_picture(path: str | os.PathLike[str] | BinaryIO) -> Grey:
    """Return the picture in a file as grey values (H, W) in [0, 255], upright, float32.

    Any format and mode of Pillow; of an animation, the first frame. Colours become the grey that
    tells ink and paper apart best, transparency becomes black behind light ink and white behind
    dark ink, and pictures much larger than 1000 pixels are reduced.

    Raises:
        HandcnnError: the file cannot be read, is no complete picture or has too many pixels, which
            is more than would be decoded within 500 MB.
    """
    # Temporary, until the room of pictures brings its own way to read an open file.
    name: Any = Path(path) if isinstance(path, str | os.PathLike) else "standard input"
    former = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow raises at twice its limit, in icons as well
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata; sizes are checked
            return _grey(_opened(name if isinstance(name, Path) else path))
    except HandcnnError:
        raise
    except Image.DecompressionBombError:
        message = "has more than 100 megapixels; crop it or make it smaller"
    except FileNotFoundError:
        message = "does not exist; check the path"
    except IsADirectoryError:
        message = "is a folder; name a picture in it"
    except PermissionError:
        message = "may not be read; check its permissions"
    except MemoryError:
        message = "does not fit in memory; make it smaller"
    except Exception:  # Pillow's decoders raise nearly everything on damaged files
        message = "is not a complete picture that Pillow can read; save it again as PNG or JPEG"
    finally:
        Image.MAX_IMAGE_PIXELS = former
    raise HandcnnError(f"{name} {message}") from None


def prepare_picture(grey: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Return the digit in a grey picture as MNIST would have it: uint8 (28, 28), bright on 0.

    Args:
        grey: (H, W), on any scale, dark ink on light or light on dark. An MNIST image, or its
            negative, comes back as it is, bit for bit.

    Raises:
        HandcnnError: there is nothing to see in the picture.
    """
    picture = np.asarray(grey, np.float32)
    if picture.ndim != 2 or picture.size == 0:
        raise ValueError(f"prepare_picture expects a grey picture (H, W), got {picture.shape}")
    for candidate in (picture, 255 - picture):
        if _is_mnist_like(candidate):
            return candidate.astype(np.uint8)
    ink = _denoised(_ink(_sheet(picture)))
    mask = _digit(_strokes(ink))
    return _centred(_fitted(_drawn(ink, mask)))


def to_batch(pictures: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
    """Return prepared pictures as one network input (N, 1, 28, 28), scaled as in training."""
    return np.stack(pictures)[:, None].astype(np.float32) / np.float32(255)


def save_sheet(path: str | os.PathLike[str], pictures: Sequence[npt.NDArray[np.uint8]]) -> None:
    """Write prepared pictures (28, 28) as one PNG, ten in a row, each pixel as a square of 6x6.

    Raises:
        OSError: the file cannot be written.
    """
    columns = min(len(pictures), 10)
    rows = -(-len(pictures) // columns)
    pitch = FIELD + 2  # a thin grey line around each
    sheet = np.full((rows * pitch, columns * pitch), 96, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * pitch + 1, i % columns * pitch + 1
        sheet[y : y + FIELD, x : x + FIELD] = picture
    with atomic_write(path) as file:
        Image.fromarray(sheet.repeat(6, axis=0).repeat(6, axis=1)).save(file, format="PNG")


def _opened(path: Any) -> Image.Image:
    """Return the picture upright and not much larger than needed; the rest is forgotten."""
    if isinstance(path, Path) and path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError("a pipe or a device may never end")
    with Image.open(path) as image:
        width, height = image.size
        if image.format in HUNGRY_FORMATS and width * height > MAX_HUNGRY_PIXELS:
            raise HandcnnError(
                f"{path} has more than 20 megapixels, too many to read as {image.format}; "
                "save it as PNG or JPEG, or smaller"
            )
        if image.format == "EPS":
            raise OSError("PostScript is a program")  # which Pillow would have run
        image.draft(None, (WORKING_SIDE, WORKING_SIDE))
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        small = _reduced(image)
        small.getexif()[ExifTags.Base.Orientation] = orientation
        return ImageOps.exif_transpose(small)


def _reduced(image: Image.Image) -> Image.Image:
    """Return the picture averaged down towards the working side, a strip at a time.

    Pillow converts and reduces by way of copies: of all of a large picture they would not fit.
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


def _grey(image: Image.Image) -> Grey:
    if image.mode == "F" or image.mode.startswith("I"):  # 16 bits and more, which convert() clips
        values = np.nan_to_num(np.asarray(image, np.float64), posinf=0, neginf=0)
        values = (values - values.min()) / max(np.ptp(values), 1e-30) * 255
        return np.asarray(values, np.float32)
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"), np.float32)
        rgb: Grey = rgba[..., :3]
        alpha = rgba[..., 3:] / 255
        light_ink = (rgb * alpha).mean() > 127.5 * alpha.mean()
        rgb = rgb * alpha + (0 if light_ink else 255) * (1 - alpha)
    else:
        rgb = np.asarray(image.convert("RGB"), np.float32)
    same = (rgb == rgb[..., :1]).all()
    grey: Grey = rgb[..., 0] if same else rgb @ _best_grey(rgb.reshape(-1, 3))
    return grey


def _best_grey(pixels: Grey) -> Grey:
    """Return the weights (3,) of red, green and blue along which the pixels differ most.

    Red ink on white is invisible in the red channel, and pale in the customary grey.
    """
    centred = pixels - np.median(pixels, axis=0)
    axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    weights: Grey = axis * np.copysign(1, axis.sum()) / np.abs(axis).sum()
    return weights.astype(np.float32)


def _is_mnist_like(picture: Grey) -> bool:
    """Whether a picture already is what this module makes, as all 70,000 of MNIST are."""
    levels = picture.min() == 0 and 254 <= picture.max() <= 255
    if picture.shape != (FIELD, FIELD) or not levels or (picture != np.rint(picture)).any():
        return False
    centre = ndimage.center_of_mass(picture)
    side = max(_size(_box(picture > 0)))
    return BOX - 1 <= side <= BOX and bool(np.abs(np.subtract(centre, CENTRE)).max() < 0.53)


def _sheet(picture: Grey) -> Grey:
    """Return the sheet of light paper (h, w) if it lies on something dark, else the picture.

    A sheet is a large region of paper that fills its rectangle, as far as that is in the picture,
    and has ink inside. What is left of the surroundings in a slanting one's corners gets the
    paper's grey: as dark as the ink, it would be taken for the background or for a stroke.
    """
    coarse = _shrunk(picture, 128)
    threshold = _otsu(coarse)
    light = coarse > threshold
    if light.all() or not light.any():
        return picture
    dark, paper = coarse[~light].mean(), coarse[light].mean()
    light = coarse > dark + 0.35 * (paper - dark)  # not the shadows
    labels, _ = ndimage.label(light)
    light = labels == np.bincount(labels[light]).argmax()
    sheet = ndimage.binary_fill_holes(light)
    inner = ndimage.binary_erosion(sheet, EIGHT_NEIGHBOURS, 2)
    near, rim = (ndimage.binary_dilation(sheet, EIGHT_NEIGHBOURS, n) for n in (1, 3))
    outside = rim & ~near
    written = inner & (coarse < threshold)
    if (
        not outside.any()
        or np.mean([*sheet[0], *sheet[-1], *sheet[:, 0], *sheet[:, -1]]) > 0.8
        or sheet.sum() < 0.2 * sheet.size
        or light.sum() < 0.75 * sheet.sum()
        or not written.any()
        or max(_size(_box(written))) < 0.1 * max(_size(_box(sheet)))
        or sheet.sum() < 0.9 * _rectangle(sheet).sum()
    ):
        return picture
    # A desk is as dark as ink, right up to the sheet: shadows are not.
    desk = np.percentile(coarse[outside], 80)
    beside = light & ~ndimage.binary_erosion(sheet, EIGHT_NEIGHBOURS, 4, border_value=1)
    edge = np.median(coarse[beside])
    ink = coarse[written].min()
    if desk > min(ink + 0.3 * (edge - ink), edge - 0.5 * (paper - dark)):
        return picture
    nearest = ndimage.distance_transform_edt(
        ~(inner & light), return_distances=False, return_indices=True
    )
    filled = _resized(coarse[tuple(nearest)], picture.shape, Image.Resampling.BILINEAR)
    kept = _resized(inner, picture.shape, Image.Resampling.BILINEAR) > 0.5
    sheet_only: Grey = np.where(kept, picture, filled)[_box(kept)]
    return sheet_only


def _rectangle(mask: Mask) -> Mask:
    """Return the smallest rectangle around a mask (H, W), in any position, cut at the border."""
    grid = np.indices(mask.shape)
    best = np.ones_like(mask)
    for angle in np.radians(np.arange(0, 90, 2)):
        u, v = np.tensordot(
            [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], grid, 1
        )
        inside = np.ones_like(mask)
        for w in (u, v):
            inside &= (w >= w[mask].min()) & (w <= w[mask].max())
        if inside.sum() < best.sum():
            best = inside
    return best


def _ink(picture: Grey) -> Grey:
    """Return how far each pixel (H, W) lies on the ink's side of the background around it."""
    # A stroke is narrower than what lies between strokes, so ink is what the median of the
    # surroundings wipes out; in a shadow, too, and where the border of the picture misleads.
    coarse = _shrunk(picture, 64)
    detail = coarse - ndimage.median_filter(coarse, _odd(0.3 * max(coarse.shape)), mode="nearest")
    if (detail * np.abs(detail)).sum() > 0:
        ink: Grey = picture + _background(-picture, detail.max())
    else:
        background = _background(picture, -detail.min())
        # In the shade ink and paper are darker by the same factor.
        ink = (background - picture) / np.maximum(background / max(background.max(), 1), 0.2)
    return np.maximum(ink, 0)


def _background(picture: Grey, contrast: float) -> Grey:
    """Return the light background (H, W) by a closing: strokes are filled, wide shadows stay.

    Outside the picture shadows go on, but strokes that touch the border end there: what is as dark
    as the ink, if the darkest is ink (`contrast` to its surroundings) and not a shadow.
    """
    coarse = _shrunk(picture, 128)
    n = _odd(0.4 * max(coarse.shape))
    padded = np.pad(coarse, n, mode="edge")
    outside = np.pad(np.zeros(coarse.shape, bool), n, constant_values=True)
    paper = np.median(coarse)
    depth = paper - coarse.min()
    if contrast > 0.3 * depth:
        padded[outside & (padded < paper - 0.7 * depth)] = paper
    closed = ndimage.grey_closing(padded, size=(n, n))[n:-n, n:-n]
    return _resized(closed, picture.shape, Image.Resampling.BILINEAR)


def _denoised(ink: Grey) -> Grey:
    smooth: Grey = ndimage.gaussian_filter(ink, max(ink.shape) / 400)
    return smooth


def _strokes(ink: Grey) -> Mask:
    """Return where there is ink (H, W): Otsu's threshold among what stands out from the noise.

    On a logarithmic scale, because thin parts of a stroke are several times fainter than crossings.
    """
    lowest, low = np.percentile(ink, (1, 25))
    noise = low - lowest  # the background is most of a picture: about 1.65 standard deviations
    if ink.max() < max(MIN_CONTRAST, low + 6 * noise):
        raise HandcnnError(
            "the picture is blank: no stroke stands out from the background; "
            "draw one digit, dark on light or light on dark"
        )
    mask: Mask = ink > np.exp(_otsu(np.log(ink[ink > max(low + 2 * noise, 0.05 * ink.max())])))
    return mask


def _otsu(values: Grey) -> Any:
    """Return the threshold that parts the values into the two groups furthest apart."""
    span = (values.min() - 0.01, values.max())  # never empty: all may be the same
    counts, edges = np.histogram(values, 256, span)
    n, total = counts.cumsum(), (counts * edges[:-1]).cumsum()
    spread = (total[-1] * n - total * n[-1]) ** 2 / np.maximum(n * (n[-1] - n), 1)
    return edges[spread.argmax() + 1]


def _digit(mask: Mask) -> Mask:
    """Return the part of the mask that is the digit, without frames, neighbours and specks."""
    labels, _ = ndimage.label(mask, EIGHT_NEIGHBOURS)
    boxes = ndimage.find_objects(labels)
    sides = np.array([_size(box) for box in boxes])
    starts = np.array([[s.start for s in box] for box in boxes])
    # What runs out of the picture is no digit where something of like size stays inside.
    touches = ((starts == 0) | (starts + sides == mask.shape)).any(1)
    inside = sides[~touches].max(initial=0)
    dropped = touches & (inside > 0.2 * max(mask.shape)) & (sides.max(1) < 2.5 * inside)
    # A frame goes around nearly all of the picture and something else.
    alone = (sides.max(1) > 0.2 * sides.max()).sum() == 1
    frame = (sides > 0.8 * np.array(mask.shape)).all(1) & (not alone)
    dropped = (dropped | frame) & ~(dropped | frame).all()
    mask = mask & ~np.append(False, dropped)[labels]
    # Parts of a broken stroke lie close together: groups count, not single components.
    near = ndimage.maximum_filter(mask, _odd(0.1 * sides[~dropped].max()))
    groups, _ = ndimage.label(near, EIGHT_NEIGHBOURS)
    area = np.bincount(groups[mask])
    kept: Mask = mask & (area >= 0.08 * area.max())[groups]
    return kept


def _drawn(ink: Grey, mask: Mask) -> Grey:
    """Return the digit, in [0, 1], as a pen of at least MNIST's width would have drawn it.

    A blur turns a thinner line into one of the blur's own width, and hardly changes a wide one;
    the contrast is then stretched until the middle of the strokes is full.
    """
    near = ndimage.maximum_filter(mask, 2 * max(1, max(_size(_box(mask))) // 40) + 1)
    digit = np.clip(ink / np.median(ink[mask]), 0, 1) * near
    scale = FINE_BOX / max(_size(_box(mask)))
    digit = digit[_box(near)]
    digit = _resized(digit, tuple(max(1, round(n * scale)) for n in digit.shape))
    digit = np.pad(digit, FINE_BOX // 4)
    core = digit > 0.5 * digit.max()
    width = 4 * ndimage.distance_transform_edt(core)[core].mean() * BOX / FINE_BOX
    # 2.355: a Gaussian's full width at half its height, in standard deviations.
    sigma = np.sqrt(max(PEN_WIDTH**2 - width**2, 0.5)) / 2.355
    digit = ndimage.gaussian_filter(digit, sigma * FINE_BOX / BOX)
    middle = np.median(digit[digit > 0.5 * digit.max()])
    pen: Grey = np.clip((1.3 * digit / middle - 0.1) / 0.9, 0, 1)
    return pen


def _fitted(digit: Grey) -> Grey:
    digit = digit[_box(digit > 0.15)]
    scale = BOX / max(digit.shape)
    shape = tuple(max(1, round(n * scale)) for n in digit.shape)
    digit = _resized(digit, shape, Image.Resampling.BOX)
    return np.asarray(np.rint(digit * (255 / digit.max())))


def _centred(digit: Grey) -> npt.NDArray[np.uint8]:
    field = np.zeros((FIELD, FIELD), np.uint8)
    height, width = digit.shape
    y, x = (round(CENTRE - c) for c in ndimage.center_of_mass(digit))
    y, x = min(max(y, 0), FIELD - height), min(max(x, 0), FIELD - width)
    field[y : y + height, x : x + width] = digit
    return field


def _shrunk(picture: Grey, side: int) -> Grey:
    scale = min(1.0, side / max(picture.shape))
    shape = tuple(max(1, round(n * scale)) for n in picture.shape)
    return _resized(picture, shape, Image.Resampling.BOX)


def _resized(
    picture: Grey,
    shape: tuple[int, ...],
    method: Image.Resampling = Image.Resampling.BICUBIC,
) -> Grey:
    """Return the picture in another (H, W), with anti-aliasing."""
    image = Image.fromarray(picture.astype(np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), method))


def _odd(size: float) -> int:
    return int(size) // 2 * 2 + 1


def _box(mask: Mask) -> Box:
    box: Box = ndimage.find_objects(mask.astype(np.uint8))[0]
    return box


def _size(box: Box) -> tuple[int, int]:
    height, width = (s.stop - s.start for s in box)
    return height, width
