"""`python -m data`: fetch MNIST now, so that later trainings start at once and need no network.

Exit code 1 if MNIST is not available.
"""

import sys
import time
from pathlib import Path

from data import load_dataset
from handcnn.app import command_line as cli


def main() -> int:
    """Run the program and return its exit code."""
    parser = cli.Parser(prog="python -m data", description=__doc__)
    parser.add_argument(
        "--data-home", type=cli.folder, metavar="FOLDER", help="scikit-learn's folder for downloads"
    )
    options = parser.parse(None)
    return cli.run("data", lambda: fetch(options.data_home))


def fetch(data_home: Path | None) -> int:
    """Put MNIST into the fast cache if it is not there yet, and say how long loading took."""
    start = time.perf_counter()
    dataset = load_dataset("mnist", data_home=data_home)
    seconds = time.perf_counter() - start
    sizes = ", ".join(f"{size:,} {part}" for part, size in dataset.record["sizes"].items())
    print(f"MNIST is here and checked: {sizes} images, loaded in {seconds:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
