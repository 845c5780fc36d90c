"""Remove printed lines, which cross the whole sheet, but not the strokes that cross them.

A line of ruled or squared paper is long, nearly straight and thin. In a photograph it may be
slanted or slightly bent, and dotted or fainter than its paper's grain. Each pixel on the crest of a
line votes for all straight lines through it (Hough's transform). A line that gets votes along most
of the picture is traced by a parabola, and its own darkness is subtracted. A digit has straight
strokes, too, but none reaches from border to border.
"""

import numpy as np
from scipy import ndimage

from handcnn.pictures.operations import enlarged, shrunk
from handcnn.types import Array

SIDE = 400  # pixels of the picture in which lines are sought
PIECE = 0.12  # length along which ink is averaged, as a share of the picture
SLOPES = np.arange(-8, 9, 2) / 50  # of pieces, up to 9 degrees
FINE_SLOPES = np.arange(-16, 17) / 100  # of whole lines
REACH = 4  # pixels: half the width of the widest line, and how far a line may bend
VOTES, TRACED = 0.5, 0.7  # share of the columns in which a line must be seen
MIN_PRINTED_LINES = 3  # lines are printed, however dark
MAX_LINES = 80  # in one direction; finer paper is grey


def without_lines(ink: Array, threshold: float, surely: float) -> Array:
    """Return the ink (H, W) without printed lines.

    Args:
        ink: how much darker than paper each pixel is.
        threshold: from where on ink may be a stroke.
        surely: from where on ink surely is a stroke, about half of a stroke's.
    """
    if max(ink.shape) < SIDE / 2:
        return ink  # too small for a photograph of ruled paper
    coarse = shrunk(ink, SIDE)
    level, upright = _lines(coarse, threshold), _lines(coarse.T, threshold)
    found = level + upright
    # The strokes of a 1 with a base, cut out tightly, reach from border to border, too.
    if not found or (
        len(found) < MIN_PRINTED_LINES and max(line.max() for line in found) > 1.2 * surely
    ):
        return ink
    lines = np.maximum.reduce([*level, *(line.T for line in upright)])
    left = np.maximum(coarse - lines, 0)
    strokes = left > threshold
    if not strokes.any():
        return ink
    # Where strokes lie on both sides of a line, the ink between them belongs to a stroke.
    joined = ndimage.binary_closing(np.pad(strokes, 2 * REACH), _disk(REACH))
    crossing = joined[2 * REACH : -2 * REACH, 2 * REACH : -2 * REACH] & (lines > 0)
    share = enlarged(np.where(crossing, 0, lines), ink.shape)
    cleaned: Array = np.where(share > 0, np.maximum(ink - share, 0), ink)
    return cleaned


def _lines(ink: Array, threshold: float) -> list[Array]:
    """Return the darkness (H, W) of each line that runs from the left to the right."""
    lines: list[Array] = []
    height, width = ink.shape
    seen = np.flatnonzero((ink > threshold).any(0))
    if not len(seen) or np.ptp(seen) < 0.9 * width:
        return lines
    limited = np.minimum(ink, 2 * threshold)  # so that a dark stroke alone makes no line
    points = np.argwhere(_crests(limited, 0.2 * threshold))
    y, x = points.T
    beyond = max(height, round(FINE_SLOPES[-1] * width / 2) + 1)  # how far lines start outside
    count = height + 2 * beyond
    starts = np.rint(y + np.multiply.outer(FINE_SLOPES, width / 2 - x)).astype(int) + beyond
    votes = np.stack([np.bincount(row, minlength=count) for row in starts])
    alive = np.ones(len(points), bool)
    columns = np.arange(width)
    for _ in range(MAX_LINES):
        near = 3 * ndimage.uniform_filter1d(votes.astype(np.float32), 3, axis=1)
        best, start = divmod(int(near.argmax()), count)
        if near[best, start] < VOTES * width:
            break
        chosen = alive & (np.abs(starts[best] - start) <= REACH)
        bend = np.polyfit(x[chosen], y[chosen], 2)
        for tolerance in (2.5, 1.5):
            chosen = alive & (np.abs(np.polyval(bend, x) - y) <= tolerance)
            if chosen.sum() < 3:
                break
            bend = np.polyfit(x[chosen], y[chosen], 2)
        if len(np.unique(x[chosen])) >= TRACED * width:
            lines.append(_darkness(ink, np.rint(np.polyval(bend, columns)).astype(int)))
        used = alive & ((np.abs(np.polyval(bend, x) - y) <= REACH) | (starts[best] == start))
        for i, row in enumerate(starts):
            votes[i] -= np.bincount(row[used], minlength=count)
        alive &= ~used
    return lines


def _darkness(ink: Array, y: Array) -> Array:
    """Return the darkness (H, W) of one line, with its middle at (y[x], x)."""
    darkness = np.zeros_like(ink)
    height, width = ink.shape
    columns, offsets = np.arange(width), np.arange(-REACH, REACH + 1)
    rows = y + offsets[:, None]  # (offsets, W)
    band = ink[np.clip(rows, 0, height - 1), columns]
    # In most parts of the line, most pixels are the line alone; some lie in a stroke.
    parts = [np.percentile(part, 70, axis=1) for part in np.array_split(band, 5, axis=1)]
    profile: Array = np.sort(parts, axis=0)[1]
    profile = profile * (profile > 0.25 * profile.max())
    for offset, level in zip(offsets, 1.6 * profile, strict=True):
        at = y + offset
        inside = (at >= 0) & (at < height) & (level > 0)
        place = at[inside], columns[inside]
        darkness[place] = np.maximum(darkness[place], level)
    return darkness


def _crests(ink: Array, least: float) -> Array:
    """Return the pixels (H, W) in the middle of nearly horizontal, thin, dark pieces."""
    height, width = ink.shape
    length = round(PIECE * max(ink.shape))
    rows, columns = np.indices(ink.shape)
    crests = np.zeros(ink.shape, bool)
    for slope in SLOPES:
        shift = np.rint(slope * (columns - width // 2)).astype(int)
        y = np.clip(rows + shift, 0, height - 1)
        run = ndimage.uniform_filter1d(ink[y, columns], length, axis=1, mode="reflect")
        padded = np.pad(run, ((REACH, REACH), (0, 0)), mode="edge")
        beside = np.maximum(padded[:height], padded[2 * REACH :])
        middle = ndimage.maximum_filter1d(run, REACH + 1, axis=0) == run
        crest = middle & (run - beside > least)
        crests[y[crest], np.nonzero(crest)[1]] = True
    return crests


def _disk(radius: int) -> Array:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk: Array = y * y + x * x <= radius * radius
    return disk
