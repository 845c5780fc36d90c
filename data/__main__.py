"""`python -m data [NAME]`: fetch a data set now, so that later trainings need no network.

It also shows what is at hand: how many images, and of which classes. Exit code 1 if the data set,
MNIST by default, is not available.
"""

import argparse
import sys
import time

from data import TRAINING_IMAGES, load_dataset
from handcnn.app import command_line as cli
from handcnn.text import one_line


def main() -> int:
    """Run the program and return its exit code."""
    return cli.run("data", lambda: fetch(parse_options()))


def parse_options() -> argparse.Namespace:
    """Return the options."""
    parser = cli.Parser(prog="python -m data", description=__doc__)
    parser.add_argument(
        "dataset",
        nargs="?",
        type=cli.name_or_path(*TRAINING_IMAGES),
        default="mnist",
        metavar="NAME",
        help=f"one of {', '.join(TRAINING_IMAGES)}, or the path of your own (default: mnist)",
    )
    parser.add_argument(
        "--data-home", type=cli.folder, metavar="FOLDER", help="scikit-learn's folder for downloads"
    )
    return parser.parse(None)


def fetch(options: argparse.Namespace) -> int:
    """Load the data, which puts them into the fast cache, and say how long it took."""
    start = time.perf_counter()
    dataset = load_dataset(options.dataset, data_home=options.data_home)
    seconds = time.perf_counter() - start
    sizes = ", ".join(f"{size:,} {part}" for part, size in dataset.record["sizes"].items())
    print(f"{dataset.title} is here and checked: {sizes} images, loaded in {seconds:.2f} s")
    print(f"classes: {', '.join(map(one_line, dataset.class_names))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
