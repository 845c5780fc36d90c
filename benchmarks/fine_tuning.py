"""What a class gains when a network is trained further on its own digits.

    python -m benchmarks.fine_tuning

A class has 20 pupils: writers of MNIST's validation images (writers.txt says who wrote what), which
no network with seed 0 was trained on. All of them learned to write in one way, so they share a
slant, a width and a pen, up to a little of each pupil's own. Their digits are drawn on grey paper,
turned, shaded and with noise, and saved as pictures: 84 to train on, the others, of the same hands,
held back for the test. Three classes, each with another seed of the training.

Every row is trained by train.py: from scratch, from the weights that come with handcnn, and from
these with images of MNIST mixed in. MNIST is the accuracy on the validation images of all others,
so what it loses was forgotten. Other classes than these three chose the options.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from scipy import ndimage

from benchmarks.numbers import load_writers
from data import Part, load_dataset
from handcnn.commands import command_line as cli
from handcnn.storage import runs
from handcnn.storage.networks import READER, load_network
from handcnn.types import Array

PUPILS, PICTURES = 20, 84  # of a class; for training
CLASSES = (12, 13, 14)  # those before them chose the options
SIDE, ZOOM = 160, 4  # pixels of a photograph; how much larger a digit is drawn there
START = ("--start-from", str(READER))
TRAININGS: dict[str, tuple[str, ...]] = {
    "from scratch": ("--network", "lenet"),
    "fine-tuned": START,
    "fine-tuned with `--also mnist`": (*START, "--also", "mnist"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    parser = cli.Parser(prog="python -m benchmarks.fine_tuning", description=__doc__)
    parser.add_argument("--threads", type=cli.whole_number(1, 256), default=2)
    options = parser.parse(arguments)
    return cli.run("benchmarks.fine_tuning", lambda: measure(options.threads))


def measure(threads: int) -> int:
    """Train and print the table: mean and standard deviation over the classes, in per cent."""
    digits = load_dataset("mnist").validation
    names = ("from scratch", "untouched", *TRAININGS)
    results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    for seed, number in enumerate(CLASSES):
        others = np.ones(len(digits.labels), dtype=bool)
        with TemporaryDirectory() as folder:
            others[photograph(digits, number, Path(folder, "photos"))] = False
            known = Part(digits.images[others], digits.labels[others])
            for name, options in TRAININGS.items():
                outputs = Path(folder, name.split()[-1].strip("`"))
                common = ("--seed", str(seed), "--threads", str(threads), "--quiet")
                data = ("--dataset", str(Path(folder, "photos")), "--output-dir", str(outputs))
                start = time.perf_counter()
                subprocess.run([sys.executable, "train.py", *data, *common, *options], check=True)
                seconds = time.perf_counter() - start
                (run,) = outputs.iterdir()
                record = json.loads((run / runs.RECORD).read_text())
                found = (record["test"]["accuracy"], accuracy(run / runs.WEIGHTS, known), seconds)
                results[name].append(found)
            untouched = (record["start"]["test"]["accuracy"], accuracy(READER, known), 0.0)
            results["untouched"].append(untouched)
    print("| `lenet` | held back | MNIST | time |\n|---|---:|---:|---:|")
    for name, rows in results.items():
        means, spreads = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1)
        both = (f"{100 * means[i]:.1f} ± {100 * spreads[i]:.1f} %" for i in (0, 1))
        print(f"| {name} | {' | '.join(both)} | {means[2]:.0f} s |")
    return 0


def accuracy(weights: Path, part: Part) -> float:
    """Return the accuracy of a network on images."""
    x = part.images[:, None].astype(np.float32) / np.float32(255)
    return float(np.mean(load_network(weights).predict(x) == part.labels))


def photograph(digits: Part, number: int, folder: Path) -> list[int]:
    """Save the photographs of a class; return the places of its digits among those of MNIST."""
    rng = np.random.default_rng(number)
    order = np.random.default_rng(6).permutation(len(writers := load_writers()))
    pupils = [writers[i] for i in order[PUPILS * number :][:PUPILS]]
    slant, width = rng.uniform(12, 28) * rng.choice([-1, 1]), rng.uniform(-0.4, 0.4)
    pen = rng.uniform(0.8, 2.2)
    pictures = []
    for places in pupils:
        shear = np.tan(np.radians(slant + rng.uniform(-8, 8)))
        hand = np.array([[1, 0], [shear, np.exp(width + rng.uniform(-0.1, 0.1))]])
        pictures += [(i, picture(digits.images[i], hand, pen, rng)) for i in places]
    for count, choice in enumerate(rng.permutation(len(pictures))):
        place, grey = pictures[choice]
        part = "train" if count < PICTURES else "test"
        home = folder / part / str(digits.labels[place])
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey).save(home / f"{place}.png")
    return [place for place, _ in pictures]


def picture(digit: Array, hand: Array, pen: float, rng: np.random.Generator) -> Array:
    """Return the photograph of a digit (28, 28), uint8, dark on grey paper.

    Args:
        digit: the digit as MNIST has it.
        hand: (2, 2) where a pixel of the new digit is in the old one.
        pen: how far the ink spreads, in pixels.
        rng: turns, shades and blots the picture.
    """
    large = ndimage.zoom(digit.astype(np.float32), ZOOM, order=1)
    cos, sin = np.cos(angle := np.radians(rng.uniform(-6, 6))), np.sin(angle)
    places = hand @ np.array([[cos, -sin], [sin, cos]])
    offset = len(large) / 2 - places @ np.full(2, SIDE / 2)
    ink = ndimage.affine_transform(large, places, offset, (SIDE, SIDE), order=1)
    ink = np.clip(ndimage.gaussian_filter(ink, pen) / 160, 0, 1)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    paper = 205 - 50 * (x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1))
    paper += rng.normal(0, 4, paper.shape)
    grey: Array = np.clip(paper * (1 - ink * rng.uniform(0.5, 0.8)), 0, 255).astype(np.uint8)
    return grey


if __name__ == "__main__":
    sys.exit(main())
