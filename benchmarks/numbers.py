"""How many numbers are read right: digits of MNIST's validation images, set side by side.

    python -m benchmarks.numbers --weights outputs/RUN/weights.npz

Every number is written by one person: writers.txt says who wrote which digit. Zip codes have five
digits; amounts three to six, without a 0 in front; times four, from 0000 to 2359. Their digits are
tiles of 28x28 in a row, or cut out and set apart (3 to 8 pixels of paper between the ink of two
digits), close (0 to 2 pixels) or touching (1 to 3 pixels of overlap). A row is level or climbs or
falls by 5 to 12 degrees.

A number counts as wrong if one of its digits is wrong, missing or too much. Beside it stands the
error with perfect cutting: the network reads the digits one by one, as MNIST has them. The weights
must come from a run with seed 0 (the default): other seeds have trained on some of these digits.
The kinds of numbers are those of K. Wagstaff's multi-digit writer benchmark (arXiv 2512.00676).
"""

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data import load_dataset
from handcnn.commands import command_line as cli
from handcnn.network import Network
from handcnn.pictures import Reading, read_digits, to_batch
from handcnn.storage.networks import load_network
from handcnn.types import Array

WRITERS = Path(__file__).with_name("writers.txt")
INK = 64  # of 255; fainter pixels count as paper
MARGIN = 10  # pixels of paper around a number
GAPS = {"apart": (3, 8), "close": (0, 2), "touching": (-3, -1)}  # pixels, both ends included
SPACINGS = ("tiles", *GAPS)
SLOPES = {"level": (0, 0), "slanted": (5, 12)}  # degrees
SHOWN, COLUMNS = 24, 3  # mistakes in a drawing


class Number(NamedTuple):
    """A number made of MNIST digits."""

    text: str
    digits: Array  # (n, 28, 28) uint8
    picture: Array  # (H, W) uint8, bright ink on 0


def is_zip_code(text: str) -> bool:
    """Return whether a text has five digits."""
    return len(text) == 5


def is_amount(text: str) -> bool:
    """Return whether a text has three to six digits and no 0 in front."""
    return 3 <= len(text) <= 6 and text[0] != "0"


def is_time(text: str) -> bool:
    """Return whether a text is a time of day, as 0930."""
    return len(text) == 4 and int(text[:2]) < 24 and int(text[2:]) < 60


class Answer(NamedTuple):
    """What was read of a number."""

    number: Number
    reading: Reading  # of its picture
    alone: str  # digit by digit


KINDS: dict[str, Callable[[str], bool]] = {
    "zip code": is_zip_code,
    "amount": is_amount,
    "time": is_time,
}


def load_writers() -> list[list[int]]:
    """Return, for each writer, the places of his or her digits among the validation images."""
    lines = WRITERS.read_text().splitlines()
    return [
        [int(place) for place in line.split(":")[1].split()]
        for line in lines
        if not line.startswith("#")
    ]


def number(
    images: Array,
    labels: Array,
    writers: Sequence[Sequence[int]],
    kind: str,
    spacing: str,
    slope: str,
    rng: np.random.Generator,
) -> Number:
    """Return a random number: no digit is used twice in it, and all are by one writer."""
    while True:
        mine = rng.permutation(writers[int(rng.integers(len(writers)))])[: rng.integers(3, 7)]
        text = "".join(map(str, labels[mine]))
        if KINDS[kind](text):
            digits = images[mine]
            return Number(text, digits, compose(digits, spacing, slope, rng))


def compose(digits: Array, spacing: str, slope: str, rng: np.random.Generator) -> Array:
    """Return the picture (H, W) of digits (n, 28, 28) side by side, uint8, bright on 0."""
    if spacing == "tiles":
        steps = [28] * (len(digits) - 1)
    else:
        low, high = GAPS[spacing]
        steps = [step(*pair, int(rng.integers(low, high + 1))) for pair in pairwise(digits)]
    angle = rng.uniform(*SLOPES[slope]) * rng.choice([-1, 1])
    picture: Array = layers(digits, steps, angle).max(axis=0)
    return picture


