"""The best path through a row: the candidates that together are most likely its digits.

A path goes through the pieces of a row from left to right. Each step takes the next pieces as one
digit, or leaves one piece out. A digit is worth the odds that the judge gives it. Leaving out costs
the more the higher a piece is: a comma little, half a digit much. Every best path extends a best
path to an earlier piece. So they are found from left to right, without trying all paths (dynamic
programming).
"""

from collections.abc import Mapping
from math import log
from typing import NamedTuple

from handcnn.pictures.numbers.candidates import Candidate, Row

WORTH = 1.0  # of any digit, beside its odds: the judge has seen more pieces than digits
CUT, WIDE = 5.0, 1.1  # costs of cutting a mark, if it is at most so wide, in heights of the row
SMALL, LOW, LOW_WHOLE = 12.0, 0.8, 0.6  # costs of a digit a factor e lower, in heights of the row
ABOVE, BESIDE = 12.0, 0.4  # costs of two digits of one mark that share more columns than BESIDE
LEAVING = 1.0, 6.0  # costs of leaving out a piece: of any one, and of one as high as the row


class Path(NamedTuple):
    """A path through a row."""

    digits: tuple[Candidate, ...] = ()
    left_out: tuple[int, ...] = ()  # pieces
    worth: float = 0.0


def best_path(row: Row, odds: Mapping[Candidate, float]) -> Path:
    """Return the best path through a row.

    Args:
        row: the pieces.
        odds: for each candidate, the logarithm of the odds that it is a digit.
    """
    paths = [[Path()]]  # to each piece: the best one for each last step
    for end in range(1, len(row.boxes) + 1):
        former = max(paths[end - 1], key=_worth)
        cost = _cost_of_leaving(row, end - 1)
        steps = [Path(former.digits, (*former.left_out, end - 1), former.worth - cost)]
        for digit in odds:
            if digit[1] == end:
                worth, former = max(
                    (path.worth - _overlap(row, path, digit), path) for path in paths[digit[0]]
                )
                worth += _worth_of(row, digit, odds[digit])
                steps.append(Path((*former.digits, digit), former.left_out, worth))
        paths.append(steps)
    return max(paths[-1], key=_worth)


def _worth(path: Path) -> float:
    return path.worth


def _worth_of(row: Row, digit: Candidate, odds: float) -> float:
    """Return what a digit adds to a path. A digit that was cut is hardly a low one."""
    lowest = LOW_WHOLE if row.is_whole(digit) else LOW
    low = min(0.0, log(row.height_of(digit) / row.height / lowest))
    return WORTH + odds + SMALL * low - CUT * _begins_a_cut(row, digit)


def _begins_a_cut(row: Row, digit: Candidate) -> bool:
    """Return whether a digit is the first that is cut from a mark no wider than one digit."""
    first = digit[0]
    if row.is_whole(digit) or (first > 0 and row.marks[first - 1] == row.marks[first]):
        return False
    of_the_mark = row.boxes[row.marks == row.marks[first]]
    return bool(of_the_mark[:, 3].max() - of_the_mark[:, 1].min() <= WIDE * row.height)


def _overlap(row: Row, path: Path, digit: Candidate) -> float:
    """Return what it costs that a digit stands above or below the last one on a path.

    Only if both are cut from one mark: separate digits may slant.
    """
    if not path.digits or row.marks[path.digits[-1][1] - 1] != row.marks[digit[0]]:
        return 0.0
    _, left, _, right = row.box(path.digits[-1])
    _, start, _, end = row.box(digit)
    shared = (min(right, end) - max(left, start)) / min(right - left, end - start)
    return ABOVE * max(0.0, shared - BESIDE)


def _cost_of_leaving(row: Row, piece: int) -> float:
    """Return the cost of leaving out a piece."""
    any_one, high = LEAVING
    return any_one + high * min(1, row.height_of((piece, piece + 1)) / row.height)
