"""Data sets from OpenML, compared with what was published, and kept in a fast cache.

Parsing OpenML's text takes about 20 s and 1 GB, so it is done once. The pixels are then saved as
bytes in `<name>.npz`, which loads in well under a second. Neither source is trusted: the data are
compared with the published facts before they are used.
"""

from itertools import zip_longest
from pathlib import Path

import numpy as np

from data.catalogue import SIDE, Known
from data.dataset import Dataset, known_dataset
from data.openml import fetch
from data.progress import Say
from handcnn.errors import HandcnnError
from handcnn.storage.archive import read_archive, write_archive
from handcnn.storage.files import UnreadableError
from handcnn.text import one_line
from handcnn.types import UInt8


def load_published(known: Known, data_home: Path | None, cache_dir: Path, say: Say) -> Dataset:
    """Return a whole data set, in the published order.

    It comes from the fast cache, or else from scikit-learn's download cache, or else from OpenML.
    A fast cache that fails a check is quarantined as `<name>.npz.bad`, and the data are fetched
    again.

    Raises:
        HandcnnError: the data are in no cache and cannot be fetched, or they are not the published
            ones, or a cache cannot be read now (it then stays where it is).
    """
    path = cache_dir / f"{known.name}.npz"
    dataset = _read_or_quarantine(path, known, say)
    if dataset is None:
        images, labels = fetch(known, data_home, check, say)
        dataset = known_dataset(known, images, labels)
        _write(path, known, dataset, say)
    differing = [name for name in known.sha256 if dataset.sha256[name] != known.sha256[name]]
    if differing:
        say(
            f"warning: the SHA-256 of the {' and the '.join(differing)} differs from that of the "
            f"published {known.title} (rows and class counts agree); run.json records the one used"
        )
    elif _counts(dataset.labels, known) != _published_counts(known):
        say(
            f"warning: the last {known.test_images:,} images are not those published to test "
            f"{known.title} (all class counts agree); they are used for the test anyway"
        )
    return dataset


def check(images: UInt8, labels: UInt8, known: Known) -> None:
    """Raise a HandcnnError unless shapes and class counts are the published ones.

    If the published pixels are known, each part must have the published class counts. Otherwise the
    total count of each class is enough, because the images may be in another order.
    """
    if images.shape != (known.images, SIDE, SIDE) or labels.shape != (known.images,):
        raise HandcnnError(
            f"{known.title} has {known.images:,} images of {SIDE}x{SIDE} and as many labels, "
            f"but found images of shape {images.shape} and labels of shape {labels.shape}"
        )
    found, published = _counts(labels, known), _published_counts(known)
    if "images" not in known.sha256 and _summed(found) == _summed(published):
        return
    for part, here, there in zip(("training", "test"), found, published, strict=True):
        if here != there:
            raise HandcnnError(
                f"the images per class in the {part} part are {_text(here)}, "
                f"but those of {known.title} are {_text(there)}"
            )


def _counts(labels: UInt8, known: Known) -> list[list[int]]:
    """Return how many training images each class has, and how many test images."""
    parts = np.split(labels, [known.images - known.test_images])
    return [np.bincount(part, minlength=len(known.train_counts)).tolist() for part in parts]


def _published_counts(known: Known) -> list[list[int]]:
    return [list(known.train_counts), list(known.test_counts)]


def _summed(counts: list[list[int]]) -> list[int]:
    return [sum(pair) for pair in zip_longest(*counts, fillvalue=0)]


def _text(counts: list[int]) -> str:
    return " ".join(map(str, counts))


def _read_or_quarantine(path: Path, known: Known, say: Say) -> Dataset | None:
    """Return the content of the fast cache, or None if there is none or it fails a check.

    Raises:
        UnreadableError: it cannot be opened or read.
    """
    if not path.exists():
        return None
    try:
        return read(path, known)
    except UnreadableError:  # it may be intact
        raise
    except HandcnnError as error:
        bad = path.with_name(path.name + ".bad")
        try:
            path.replace(bad)
        except OSError as reason:
            say(f"{error}; it cannot be quarantined ({reason.strerror}); delete it by hand")
        else:
            say(f"{error}; it is quarantined as {bad.name}, and {known.title} is fetched again")
        return None


def read(path: Path, known: Known) -> Dataset:
    """Read a fast cache and compare it with what was published and with its own SHA-256."""
    shape, byte = (known.images, SIDE, SIDE), np.dtype(np.uint8)
    arrays, metadata = read_archive(
        path, known.name, lambda _: {"images": (shape, byte), "labels": (shape[:1], byte)}
    )
    dataset = known_dataset(known, arrays["images"], arrays["labels"])
    try:
        check(dataset.images, dataset.labels, known)
        if metadata.get("sha256") != dataset.sha256:
            raise HandcnnError("its pixels or labels have changed since it was written (SHA-256)")
    except HandcnnError as error:
        raise HandcnnError(f"{one_line(path)} cannot be used: {error}") from error
    return dataset


def _write(path: Path, known: Known, dataset: Dataset, say: Say) -> None:
    arrays = {"images": dataset.images, "labels": dataset.labels}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_archive(path, known.name, arrays, {"sha256": dataset.sha256})
    except OSError as error:
        say(
            f"the fast cache {one_line(path)} cannot be written ({error.strerror or error}): "
            f"training continues from memory, and the next start will parse {known.title} again"
        )
