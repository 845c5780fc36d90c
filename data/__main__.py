"""`python -m data [NAME]`: fetch a data set now, so that later trainings need no network.

It also prints the number of images and the classes. The exit code is 1 if the data set, MNIST by
default, is not available.
"""

import argparse
import sys
import time

from data import TRAINING_IMAGES, load_dataset
from handcnn.commands import command_line as cli
from handcnn.preparation import PREPARATIONS
from handcnn.text import one_line


def main() -> int:
    """Run the program and return its exit code."""
    return cli.run("data", lambda: fetch(parse_options()))


def parse_options() -> argparse.Namespace:
    """Return the parsed options."""
    parser = cli.Parser(prog="python -m data", description=__doc__)
    parser.add_argument(
        "dataset",
        nargs="?",
        type=cli.name_or_path(*TRAINING_IMAGES),
        default="mnist",
        metavar="NAME",
        help=f"one of {', '.join(TRAINING_IMAGES)}, or the path of your images (default: mnist)",
    )
    parser.add_argument(
        "--data-home", type=cli.folder, metavar="FOLDER", help="scikit-learn's download folder"
    )
    for name, help in {
        "--invert": "turn your own images, dark on bright, into bright on dark",
        "--transpose": "swap the rows and columns of your own images",
        "--skip-unreadable": "leave out those of your own pictures that cannot be used",
    }.items():
        parser.add_argument(name, action="store_true", help=help)
    parser.add_argument(
        "--prepare",
        type=cli.one_of(*PREPARATIONS),
        metavar=f"{{{','.join(PREPARATIONS)}}}",
        help="find the digit in a picture, or scale it whole (default: digits if the images are)",
    )
    return parser.parse(None)


def fetch(options: argparse.Namespace) -> int:
    """Load the data, which also fills the fast cache, and print a summary."""
    start = time.perf_counter()
    dataset = load_dataset(
        options.dataset,
        data_home=options.data_home,
        invert=options.invert,
        transpose=options.transpose,
        prepare=options.prepare,
        skip_unreadable=options.skip_unreadable,
    )
    seconds = time.perf_counter() - start
    sizes = ", ".join(f"{size:,} {part}" for part, size in dataset.record["sizes"].items())
    print(f"{dataset.title} is available and checked: {sizes} images, loaded in {seconds:.2f} s")
    print(f"classes: {', '.join(map(one_line, dataset.class_names))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
