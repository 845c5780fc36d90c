"""Float batches from byte images, converted batch by batch to save memory.

60,000 images are 47 MB as bytes and 188 MB as float32, so only the current batch is float.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from handcnn.types import UInt8

Float32 = npt.NDArray[np.float32]

WHITE = np.float32(255)


def one_hot(
    labels: npt.NDArray[np.integer[Any]], classes: int = 10, dtype: npt.DTypeLike = np.float32
) -> npt.NDArray[Any]:
    """Return one row per label, (N, classes): 1 in the label's column, 0 elsewhere.

    Raises:
        ValueError: a label is not a whole number in 0 .. classes - 1.
    """
    _check_labels(labels, classes)
    rows: npt.NDArray[Any] = np.eye(classes, dtype=dtype)[labels]
    return rows


def _check_labels(labels: npt.NDArray[np.integer[Any]], classes: int) -> None:
    if labels.dtype.kind not in "iu":  # booleans would be used as a mask
        raise ValueError(f"labels must be whole numbers, got {labels.dtype}")
    # Without this check, a negative label would silently count from the last class.
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"labels must lie in 0..{classes - 1}, got {labels.min()}..{labels.max()}; "
            "give the number of classes"
        )


class Batches:
    """Images and labels in batches: `for x, y in Batches(images, labels, 64, rng)`.

    Each iteration yields every sample exactly once; the last batch may be smaller. With `rng`, each
    iteration shuffles the samples anew; without it, the order is kept.

    Args:
        images: (N, H, W) uint8, never written to.
        labels: (N,) integers in 0 .. classes - 1, never written to.
        batch_size: samples in a batch, at least 1.
        rng: the random generator for shuffling.
        classes: number of columns of the one-hot labels.
        indices: of the images to use; None for all.

    Yields:
        x: (N, 1, H, W) float32 in [0, 1], the bytes divided by 255; y: (N, classes) float32.
    """

    def __init__(
        self,
        images: UInt8,
        labels: npt.NDArray[np.integer[Any]],
        batch_size: int,
        rng: np.random.Generator | None = None,
        classes: int = 10,
        indices: npt.NDArray[np.int64] | None = None,
    ) -> None:
        if images.ndim != 3 or images.dtype != np.uint8:
            raise ValueError(
                f"Batches expects images of shape (N, H, W) and dtype uint8, "
                f"got {images.shape} and {images.dtype}"
            )
        if labels.shape != images.shape[:1]:
            raise ValueError(
                f"Batches expects a label per image, got {len(images)} images "
                f"and labels of shape {labels.shape}"
            )
        if batch_size < 1:
            raise ValueError(f"Batches expects a batch_size of at least 1, got {batch_size}")
        _check_labels(labels, classes)
        self.images, self.labels, self.batch_size, self.rng = images, labels, batch_size, rng
        self.indices = np.arange(len(images)) if indices is None else indices
        self.one_hot_rows: Float32 = np.eye(classes, dtype=np.float32)

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Float32, Float32]]:
        indices = self.indices
        if self.rng is not None:
            indices = indices[self.rng.permutation(len(indices))]
        for start in range(0, len(indices), self.batch_size):
            chosen = indices[start : start + self.batch_size]
            pixels = self.images[chosen, None]  # (N, 1, H, W)
            x = np.divide(pixels, WHITE, dtype=np.float32)
            yield x, self.one_hot_rows[self.labels[chosen]]
