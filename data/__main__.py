"""`python -m data`: fetch MNIST now, so that training starts at once later, without a network too.

Exit code 1 if it is not to be had.
"""

import sys
import time

from data import load_dataset
from handcnn import cli


def main() -> int:
    """Put MNIST into the fast cache, unless it is there, and say how long loading took."""
    start = time.perf_counter()
    dataset = load_dataset("mnist")
    seconds = time.perf_counter() - start
    sizes = ", ".join(f"{size:,} {part}" for part, size in dataset.record["sizes"].items())
    print(f"MNIST is here and checked: {sizes} images, loaded in {seconds:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run("data", main))
