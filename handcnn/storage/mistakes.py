"""The worst mistakes of a run on its test images: a small file, for the drawing page."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from handcnn.errors import HandcnnError
from handcnn.storage.archive import Layout, read_archive, write_archive
from handcnn.storage.files import unusable
from handcnn.types import Array

KIND = "mistakes"
MAX_MISTAKES = 1000  # in a file


class Mistakes(NamedTuple):
    """Images that were read wrong, the worst first.

    Attributes:
        images: (n, H, W) uint8, as the network saw them.
        labels: the classes (n,).
        answers: the classes that the network answered (n,).
        probabilities: of these answers (n,).
        numbers: of the images among the test images, from 0 (n,).
    """

    images: Array
    labels: Array
    answers: Array
    probabilities: Array
    numbers: Array


DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(dtype)
    for name, dtype in zip(Mistakes._fields, ("u1", "<i8", "<i8", "<f8", "<i8"), strict=True)
}


def save_mistakes(path: Path, mistakes: Mistakes) -> None:
    """Write mistakes to `path`, completely or not at all."""
    arrays = {
        name: np.ascontiguousarray(array, DTYPES[name])
        for name, array in mistakes._asdict().items()
    }
    write_archive(path, KIND, arrays, {"shape": list(mistakes.images.shape)})


def read_mistakes(path: Path, classes: int) -> Mistakes:
    """Return the mistakes of a network with so many classes, from a file of `save_mistakes`.

    Raises:
        HandcnnError: the file is missing, damaged or of another kind.
    """
    mistakes = Mistakes(**read_archive(path, KIND, _layout)[0])
    named = np.concatenate([mistakes.labels, mistakes.answers])
    if ((named < 0) | (named >= classes)).any():
        raise unusable(path, f"it names a class that is not one of the network's {classes}")
    return mistakes


def _layout(metadata: dict[str, Any]) -> Layout:
    match metadata.get("shape"):
        case [int(n), int(h), int(w)] if 0 <= n <= MAX_MISTAKES and h > 0 and w > 0:
            return {
                name: ((n, h, w) if name == "images" else (n,), dtype)
                for name, dtype in DTYPES.items()
            }
    raise HandcnnError("it does not say how many images it holds")
