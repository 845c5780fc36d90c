"""Draw sixteen digits and, below each, its copy distorted by `--augment distort`.

    python -m examples.distorted_digits                        writes distorted.png
    python -m examples.distorted_digits docs/distorted.png     another name

Run it in the project's folder. Without MNIST it uses the small digits of scikit-learn.
"""

import sys

import numpy as np

from data import load_dataset
from handcnn.augmentation import distort
from handcnn.plots import plot_distortions, save_figure

PICTURES = 16


def main(path: str = "distorted.png") -> None:
    """Draw the first training images and their distorted copies to the PNG `path`."""
    dataset = load_dataset("auto")
    x, _ = next(iter(dataset.batches("train", PICTURES)))  # (N, 1, 28, 28)
    distorted = distort(x, np.random.default_rng(0))
    figure = plot_distortions(x[:, 0], distorted[:, 0], f"{dataset.title}: --augment distort")
    save_figure(path, figure)
    print(f"written: {path}")


if __name__ == "__main__":
    main(*sys.argv[1:])
