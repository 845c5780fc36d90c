"""MNIST, known to be MNIST: what was published, the check against it, and the fast cache.

Parsing OpenML's text takes about 20 s and 1 GB, so it is done once. The pixels are then kept as
bytes in `mnist.npz`, which loads in well under a second. Neither place is trusted: whatever they
hold is compared with the published facts before anyone learns from it.
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data.openml import Say, fetch_mnist
from handcnn.errors import HandcnnError
from handcnn.storage.archive import read_archive, write_archive
from handcnn.text import one_line

UInt8 = npt.NDArray[np.uint8]

FILE = "mnist.npz"
KIND = "mnist"
SIDE = 28


@dataclass(frozen=True)
class Published:
    """The published facts: images per class in the training rows and in the test rows after them.

    The SHA-256 are those of the pixels and of the labels, as uint8, in the published order.
    """

    train_counts: tuple[int, ...]
    test_counts: tuple[int, ...]
    sha256: dict[str, str]

    @property
    def rows(self) -> int:
        """All images, training and test."""
        return sum(self.train_counts) + sum(self.test_counts)


PUBLISHED = Published(
    train_counts=(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    test_counts=(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
    sha256={
        "images": "5b92582eb909c82a9bfefcd44acbe9233be3eb5b419a44cf211022ad2bf4bf96",
        "labels": "671ff9d70b4811116d55c3dd479efa7a981e2e62753ef7a6d5c15fea81e63d27",
    },
)


class Raw(NamedTuple):
    """All images (N, 28, 28) and labels (N,) of a data set, uint8, and the SHA-256 of both."""

    images: UInt8
    labels: UInt8
    sha256: dict[str, str]


def load_mnist(
    data_home: Path | None,
    cache_dir: Path,
    say: Say,
    published: Published = PUBLISHED,
) -> Raw:
    """Return all of MNIST, in the published order.

    From the fast cache, else from scikit-learn's download cache, else from OpenML. A fast cache
    that fails a check is quarantined as `mnist.npz.bad`, and MNIST is fetched once again.

    Raises:
        HandcnnError: MNIST is in no cache and could not be fetched, or what came is not MNIST.
    """
    path = cache_dir / FILE
    mnist = _read_or_quarantine(path, published, say)
    if mnist is None:
        images, labels = fetch_mnist(
            data_home, lambda images, labels: check(images, labels, published), say
        )
        mnist = with_hashes(images, labels)
        _write(path, mnist, say)
    differing = [name for name in mnist.sha256 if mnist.sha256[name] != published.sha256[name]]
    if differing:
        say(
            f"warning: the SHA-256 of the {' and the '.join(differing)} differs from that of the "
            "published MNIST (rows and class counts agree); what was used is in the run's record"
        )
    return mnist


def with_hashes(images: UInt8, labels: UInt8) -> Raw:
    """Return both with their SHA-256 in hexadecimal."""
    hashes = {"images": sha256(images.data).hexdigest(), "labels": sha256(labels.data).hexdigest()}
    return Raw(images, labels, hashes)


def check(images: UInt8, labels: UInt8, published: Published) -> None:
    """Raise a HandcnnError unless rows, shapes and class counts are the published ones."""
    if images.shape != (published.rows, SIDE, SIDE) or labels.shape != (published.rows,):
        raise HandcnnError(
            f"MNIST has {published.rows:,} images of {SIDE}x{SIDE} and as many labels, "
            f"here are images of shape {images.shape} and labels of shape {labels.shape}"
        )
    first_test = sum(published.train_counts)
    for part, found, counts in (
        ("training", labels[:first_test], published.train_counts),
        ("test", labels[first_test:], published.test_counts),
    ):
        here = tuple(np.bincount(found, minlength=len(counts)).tolist())
        if here != counts:
            raise HandcnnError(
                f"the images per class in the {part} part are {_counts(here)}, "
                f"those of MNIST {_counts(counts)}"
            )


def _counts(counts: tuple[int, ...]) -> str:
    return " ".join(map(str, counts))


def _read_or_quarantine(path: Path, published: Published, say: Say) -> Raw | None:
    """Return what the fast cache holds; None where there is none, or none to be trusted."""
    if not path.exists():
        return None
    try:
        return _read(path, published)
    except HandcnnError as error:
        bad = path.with_name(path.name + ".bad")
        try:
            path.replace(bad)
        except OSError as reason:
            say(f"{error}; it cannot be quarantined ({reason.strerror}), delete it by hand")
        else:
            say(f"{error}; it is quarantined as {bad.name}, and MNIST is fetched once again")
        return None


def _read(path: Path, published: Published) -> Raw:
    """Read the fast cache and hold it against what was published and what it says of itself."""
    shape, byte = (published.rows, SIDE, SIDE), np.dtype(np.uint8)
    arrays, metadata = read_archive(
        path, KIND, lambda _: {"images": (shape, byte), "labels": (shape[:1], byte)}
    )
    mnist = with_hashes(arrays["images"], arrays["labels"])
    try:
        check(mnist.images, mnist.labels, published)
        if metadata.get("sha256") != mnist.sha256:
            raise HandcnnError("its pixels or labels are not those once written to it (SHA-256)")
    except HandcnnError as error:
        raise HandcnnError(f"{path} cannot be used: {error}") from error
    return mnist


def _write(path: Path, mnist: Raw, say: Say) -> None:
    arrays = {"images": mnist.images, "labels": mnist.labels}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_archive(path, KIND, arrays, {"sha256": mnist.sha256})
    except OSError as error:
        say(
            f"the fast cache {one_line(path)} cannot be written ({error.strerror or error}): "
            "training goes on from memory, and the next start will parse MNIST again"
        )
