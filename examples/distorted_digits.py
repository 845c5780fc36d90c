"""Draw eight 1s and 7s and eight other digits, each above its copy by `--augment handwriting`.

    python -m examples.distorted_digits                        writes distorted.png
    python -m examples.distorted_digits docs/distorted.png     another name

Run it in the project's folder. Without MNIST it uses the small digits of scikit-learn.
"""

import sys

import numpy as np

from data import load_dataset
from handcnn.augmentation import handwriting
from handcnn.plots import plot_distortions, save_figure

EACH = 8  # as many with strokes to add as without


def main(path: str = "distorted.png") -> None:
    """Draw the first training images and their distorted copies to the PNG `path`."""
    dataset = load_dataset("auto")
    x, y = next(iter(dataset.batches("train", 200)))  # (N, 1, 28, 28)
    get_strokes = y[:, [1, 7]].any(axis=1)
    chosen = [np.flatnonzero(which)[:EACH] for which in (get_strokes, ~get_strokes)]
    x, y = (array[np.concatenate(chosen)] for array in (x, y))
    distorted = handwriting(x, y, np.random.default_rng(57))
    figure = plot_distortions(x[:, 0], distorted[:, 0], f"{dataset.title}: --augment handwriting")
    save_figure(path, figure)
    print(f"written: {path}")


if __name__ == "__main__":
    main(*sys.argv[1:])