def layers(digits: Array, steps: Sequence[int], angle: float) -> Array:
    """Return the place of each digit in a picture: (n, H, W), 0 around the digit.

    Args:
        digits: (n, 28, 28) bright on 0.
        steps: (n - 1,) how far each digit is right of the one before, in pixels.
        angle: by which the row falls, in degrees.
    """
    x = np.cumsum([0, *steps])
    y = np.rint(x * np.tan(np.radians(angle))).astype(int)
    x, y = x - x.min() + MARGIN, y - y.min() + MARGIN
    placed = np.zeros((len(digits), y.max() + 28 + MARGIN, x.max() + 28 + MARGIN), digits.dtype)
    for layer, digit, top, left in zip(placed, digits, y, x, strict=True):
        layer[top : top + 28, left : left + 28] = digit
    return placed


def step(left: Array, right: Array, gap: int) -> int:
    """Return how far right of `left` the tile `right` is, for a gap between their ink, in pixels.

    A gap counts columns of pixels without ink; below 0, columns in which both have ink.
    """
    last, first = np.flatnonzero((left > INK).any(0))[-1], np.flatnonzero((right > INK).any(0))[0]
    return int(last - first) + 1 + gap


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    parser = cli.Parser(prog="python -m benchmarks.numbers", description=__doc__)
    parser.add_argument("--weights", type=cli.file, required=True, metavar="FILE")
    parser.add_argument(
        "--count", type=cli.whole_number(1, 100_000), default=200, help="numbers for each figure"
    )
    parser.add_argument(
        "--mistakes", type=cli.png, metavar="FILE", help="save a PNG of touching numbers misread"
    )
    options = parser.parse(arguments)
    return cli.run(
        "benchmarks.numbers", lambda: measure(options.weights, options.count, options.mistakes)
    )


def measure(weights: Path, count: int, mistakes: Path | None = None) -> int:
    """Print the strict errors in per cent: of the pictures, and with perfect cutting."""
    net = load_network(weights)
    images, labels = load_dataset("mnist").validation
    writers = load_writers()
    print(f"strict errors in per cent of {count} numbers: read in a picture (perfect cutting)\n")
    print("| digits | row |", " | ".join(KINDS), "|")
    print("|---|---|" + "---:|" * len(KINDS))
    missed: list[Answer] = []
    for spacing, slope in product(SPACINGS, SLOPES):
        cells = []
        for kind in KINDS:
            rng = np.random.default_rng(0)
            answers = [
                read(net, number(images, labels, writers, kind, spacing, slope, rng))
                for _ in range(count)
            ]
            wrong = [answer.reading.text != answer.number.text for answer in answers]
            perfect = [answer.alone != answer.number.text for answer in answers]
            cells.append(f"{100 * np.mean(wrong):.1f} ({100 * np.mean(perfect):.1f})")
            if spacing == "touching":
                found = zip(answers, wrong, perfect, strict=True)
                missed += [answer for answer, whole, alone in found if whole and not alone]
        print(f"| {spacing} | {slope} |", " | ".join(cells), "|", flush=True)
    if mistakes is not None:
        drawn(missed[:: max(1, len(missed) // SHOWN)][:SHOWN]).save(mistakes)
    return 0


def read(net: Network, number: Number) -> Answer:
    """Return what is read in the picture of a number, and digit by digit."""
    alone = net.predict(to_batch(list(number.digits)))
    return Answer(number, read_digits(net, number.picture), "".join(map(str, alone)))


def drawn(answers: Sequence[Answer]) -> Image.Image:
    """Return a sheet of numbers, with a box around each digit that was found."""
    width, height = 3 * 170, 3 * 80
    sheet = Image.new("RGB", (COLUMNS * width, -(-len(answers) // COLUMNS) * height), "white")
    pencil, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for i, (number, reading, _) in enumerate(answers):
        x, y = i % COLUMNS * width, i // COLUMNS * height
        picture = Image.fromarray(255 - number.picture)
        sheet.paste(picture.resize((3 * picture.width, 3 * picture.height)), (x, y))
        for digit in reading.digits:
            left, top, right, bottom = (3 * side for side in digit.box)
            pencil.rectangle((x + left, y + top, x + right, y + bottom), None, (220, 60, 30))
        text = f"{number.text} read as {reading.text.replace(chr(10), ' | ')}"
        pencil.text((x + 20, y + height - 24), text, "black", font)
    return sheet


if __name__ == "__main__":
    sys.exit(main())
