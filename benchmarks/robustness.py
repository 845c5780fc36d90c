"""How much accuracy a network keeps when the test images are shifted or rotated.

    python -m benchmarks.robustness WEIGHTS [WEIGHTS ...]

Each figure is the accuracy on all test images of MNIST, in per cent: the mean over the directions
of a shift or rotation. The figures are not used to choose anything.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from data import load_dataset
from handcnn.commands import command_line as cli
from handcnn.kernels.threads import default_threads, use_threads
from handcnn.storage.networks import load_network
from handcnn.types import Array

Move = Callable[[Array], Array]


def shifted(y: int, x: int) -> Move:
    """Return a function that moves images (N, 1, H, W) down by y and right by x pixels."""

    def move(images: Array) -> Array:
        moved: Array = ndimage.shift(images, (0, 0, y, x), order=0)
        return moved

    return move


def rotated(degrees: float) -> Move:
    """Return a function that rotates images (N, 1, H, W) around their middle."""

    def move(images: Array) -> Array:
        turned: Array = ndimage.rotate(images, degrees, axes=(3, 2), reshape=False, order=1)
        return turned

    return move


COLUMNS: dict[str, list[Move]] = {
    "original": [lambda images: images],
    "1 pixel": [shifted(y, x) for y, x in ((1, 0), (-1, 0), (0, 1), (0, -1))],
    "2 pixels": [shifted(y, x) for y, x in ((2, 0), (-2, 0), (0, 2), (0, -2))],
    "2 and 2": [shifted(y, x) for y in (2, -2) for x in (2, -2)],
    "10 degrees": [rotated(10), rotated(-10)],
    "20 degrees": [rotated(20), rotated(-20)],
}


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    parser = cli.Parser(prog="python -m benchmarks.robustness", description=__doc__)
    parser.add_argument("weights", nargs="+", type=cli.file, metavar="WEIGHTS")
    parser.add_argument("--dataset", default="mnist", help="the data set (default: mnist)")
    parser.add_argument(
        "--limit", type=cli.whole_number(1, 70_000), metavar="N", help="use only N test images"
    )
    options = parser.parse(arguments)
    return cli.run(
        "benchmarks.robustness", lambda: measure(options.weights, options.dataset, options.limit)
    )


def measure(weights: Sequence[Path], dataset: str, limit: int | None) -> int:
    """Print a row of accuracies for each weights file."""
    images, labels = load_dataset(dataset).test
    x = images[:limit, None].astype(np.float32) / np.float32(255)
    moved = {name: [move(x) for move in moves] for name, moves in COLUMNS.items()}
    print("| weights |", " | ".join(COLUMNS), "|")
    for path in weights:
        net = load_network(path)
        with use_threads(default_threads()):
            row = [
                100 * np.mean([net.predict(batch) == labels[:limit] for batch in batches])
                for batches in moved.values()
            ]
        print(f"| {path} |", " | ".join(f"{accuracy:.2f}" for accuracy in row), "|", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
