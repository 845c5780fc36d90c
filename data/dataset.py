"""Which images train, which choose the best epoch, which are kept for the end.

And what happens on a machine that cannot have MNIST: `auto` goes on with the digits bundled with
scikit-learn, and says so in a way that nobody can take for MNIST.
"""

import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from data.batches import Batches
from data.digits import load_digits_like_mnist
from data.mnist import PUBLISHED, Raw, load_mnist, with_hashes
from handcnn.errors import HandcnnError

UInt8 = npt.NDArray[np.uint8]

CACHE = Path(__file__).parent / "cache"
NAMES = ("auto", "mnist", "digits")
SOURCES = {"mnist": "OpenML mnist_784, version 1", "digits": "sklearn.datasets.load_digits"}
TITLES = {"mnist": "MNIST", "digits": "scikit-learn digits (NOT MNIST)"}
# How many of the last rows test: MNIST was published so, and the digits have no parts of their own.
# VALIDATION is how many of the others validate.
TEST = {"mnist": sum(PUBLISHED.test_counts), "digits": 297}
VALIDATION = {"mnist": 5_000, "digits": 250}
TRAINING_IMAGES = {"mnist": sum(PUBLISHED.train_counts) - VALIDATION["mnist"], "digits": 1_250}

ADVICE = (
    "To get MNIST, connect to the network and start again, or point --data-home (or "
    "SCIKIT_LEARN_DATA) at a folder where scikit-learn has already put it."
)
WIDTH = 78


class Split(NamedTuple):
    """Images (N, 28, 28) and their labels (N,), both uint8."""

    images: UInt8
    labels: UInt8


@dataclass(frozen=True)
class Dataset:
    """A data set in its three parts, and the record of what it is.

    `train` is learned from, `validation` chooses the best epoch, and `test` is read each time that
    a training is finished.
    `record` says in plain JSON values where the images came from and which they are.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    record: dict[str, Any]

    @property
    def title(self) -> str:
        """The name in messages and pictures, where nobody may take the digits for MNIST."""
        return TITLES[self.name]

    def batches(
        self,
        part: Literal["train", "validation", "test"],
        size: int,
        rng: np.random.Generator | None = None,
    ) -> Batches:
        """Return one part in batches, shuffled if `rng` is given."""
        split: Split = getattr(self, part)
        return Batches(*split, size, rng, classes=self.record["classes"])


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def load_dataset(
    name: str = "auto",
    *,
    data_home: Path | None = None,
    cache_dir: Path = CACHE,
    seed: int = 0,
    limit: int | None = None,
    say: Callable[[str], None] = _say,
) -> Dataset:
    """Load MNIST, or the digits bundled with scikit-learn, shuffled and divided.

    Args:
        name: "mnist"; "digits"; "auto" for MNIST and, where that cannot be had, the digits with a
            loud warning.
        data_home: scikit-learn's folder for downloads; by default where scikit-learn keeps it.
        cache_dir: where the pixels are kept for a fast start.
        seed: of the shuffle that decides which training rows validate.
        limit: keep this many training images; validation and test stay whole.
        say: receives every message, one string each, some of several lines.

    Raises:
        HandcnnError: MNIST cannot be had (never with "auto"), the name is unknown, or `limit`
            asks for more training images than there are.
    """
    if name not in NAMES:
        raise HandcnnError(f"unknown dataset {name!r}; choose one of {', '.join(NAMES)}")
    name, raw, cause = _load(name, data_home, cache_dir, say)
    dataset = _split(name, raw, seed, limit)
    if cause:
        dataset.record["instead_of_mnist_because"] = cause
    return dataset


def _load(
    name: str, data_home: Path | None, cache_dir: Path, say: Callable[[str], None]
) -> tuple[str, Raw, str | None]:
    """Return the name of what there is, all of it, and why it is not MNIST if that was wanted."""
    cause = None
    if name != "digits":
        try:
            return "mnist", load_mnist(data_home, cache_dir, say), None
        except HandcnnError as error:
            cause = str(error)
            if name == "mnist":
                raise HandcnnError(
                    f"MNIST could not be had: {cause}. {ADVICE} Or train on the small set that is "
                    "always there: --dataset digits."
                ) from error
            say(_substitution(cause))
    return "digits", with_hashes(*load_digits_like_mnist()), cause


def _split(name: str, raw: Raw, seed: int, limit: int | None) -> Dataset:
    """Keep the last rows for testing; shuffle the others, of which the last ones validate."""
    images, labels, sha256 = raw
    rows = len(images) - TEST[name]
    available = rows - VALIDATION[name]
    if limit is not None and not 1 <= limit <= available:
        raise HandcnnError(
            f"cannot keep {limit:,} training images: {name} has {available:,}; "
            f"choose a limit from 1 to {available:,}"
        )
    order = np.random.default_rng(seed).permutation(rows)
    chosen, validation = order[:available][:limit], order[available:]
    train = Split(images[chosen], labels[chosen])
    sizes = {"train": len(chosen), "validation": len(validation), "test": TEST[name]}
    record = {
        "dataset": name,
        "source": SOURCES[name],
        "sizes": sizes,
        "classes": int(labels.max()) + 1,
        "split_seed": seed,
        "limit": limit,
        "sha256": sha256,
        "published_mnist": sha256 == PUBLISHED.sha256,
    }
    validate = Split(images[validation], labels[validation])
    # Copied, or this part would keep the whole array in memory.
    test = Split(images[rows:].copy(), labels[rows:].copy())
    return Dataset(name, train, validate, test, record)


def _substitution(cause: str) -> str:
    """Return the warning that no one overlooks: plain ASCII, framed, at most 78 columns wide."""
    paragraphs = [
        "WARNING: THIS IS NOT MNIST",
        f"MNIST could not be had: {cause.encode('ascii', 'replace').decode()}.",
        "Training goes on with the 1,797 small handwritten digits bundled with scikit-learn (8x8 "
        "pixels, enlarged to 28x28). The accuracy you are going to see is NOT an accuracy on "
        "MNIST and cannot be compared with one.",
        f"{ADVICE} --dataset mnist never replaces it; --dataset digits asks for this small set.",
    ]
    lines = []
    for paragraph in paragraphs:
        lines += ["", *textwrap.wrap(paragraph, WIDTH - 6, break_on_hyphens=False)]
    frame = "*" * WIDTH
    body = [f"** {line:<{WIDTH - 6}} **" for line in [*lines, ""]]
    return "\n".join(["", frame, *body, frame, ""])
