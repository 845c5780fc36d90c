"""Train the judge of the number reader, which tells whole digits from pieces and pairs.

    python -m benchmarks.judge FILE.npz [--seed 0]

The judge of the project is handcnn/pictures/numbers/judge.npz, made by `make judge`; a record of
how it was made is written beside it, as judge.json. It is a `lenet` with an eleventh
class for what is no digit. Its images are candidates, as the reader makes them (candidates.py),
from numbers of one to five MNIST training digits, distorted a little, mostly touching. A candidate
is a digit if it holds nearly all pixels of one and few others. It is no digit if the best digit for
it shares less than 70 % of the pixels; those in between are not used. A quarter more images are
whole MNIST digits. Nothing here has seen the validation images, so benchmarks.numbers may judge it.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from benchmarks.numbers import INK, layers, step
from data import Batches, load_dataset, one_hot
from handcnn import HandcnnError
from handcnn.augmentation import handwriting
from handcnn.commands import command_line as cli
from handcnn.kernels.threads import use_threads
from handcnn.models import RECIPES, lenet
from handcnn.pictures import find_strokes
from handcnn.pictures.numbers.candidates import Row, candidates, cut_row, sketch
from handcnn.pictures.numbers.marks import marks_of
from handcnn.pictures.operations import resized, scaled
from handcnn.text import percent
from handcnn.training import Epoch, train
from handcnn.types import Array

NUMBERS, PARTS = 4000, 4  # composed, and in how many parts on as many processors
EPOCHS = 3
WHOLE, PART = 0.86, 0.7  # shares of common pixels: at least a digit, at most no digit
NO_DIGIT = 10  # the class
KEPT = 8  # candidates without a digit that are used, for each digit of a number


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    parser = cli.Parser(prog="python -m benchmarks.judge", description=__doc__)
    parser.add_argument("file", type=cli.file, metavar="FILE.npz")
    parser.add_argument("--seed", type=cli.whole_number(0, 2**32 - 1), default=0)
    parser.add_argument(
        "--numbers", type=cli.whole_number(10, 10**6), default=NUMBERS, help="numbers to learn from"
    )
    options = parser.parse(arguments)
    return cli.run(
        "benchmarks.judge", lambda: save_judge(options.file, options.seed, options.numbers)
    )


def save_judge(file: Path, seed: int, count: int) -> int:
    """Train the judge and save it."""
    rng = np.random.default_rng(seed)
    dataset = load_dataset("mnist")
    images, labels = dataset.train
    parts = Parallel(n_jobs=-1)(
        delayed(examples)(images, labels, count // PARTS, child) for child in rng.spawn(PARTS)
    )
    x, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    print(f"{len(x):,} candidates, {(y < NO_DIGIT).mean():.0%} of them digits", flush=True)
    whole = rng.permutation(len(images))[: len(x) // 4]
    x, y = np.concatenate([x, images[whole]]), np.concatenate([y, labels[whole]])
    net = lenet(classes=NO_DIGIT + 1, rng=rng)
    recipe = replace(RECIPES["lenet"], epochs=EPOCHS)
    batches = Batches(x, y, recipe.batch_size, rng, classes=NO_DIGIT + 1)
    with use_threads(1):  # the same bytes on any number of processors
        for event in train(net, batches, recipe, rng):
            if isinstance(event, Epoch):
                print(f"epoch {event.number}: {percent(event.metrics.accuracy)} right", flush=True)
    net.save(file, numbers=count, seed=seed)
    record = {
        "made_by": "make judge",
        "sha256": sha256(file.read_bytes()).hexdigest(),
        "network": "lenet",
        "recipe": {"numbers": count, "epochs": EPOCHS, "seed": seed},
        "data": {name: dataset.record[name] for name in ("dataset", "source", "sizes", "sha256")},
    }
    file.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    return 0


def examples(
    images: Array, labels: Array, count: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Return the candidates of random numbers, (N, 28, 28) uint8, and their classes (N,) uint8."""
    x, y = [], []
    for _ in range(count):
        chosen = rng.integers(0, len(images), rng.integers(1, 6))
        digits = random_layers(images[chosen], labels[chosen], rng)
        for image, digit in labelled(digits, rng):
            x.append(image)
            y.append(NO_DIGIT if digit is None else labels[chosen[digit]])
    return np.array(x), np.array(y, np.uint8)


