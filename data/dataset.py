"""Load a data set and divide it into training, validation and test parts.

If MNIST is not available, `auto` uses the digits bundled with scikit-learn instead, with a warning
that nobody can overlook.
"""

import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from data.batches import Batches
from data.catalogue import CATALOGUE, Known
from data.digits import load_digits_like_mnist
from data.download_cache import Say
from data.own import load_own, validation_share
from data.published import load_published, with_hashes
from handcnn.errors import HandcnnError
from handcnn.text import one_line
from handcnn.types import UInt8

CACHE = Path(__file__).parent / "cache"
TRAINING_IMAGES = {name: known.train for name, known in CATALOGUE.items()}
WIDTH = 78


class Split(NamedTuple):
    """Images (N, 28, 28) and their labels (N,), both uint8."""

    images: UInt8
    labels: UInt8


@dataclass(frozen=True)
class Dataset:
    """A data set in three parts, with a record of its origin.

    `train` is for training, `validation` chooses the best epoch, and `test` is used at the end of
    each training.

    Attributes:
        name: short, for folders.
        title: its name in messages and plots; that of the digits says that they are not MNIST.
        address: the name or path with which `load_dataset` loads it again.
        record: the source, sizes and hashes of the images, as JSON values.
    """

    name: str
    title: str
    address: str
    train: Split
    validation: Split
    test: Split
    record: dict[str, Any]

    @property
    def class_names(self) -> list[str]:
        """The name of each class."""
        names: list[str] = self.record["class_names"]
        return names

    def batches(
        self,
        part: Literal["train", "validation", "test"],
        size: int,
        rng: np.random.Generator | None = None,
    ) -> Batches:
        """Return one part in batches, shuffled if `rng` is given."""
        split: Split = getattr(self, part)
        return Batches(*split, size, rng, classes=self.record["classes"])


class _Whole(NamedTuple):
    """A data set before division: the last `test` rows test, `validation` other rows validate."""

    name: str
    title: str
    address: str
    source: str
    images: UInt8
    labels: UInt8
    sha256: dict[str, str]
    test: int
    validation: int
    classes: list[str]


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def load_dataset(
    name: str = "auto",
    *,
    data_home: Path | None = None,
    cache_dir: Path = CACHE,
    seed: int = 0,
    limit: int | None = None,
    say: Say = _say,
) -> Dataset:
    """Load a data set and divide it.

    Args:
        name: a name in the catalogue; or the path of your own images (`data.own` lists the
            formats); or "auto" for MNIST or, if it is not available, the digits with a warning.
        data_home: scikit-learn's download folder; None for its usual place.
        cache_dir: the folder of the fast cache.
        seed: of the shuffle that chooses the validation images.
        limit: use only this many training images; validation and test stay complete.
        say: is called with each message, which may have several lines.

    Raises:
        HandcnnError: the data are not available (never with "auto") or cannot be used, the name is
            unknown, or `limit` is larger than the number of training images.
    """
    cause = None
    if name == "auto":
        try:
            whole = _load_known(CATALOGUE["mnist"], data_home, cache_dir, say)
        except HandcnnError as error:
            cause = str(error)
            say(_substitution(cause))
            whole = _load_known(CATALOGUE["digits"], data_home, cache_dir, say)
    elif name in CATALOGUE:
        known = CATALOGUE[name]
        try:
            whole = _load_known(known, data_home, cache_dir, say)
        except HandcnnError as error:
            raise HandcnnError(
                f"{known.title} is not available: {error}. {_advice(known)} Or train on the "
                "bundled set: --dataset digits."
            ) from error
    elif Path(name).name != name or Path(name).exists():
        whole = _load_path(Path(name).resolve(), say)
    else:
        names = ", ".join(("auto", *CATALOGUE))
        raise HandcnnError(
            f"unknown dataset {one_line(name)!r}; choose one of {names}, or give a path"
        )
    dataset = _split(whole, seed, limit)
    if cause:
        dataset.record["instead_of_mnist_because"] = cause
    return dataset


def _load_known(known: Known, data_home: Path | None, cache_dir: Path, say: Say) -> _Whole:
    if known.openml:
        raw = load_published(known, data_home, cache_dir, say)
    else:
        raw = with_hashes(*load_digits_like_mnist())
    about = (known.name, known.title, known.name, known.source)
    return _Whole(*about, *raw, known.test, known.validation, list(known.classes))


def _load_path(path: Path, say: Say) -> _Whole:
    own = load_own(path, say)
    # Part of the run folder's name: short, plain, and different from all names in the catalogue.
    stem = re.sub("[^A-Za-z0-9._]+", "-", path.stem)[:40].strip("-.") or "images"
    title, source = f"{one_line(path.name)} (own data)", f"{path} ({own.form})"
    raw = with_hashes(own.images, own.labels)
    validation = validation_share(len(own.images) - own.test)
    return _Whole(f"own-{stem}", title, str(path), source, *raw, own.test, validation, own.classes)


def _split(whole: _Whole, seed: int, limit: int | None) -> Dataset:
    """Use the last rows for the test; shuffle the others and use the last of them to validate."""
    images, labels = whole.images, whole.labels
    rows = len(images) - whole.test
    available = rows - whole.validation
    if limit is not None and not 1 <= limit <= available:
        raise HandcnnError(
            f"cannot keep {limit:,} training images: {whole.name} has {available:,}; "
            f"choose a limit from 1 to {available:,}"
        )
    order = np.random.default_rng(seed).permutation(rows)
    chosen, validation = order[:available][:limit], order[available:]
    train = Split(images[chosen], labels[chosen])
    sizes = {"train": len(chosen), "validation": len(validation), "test": whole.test}
    record = {
        "dataset": whole.name,
        "source": whole.source,
        "sizes": sizes,
        "classes": len(whole.classes),
        "class_names": whole.classes,
        "split_seed": seed,
        "limit": limit,
        "sha256": whole.sha256,
        "published_mnist": whole.sha256 == CATALOGUE["mnist"].sha256,
    }
    validate = Split(images[validation], labels[validation])
    # Copies, because views would keep the whole array in memory.
    test = Split(images[rows:].copy(), labels[rows:].copy())
    return Dataset(whole.name, whole.title, whole.address, train, validate, test, record)


def _advice(known: Known) -> str:
    return (
        f"To get {known.title}, connect to the network and start again, or point --data-home (or "
        "SCIKIT_LEARN_DATA) at a folder that already holds scikit-learn's copy of it."
    )


def _substitution(cause: str) -> str:
    """Return the warning in a frame of ASCII characters, at most 78 columns wide."""
    paragraphs = [
        "WARNING: THIS IS NOT MNIST",
        f"MNIST is not available: {cause.encode('ascii', 'replace').decode()}.",
        "Training continues with the 1,797 small handwritten digits bundled with scikit-learn (8x8 "
        "pixels, enlarged to 28x28). The accuracy you will see is NOT an accuracy on "
        "MNIST and cannot be compared with one.",
        f"{_advice(CATALOGUE['mnist'])} With --dataset mnist, nothing replaces it; "
        "--dataset digits selects this small set.",
    ]
    lines = []
    for paragraph in paragraphs:
        lines += ["", *textwrap.wrap(paragraph, WIDTH - 6, break_on_hyphens=False)]
    frame = "*" * WIDTH
    body = [f"** {line:<{WIDTH - 6}} **" for line in [*lines, ""]]
    return "\n".join(["", frame, *body, frame, ""])
