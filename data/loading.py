"""Load a data set by name or path, and divide it into training, validation and test parts.

If MNIST is not available, `auto` uses the digits bundled with scikit-learn instead, with a warning
that nobody can overlook.
"""

import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.catalogue import CATALOGUE, Known
from data.dataset import Dataset, at_random, known_dataset, per_class, split
from data.digits import load_digits_like_mnist
from data.progress import Say
from data.published import load_published
from data.users_images import for_training, read_path, read_unlabelled, validation_images
from handcnn.errors import HandcnnError
from handcnn.text import one_line

CACHE = Path(__file__).parent / "cache"
TRAINING_IMAGES = {name: known.training_images for name, known in CATALOGUE.items()}
WIDTH = 78


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def load_dataset(
    name: str = "auto",
    *,
    data_home: Path | None = None,
    cache_dir: Path = CACHE,
    seed: int = 0,
    limit: int | None = None,
    invert: bool = False,
    transpose: bool = False,
    prepare: str | None = None,
    skip_unreadable: bool = False,
    say: Say = _say,
) -> Dataset:
    """Load a data set and divide it.

    Args:
        name: a name in the catalogue; or the path of your own images (`data.users_images` lists
            the formats); or "auto" for MNIST or, if it is not available, the digits with a warning.
        data_home: scikit-learn's download folder; None for its usual place.
        cache_dir: the folder of the fast cache.
        seed: of the shuffle that chooses the validation images.
        limit: use only this many training images; validation and test stay complete.
        invert: your own images are dark on bright; make them bright on dark, as MNIST's.
        transpose: swap the rows and columns of your own images.
        prepare: how pictures are prepared like these images, "digits" or "whole"; this is also how
            your own pictures are prepared. None decides by the images.
        skip_unreadable: leave out those of your own pictures that cannot be used.
        say: is called with each message, which may have several lines.

    Raises:
        HandcnnError: the data are not available (never with "auto") or cannot be used, the name is
            unknown, or `limit` is larger than the number of training images.
    """
    if path := _path(name):
        dataset = read_path(
            path, say, invert=invert, transpose=transpose, prepare=prepare, skip=skip_unreadable
        )
        dataset = for_training(path, dataset, say)
        count, divide = validation_images(len(dataset.indices["train"])), per_class
    else:
        _refuse_turning(name, invert or transpose or skip_unreadable)
        dataset = _load_name(name, data_home, cache_dir, say)
        dataset = replace(dataset, prepared=prepare or dataset.prepared)
        count, divide = CATALOGUE[dataset.name].validation, at_random
    dataset = split(dataset, validation=count, divide=divide, seed=seed, limit=limit)
    _check_parts(dataset, say)
    return dataset


def load_whole(
    name: str,
    *,
    data_home: Path | None = None,
    cache_dir: Path = CACHE,
    invert: bool = False,
    transpose: bool = False,
    prepare: str | None = None,
    skip_unreadable: bool = False,
    say: Say = _say,
) -> Dataset:
    """Load a data set for an evaluation: all its images are of the part `test`.

    A few images, and of a few classes, are enough. The arguments and errors are those of
    `load_dataset`.
    """
    if path := _path(name):
        dataset = read_path(
            path, say, invert=invert, transpose=transpose, prepare=prepare, skip=skip_unreadable
        )
    else:
        _refuse_turning(name, invert or transpose or skip_unreadable)
        dataset = _load_name(name, data_home, cache_dir, say)
    prepared = prepare or dataset.prepared
    return replace(dataset, indices={"test": np.arange(len(dataset.images))}, prepared=prepared)


def load_unlabelled(
    name: str,
    *,
    invert: bool = False,
    transpose: bool = False,
    prepare: str | None = None,
    say: Say = _say,
) -> Dataset | None:
    """Load a .csv file of images without labels; return None if `name` is anything else.

    The images are of the part `test`, and their labels mean nothing.

    Raises:
        HandcnnError: the file cannot be used.
    """
    path = _path(name)
    if path is None or path.suffix.lower() != ".csv" or path.is_dir():
        return None
    return read_unlabelled(path, say, invert=invert, transpose=transpose, prepare=prepare)


def _refuse_turning(name: str, given: bool) -> None:
    if given:
        raise HandcnnError(
            f"{name} is a data set by name; invert, transpose and skip_unreadable are for the "
            "path of your own images"
        )


def _path(name: str) -> Path | None:
    """Return the path that is meant, or None if `name` is a name.

    Raises:
        HandcnnError: no path can be like this.
    """
    if name in ("", "auto", *CATALOGUE):
        return None
    path = Path(name)
    try:
        return path.resolve() if path.name != name or path.exists() else None
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null character, a circle
        raise HandcnnError(f"{one_line(name)} cannot be read: {one_line(error)}") from None


def _load_name(name: str, data_home: Path | None, cache_dir: Path, say: Say) -> Dataset:
    if name not in ("auto", *CATALOGUE):
        names = ", ".join(("auto", *CATALOGUE))
        raise HandcnnError(f"unknown dataset {name!r}; choose one of {names}, or give a path")
    if Path(name).exists():
        say(f"{name} is the data set of that name; for what is here under that name, give ./{name}")
    known = CATALOGUE["mnist" if name == "auto" else name]
    try:
        return _load_known(known, data_home, cache_dir, say)
    except HandcnnError as error:
        if name != "auto":
            raise HandcnnError(
                f"{known.title} is not available: {error}. {_advice(known)} Or train on the "
                "bundled set: --dataset digits."
            ) from error
        say(_substitution(str(error)))
        digits = _load_known(CATALOGUE["digits"], data_home, cache_dir, say)
        return replace(digits, notes={"instead_of_mnist_because": str(error)})


def _load_known(known: Known, data_home: Path | None, cache_dir: Path, say: Say) -> Dataset:
    if known.openml:
        return load_published(known, data_home, cache_dir, say)
    return known_dataset(known, *load_digits_like_mnist())


def _check_parts(dataset: Dataset, say: Say) -> None:
    """Refuse an empty part; warn of classes without training images.

    Raises:
        HandcnnError: a part is empty.
    """
    for part, indices in dataset.indices.items():
        if len(indices) == 0:
            raise HandcnnError(
                f"{one_line(dataset.address)} has no image to spare for the part {part}: each "
                "class keeps one for training; add images"
            )
    labels = dataset.labels[dataset.indices["train"]]
    counts = np.bincount(labels, minlength=len(dataset.class_names))
    if not counts.all():
        missing = [one_line(dataset.class_names[i]) for i in np.flatnonzero(counts == 0)]
        say(
            f"warning: none of the {len(labels):,} training images is of the class "
            f"{', '.join(missing)}, so the network cannot learn it"
        )


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