def random_layers(digits: Array, labels: Array, rng: np.random.Generator) -> Array:
    """Return digits (n, 28, 28) side by side: (n, H, W), most of them touching, some broken."""
    x = digits[:, None].astype(np.float32) / np.float32(255)
    distorted = 255 * handwriting(x, one_hot(labels), rng)[:, 0]
    digits = np.where(rng.random((len(digits), 1, 1)) < 0.5, distorted, digits)
    low, high = ((-3, -1), (0, 2), (3, 6))[rng.choice(3, p=(0.6, 0.25, 0.15))]
    steps = [step(*pair, int(rng.integers(low, high + 1))) for pair in pairwise(digits)]
    if rng.random() < 0.3:  # nearer, as slanting digits can be
        steps = [max(6, right - int(rng.integers(0, 5))) for right in steps]
    placed = layers(digits, steps, rng.uniform(-13, 13))
    if rng.random() < 0.2:  # the pen failed
        y = int(rng.integers(14, placed.shape[1] - 14))
        placed[:, y : y + int(rng.integers(1, 3))] = 0
    if rng.random() < 0.5:  # drawn larger
        shape = scaled(placed.shape[1:], rng.uniform(1, 2.5))
        placed = np.stack([resized(layer, shape) for layer in placed])
    return np.clip(placed, 0, 255)


def labelled(digits: Array, rng: np.random.Generator) -> Iterator[tuple[Array, int | None]]:
    """Yield candidates of a number, each with the index of its digit, or None if it is no digit.

    Args:
        digits: (n, H, W), each alone in its place.
        rng: chooses among the candidates that are no digits.
    """
    picture = digits.max(axis=0)
    try:
        strokes = find_strokes(np.rint(picture if rng.random() < 0.5 else 255 - 0.8 * picture))
    except HandcnnError:
        return
    marks = marks_of(strokes.mask)
    own = float(np.median([np.ptp(np.nonzero(digit > INK)[0]) + 1 for digit in digits]))
    members = range(len(marks.boxes))
    ink = strokes.ink / np.median(strokes.ink[strokes.mask])
    row = cut_row(ink, None, marks, members, marks.heights >= 0.4 * own, own)
    found = candidates(row)
    if not found:
        return
    (top, left), (height, width) = row.corner, row.pieces.shape
    digits = digits[:, top : top + height, left : left + width]
    common = common_shares(row, found, digits > INK)  # (candidates, n)
    best = common.argmax(axis=0)
    kept = KEPT * len(digits) / len(found)
    for i, shares in enumerate(common):
        digit = int(shares.argmax())
        if shares[digit] >= WHOLE or (best[digit] == i and shares[digit] > PART):
            yield sketch(row, found[i]), digit
        elif shares[digit] <= PART and rng.random() < kept:
            yield sketch(row, found[i]), None


def common_shares(row: Row, found: list[tuple[int, int]], digits: Array) -> Array:
    """Return which share of its pixels each candidate has in common with each digit.

    The pixels of both are compared: the smaller share counts. (candidates, n)
    """
    count = len(row.boxes)
    inked = (row.pieces >= 0) & digits.any(axis=0)
    pixels = np.bincount(row.pieces[inked], minlength=count)
    inside = [np.bincount(row.pieces[inked & digit], minlength=count) for digit in digits]
    common = np.array([[part[a:b].sum() for part in inside] for a, b in found])
    own = np.array([[max(1, pixels[a:b].sum())] for a, b in found])
    shares: Array = np.minimum(common / own, common / digits.sum(axis=(1, 2)))
    return shares


if __name__ == "__main__":
    sys.exit(main())
