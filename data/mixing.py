"""Mix images of another data set into the training part of one.

A network that is trained further on few images forgets what it knew. With some of the images that
it has learned from among them, it remembers, and it is better on the new ones, too.
"""

from dataclasses import replace

import numpy as np

from data.dataset import Dataset
from handcnn.errors import HandcnnError
from handcnn.text import one_line


def mixed(dataset: Dataset, other: Dataset, rng: np.random.Generator) -> Dataset:
    """Return the data set with as many training images of another one added to its own.

    Validation and test stay as they are.

    Args:
        dataset: the data set.
        other: one of the same classes.
        rng: chooses the images.

    Raises:
        HandcnnError: the other set has other classes.
    """
    if other.class_names != dataset.class_names:
        raise HandcnnError(
            f"--also: {other.title} has the classes {_listed(other)}, but {dataset.title} has "
            f"{_listed(dataset)}; give data of the same classes"
        )
    own = dataset.indices["train"]
    count = min(len(own), len(other.indices["train"]))
    chosen = np.sort(rng.choice(other.indices["train"], count, replace=False))
    added = np.arange(len(dataset.images), len(dataset.images) + count)
    note = {"dataset": other.name, "images": count, "sha256": other.sha256}
    return replace(
        dataset,
        images=np.concatenate([dataset.images, other.images[chosen]]),
        labels=np.concatenate([dataset.labels, other.labels[chosen]]),
        indices={**dataset.indices, "train": np.concatenate([own, added])},
        notes={**dataset.notes, "also": {**note, "source": other.source}},
    )


def _listed(dataset: Dataset) -> str:
    names = ", ".join(map(one_line, dataset.class_names))
    return names if len(names) <= 60 else f"{names[:60]}..."
