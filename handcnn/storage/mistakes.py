"""The worst mistakes of a run on its test images: a small file, for the drawing page."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from handcnn.errors import HandcnnError
from handcnn.storage.archive import Layout, read_archive, write_archive
from handcnn.storage.files import unusable
from handcnn.types import Array

KIND = "mistakes"
MOST = 1000  # in a file


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


DTYPES = Mistakes(*map(np.dtype, ("u1", "<i8", "<i8", "<f8", "<i8")))


def save_mistakes(path: Path, mistakes: Mistakes) -> None:
    """Write mistakes to `path`, completely or not at all."""
    arrays = {
        name: np.ascontiguousarray(array, dtype)
        for (name, array), dtype in zip(mistakes._asdict().items(), DTYPES, strict=True)
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
        case [int(n), int(h), int(w)] if 0 <= n <= MOST and h > 0 and w > 0:
            shapes = Mistakes((n, h, w), (n,), (n,), (n,), (n,))
            return dict(zip(Mistakes._fields, zip(shapes, DTYPES, strict=True), strict=True))
    raise HandcnnError("it does not say how many images it holds")
