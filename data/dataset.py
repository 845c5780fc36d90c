"""A data set: its images and labels, and which of them train, validate and test.

A reader returns one with the parts that its source has. `split` adds the missing ones. Nothing is
copied: a part is a list of row numbers.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from data.batches import Batches
from data.catalogue import CATALOGUE, Known
from handcnn.errors import HandcnnError
from handcnn.preparation import Preparation, background_of, usual_preparation
from handcnn.text import one_line
from handcnn.types import UInt8

Indices = npt.NDArray[np.int64]
PartName = Literal["train", "validation", "test"]
# Returns the indices 0 to N-1 in two groups, for N labels and the size of the second group
Divide = Callable[[UInt8, int, np.random.Generator], tuple[Indices, Indices]]


class Part(NamedTuple):
    """Images (N, 28, 28) and their labels (N,), both uint8."""

    images: UInt8
    labels: UInt8


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A data set with its origin.

    `train` is for training, `validation` chooses the best epoch, and `test` is used at the end of
    each training.

    Attributes:
        name: short, for folders.
        title: its name in messages and plots; that of the digits says that they are not MNIST.
        address: the name or path with which `load_dataset` loads it again.
        source: where the images come from.
        class_names: the name of each class.
        images: (N, 28, 28), of all parts.
        labels: (N,), indices of `class_names`.
        indices: those of the images of each part.
        prepared: how pictures are prepared like these images, a name in `PREPARATIONS`.
        notes: what else belongs into the record, as JSON values.
    """

    name: str
    title: str
    address: str
    source: str
    class_names: list[str]
    images: UInt8
    labels: UInt8
    indices: Mapping[PartName, Indices]
    prepared: str
    notes: Mapping[str, Any] = field(default_factory=dict)

    def part(self, name: PartName) -> Part:
        """Return a copy of one part."""
        return Part(self.images[self.indices[name]], self.labels[self.indices[name]])

    @property
    def train(self) -> Part:
        """The images for training."""
        return self.part("train")

    @property
    def validation(self) -> Part:
        """The images that choose the best epoch."""
        return self.part("validation")

    @property
    def test(self) -> Part:
        """The images for the test at the end."""
        return self.part("test")

    def batches(self, part: PartName, size: int, rng: np.random.Generator | None = None) -> Batches:
        """Return one part in batches, shuffled if `rng` is given."""
        return Batches(
            self.images,
            self.labels,
            size,
            rng,
            classes=len(self.class_names),
            indices=self.indices[part],
        )

    @cached_property
    def preparation(self) -> Preparation:
        """How pictures are prepared for a network that was trained on these images."""
        background = "dark" if self.prepared == "digits" else background_of(self.images)
        return Preparation(self.prepared, background)

    @cached_property
    def sha256(self) -> dict[str, str]:
        """The SHA-256 of all images and of all labels, in hexadecimal."""
        return {
            "images": sha256(self.images.data).hexdigest(),
            "labels": sha256(self.labels.data).hexdigest(),
        }

    @property
    def record(self) -> dict[str, Any]:
        """The source, the sizes and the hashes of the images, as JSON values."""
        return {
            "dataset": self.name,
            "source": self.source,
            "sizes": {name: len(indices) for name, indices in self.indices.items()},
            "classes": len(self.class_names),
            "class_names": self.class_names,
            "preparation": self.preparation.name,
            "background": self.preparation.background,
            "sha256": self.sha256,
            "published_mnist": self.sha256 == CATALOGUE["mnist"].sha256,
            **self.notes,
        }


def known_dataset(known: Known, images: UInt8, labels: UInt8) -> Dataset:
    """Return the images and labels of a data set in the catalogue with its facts, not yet split."""
    train, test = np.split(np.arange(len(images)), [len(images) - known.test_images])
    return Dataset(
        name=known.name,
        title=known.title,
        address=known.name,
        source=known.source,
        class_names=list(known.class_names),
        images=images,
        labels=labels,
        indices={"train": train, "test": test},
        prepared=usual_preparation(known.class_names),
    )


def users_dataset(
    path: Path, form: str, parts: Mapping[PartName, Part], class_names: list[str], prepared: str
) -> Dataset:
    """Return a user's images, not yet split.

    Args:
        path: the file or folder that the user named.
        form: the name of the format.
        parts: the parts that it holds.
        class_names: the name of each class.
        prepared: how the images were prepared.
    """
    ends = np.cumsum([len(part.labels) for part in parts.values()])
    indices = np.split(np.arange(ends[-1]), ends[:-1])
    # Part of the run folder's name: short, plain, and different from all names in the catalogue.
    stem = re.sub("[^A-Za-z0-9._]+", "-", path.stem)[:40].strip("-.") or "images"
    return Dataset(
        name=f"own-{stem}",
        title=f"{one_line(path.name)} (own data)",
        address=str(path),
        source=f"{path} ({form})",
        class_names=class_names,
        images=np.concatenate([part.images for part in parts.values()]),
        labels=np.concatenate([part.labels for part in parts.values()]),
        indices=dict(zip(parts, indices, strict=True)),
        prepared=prepared,
    )


def split(
    dataset: Dataset, *, validation: int, divide: Divide, seed: int, limit: int | None
) -> Dataset:
    """Choose training images for validation, if the data set has no validation part.

    Args:
        dataset: a data set with at least the parts `train` and `test`.
        validation: how many images to choose.
        divide: chooses them.
        seed: of the random generator that `divide` uses.
        limit: use only this many training images.

    Raises:
        HandcnnError: `limit` is larger than the number of training images.
    """
    indices, given = dataset.indices["train"], dataset.indices.get("validation")
    count = validation if given is None else 0
    available = len(indices) - count
    if limit is not None and not 1 <= limit <= available:
        raise HandcnnError(
            f"cannot keep {limit:,} training images: {dataset.name} has {available:,}; "
            f"choose a limit from 1 to {available:,}"
        )
    train, chosen = divide(dataset.labels[indices], count, np.random.default_rng(seed))
    parts: dict[PartName, Indices] = {
        "train": indices[train][:limit],
        "validation": indices[chosen] if given is None else given,
        "test": dataset.indices["test"],
    }
    notes = {"split_seed": seed, "limit": limit, **dataset.notes}
    return replace(dataset, indices=parts, notes=notes)


def at_random(labels: UInt8, count: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Divide images at random: the last `count` after a shuffle are the second group."""
    order = rng.permutation(len(labels))
    return order[: len(order) - count], order[len(order) - count :]


def per_class(labels: UInt8, count: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Divide images at random, but in each class in the same proportion.

    The first group keeps an image of every class, so the second one may be smaller than `count`. It
    begins with these, so that its first images are of all classes, too.
    """
    order = rng.permutation(len(labels))
    place = np.zeros(len(labels))  # of each row among those of its class, from 0 to 1
    for label in np.unique(labels):
        members = order[labels[order] == label]
        place[members[1:]] = (np.arange(1, len(members)) + rng.random()) / len(members)
    order = order[np.argsort(place[order], kind="stable")]
    kept = len(order) - min(count, int(np.count_nonzero(place)))
    return order[:kept], order[kept:]
