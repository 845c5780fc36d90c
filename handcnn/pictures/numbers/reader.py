"""Read all digits of a picture, row by row. A network for other images reads it as one."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from handcnn.errors import HandcnnError
from handcnn.network import Network
from handcnn.pictures.drawing import draw_digit, is_like_mnist
from handcnn.pictures.numbers.candidates import Candidate, Row, candidates, draw, sketch
from handcnn.pictures.numbers.frames import without_frames
from handcnn.pictures.numbers.judge import judge
from handcnn.pictures.numbers.layout import rows_in
from handcnn.pictures.numbers.path import Path, best_path
from handcnn.pictures.preparing import (
    Prepared,
    digit_in,
    examine_picture,
    find_strokes,
    grey_values,
    to_batch,
)
from handcnn.pictures.whole import prepare
from handcnn.preparation import Preparation
from handcnn.text import DIGITS, are_digits, percent
from handcnn.types import Array, Shape

DOUBTFUL = 0.9  # a digit of a number with a smaller probability is in doubt
NAMED_CLASSES = 3  # the digit and two runners-up
MAX_PARTS = 5  # of one digit that was taken for several
MIN_ODDS = -5.0  # of such a digit, by the judge
NETWORK = 0.5  # its weight beside the judge's, for digits that were cut
NO_PROBABILITIES = (
    "the network gives no probabilities: its numbers are too large to compute with; "
    "use other weights"
)
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the picture


class Digit(NamedTuple):
    """A digit that was read in a picture."""

    text: str  # "0" to "9", or the name of another class
    probability: float  # that the network gives it
    row: int  # from 0, from top to bottom
    box: Box
    image: Array  # what the network saw: uint8 (28, 28), bright on 0
    probabilities: Array  # (10,) of all digits


class Reading(NamedTuple):
    """What was read in a picture."""

    text: str  # the digits, a line for each row
    digits: list[Digit]  # row by row, from left to right
    left_out: int = 0  # other marks: points, commas, specks, lines
    doubt: str = ""  # why a single digit looks like none, or ""

    @property
    def probability(self) -> float:
        """That all digits are right, if each of them is one whole digit: the product."""
        return float(np.prod([digit.probability for digit in self.digits]))

    @property
    def doubts(self) -> list[str]:
        """For each digit of a number that is in doubt, a remark that says what else it may be."""
        if len(self.digits) == 1:
            return []
        return [
            f"digit {number} may be {digit.text} {percent(digit.probability)}, "
            f"{runners_up(digit.probabilities, DIGITS)}"
            for number, digit in enumerate(self.digits, 1)
            if digit.probability < DOUBTFUL
        ]

    @property
    def other_marks(self) -> str:
        """How many marks of a number were left out, or ""."""
        if len(self.digits) == 1 or not self.left_out:
            return ""
        return f"{self.left_out} other mark{'s' * (self.left_out > 1)} left out"


def runners_up(probabilities: Array, names: Sequence[str]) -> str:
    """Return the next most probable classes after the first, with their probabilities."""
    _, *others = np.argsort(-probabilities)[:NAMED_CLASSES]
    return ", ".join(f"{names[i]} {percent(probabilities[i])}" for i in others)


class _Found(NamedTuple):
    """A digit that was found but not read yet."""

    row: int
    box: Box
    image: Array
    judged: Array | None = None  # the judge's probabilities (10,), if it was cut out
    doubt: str = ""


class _Chosen(NamedTuple):
    """A digit on the best path through its row."""

    number: int  # of the row
    row: Row
    digit: Candidate
    odds: float  # the judge's, that it is one whole digit
    judged: Array  # the judge's probabilities (10,)


def read_picture(
    net: Network,
    grey: Array,
    names: Sequence[str],
    preparation: Preparation,
    most: int | None = None,
) -> Reading:
    """Return what a grey picture (H, W) says: digits, or one image of another class.

    Args:
        net: a network that reads images (N, 1, 28, 28).
        grey: in [0, 255].
        names: of the classes.
        preparation: how the training images of the network were prepared.
        most: as in `read_digits`.

    Raises:
        HandcnnError: as `read_digits` does.
    """
    if are_digits(names) and preparation.name == "digits":  # clothes may be called 0 to 9
        return read_digits(net, grey, most)
    image = prepare(grey, preparation).image
    row = probabilities(net, [image])[0]
    height, width = grey.shape
    best = names[row.argmax()]
    return Reading(best, [Digit(best, float(row.max()), 0, (0, 0, width, height), image, row)])


def read_digits(net: Network, grey: npt.ArrayLike, most: int | None = None) -> Reading:
    """Return all digits in a grey picture, row by row.

    Args:
        net: a network that reads images (N, 1, 28, 28) of the ten digits.
        grey: (H, W), as for `prepare_picture`. If there is one digit, it is prepared as there.
        most: a picture with more digits is refused; by default, only one with too many marks is.

    Raises:
        HandcnnError: the picture is blank, a value is NaN or infinite, there are too many marks
            for a number, or the network's probabilities are not finite.
    """
    found, left_out = _digits_in(grey_values(grey))
    if most is not None and len(found) > most:
        raise HandcnnError(
            f"the picture has {len(found)} digits, at most {most} are allowed; crop it to fewer"
        )
    rows = probabilities(net, [digit.image for digit in found])
    digits = []
    for digit, row in zip(found, rows, strict=True):
        p = row if digit.judged is None else _agreed(row, digit.judged)
        digits.append(Digit(str(p.argmax()), float(p.max()), digit.row, digit.box, digit.image, p))
    lines = ["".join(d.text for d in digits if d.row == row) for row in range(len(digits))]
    return Reading("\n".join(filter(None, lines)), digits, left_out, found[0].doubt)


def probabilities(net: Network, images: Sequence[Array]) -> Array:
    """Return the probability of each class (N, K) for images (28, 28).

    Raises:
        HandcnnError: the probabilities are not finite, although the weights are.
    """
    rows: Array = net.predict_proba(to_batch(images))
    if not np.isfinite(rows).all():
        raise HandcnnError(NO_PROBABILITIES)
    return rows


def _agreed(read: Array, judged: Array) -> Array:
    """Return the probabilities (10,) that the network and the judge agree on.

    A digit that was cut from its neighbours lacks some ink, or has some of theirs. The judge has
    learned from such digits, the network has not. So the judge counts, and the network half.
    """
    both = read.astype(float) ** NETWORK * judged
    agreed: Array = both / both.sum()
    return agreed


def _digits_in(picture: Array) -> tuple[list[_Found], int]:
    """Return the digits in a grey picture (H, W), not read yet, and the number of other marks."""
    if is_like_mnist(picture) or is_like_mnist(255 - picture):
        return [_only_digit(picture.shape, examine_picture(picture))], 0
    strokes = find_strokes(picture)
    mask, printed = without_frames(strokes.mask)
    ink = np.where(printed, 0, strokes.ink / np.median(strokes.ink[mask]))
    rows, left_out = rows_in(ink, mask, _as_mnist_draws(picture))
    chosen: list[_Chosen] = []
    for row in rows:
        path, verdicts = _path_through(row)
        left_out += len({row.marks[piece] for piece in path.left_out})
        number = chosen[-1].number + 1 if chosen else 0
        chosen += [_Chosen(number, row, digit, *verdicts[digit]) for digit in path.digits]
    if len(chosen) > 1 and not _are_one(chosen, ink, mask):
        return [
            _Found(
                number,
                row.box_in_picture(digit),
                draw(row, digit),
                None if row.is_whole(digit) else judged,
            )
            for number, row, digit, _, judged in chosen
        ], left_out
    boxes = [row.box_in_picture(digit) for _, row, digit, _, _ in chosen]
    box = _around(boxes) if boxes else None
    return [_only_digit(picture.shape, digit_in(strokes), box)], left_out


def _path_through(row: Row) -> tuple[Path, dict[Candidate, tuple[float, Array]]]:
    """Return the best path through a row, and the odds and digits of each candidate (judge.py).

    What a path finds tells the height of the row better, so the path is found twice.
    """
    found = candidates(row)
    verdict = judge([sketch(row, candidate) for candidate in found])
    odds = dict(zip(found, verdict.odds, strict=True))
    path = best_path(row, odds)
    heights = [row.height_of(digit) for digit in path.digits if odds[digit] > 0]
    if heights:
        path = best_path(row._replace(height=np.median(heights)), odds)
    return path, dict(zip(found, zip(*verdict, strict=True), strict=True))


def _are_one(chosen: Sequence[_Chosen], ink: Array, mask: Array) -> bool:
    """Return whether what looks like a few digits is rather one that is broken, or an odd one.

    That is so if the judge doubts one of them more than all of the strokes together.

    Args:
        chosen: the digits.
        ink: (H, W) of the picture.
        mask: (H, W) bool, its strokes.
    """
    if len(chosen) > MAX_PARTS:
        return False
    whole = judge([draw_digit(ink, mask)]).odds[0]
    return bool(whole > max(MIN_ODDS, min(digit.odds for digit in chosen)))


def _around(boxes: Sequence[Box]) -> Box:
    """Return the smallest box around others."""
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _only_digit(shape: Shape, prepared: Prepared, box: Box | None = None) -> _Found:
    """Return the only digit of a picture (H, W), prepared as `prepare_picture` does."""
    height, width = shape
    return _Found(0, box or (0, 0, width, height), prepared.image, doubt=prepared.doubt)


def _as_mnist_draws(picture: Array) -> Array | None:
    """Return the picture as bright ink on exactly 0, if it is such a drawing or its negative."""
    for drawing in (picture, 255 - picture):
        if np.mean(drawing == 0) > 0.3 and drawing.max() >= 254:
            return drawing
    return None
