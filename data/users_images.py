"""A user's images, by path: an .npz file, IDX files, a CSV table, or a folder of pictures.

The rules are the same for all formats: images of 28x28 bytes; up to 100 classes, each with training
images; and a test part, which is split off if there is none.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.csv_table import arrays_in_csv, images_without_labels
from data.dataset import Dataset, Indices, Part, PartName, per_class, users_dataset
from data.idx import NAME as IDX_NAME
from data.idx import arrays_in_idx_files
from data.npz_file import arrays_in_npz, arrays_in_npz_files
from data.picture_folder import read_pictures, subfolders, visible
from data.progress import Say
from data.stored_arrays import PARTS, kind_in, read_arrays
from handcnn.errors import HandcnnError
from handcnn.preparation import (
    BRIGHT,
    MAX_EXAMINED,
    background_levels,
    some_of,
    usual_preparation,
)
from handcnn.text import one_line

FORMS = (
    "give an .npz file (x_train, y_train, x_test, y_test), a folder of IDX files "
    "(train-images-idx3-ubyte and so on), a .csv file (label and 784 pixels), or a folder with a "
    "subfolder of pictures for each class"
)
PACKED = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz")
ONE_IN = 6  # one image in six is split off for the test, then one in six for validation
MAX_TEST_IMAGES, MAX_VALIDATION_IMAGES = 10_000, 5_000
MIN_TRAINING_IMAGES = 10


def for_training(path: Path, dataset: Dataset, say: Say) -> Dataset:
    """Return the images of `read_path` with a training and a test part.

    Raises:
        HandcnnError: there are too few images.
    """
    _check_classes(path, dataset)
    return dataset if "test" in dataset.indices else _with_test(path, dataset, say)


def read_path(
    path: Path,
    say: Say,
    *,
    invert: bool = False,
    transpose: bool = False,
    prepare: str | None = None,
    skip: bool = False,
) -> Dataset:
    """Return the images at `path`, with the parts that are there.

    Args:
        path: a file or a folder.
        say: is called with each message.
        invert: turn dark on bright into bright on dark.
        transpose: swap the rows and columns of each image.
        prepare: as in `load_dataset`.
        skip: leave out pictures that cannot be used.

    Raises:
        HandcnnError: there is nothing at `path`, or it cannot be used.
    """
    if not path.exists():
        raise HandcnnError(f"{one_line(path)} does not exist; {FORMS}")
    folder = _innermost(path) if path.is_dir() else path
    dataset = _read_folder(path, folder, say) if path.is_dir() else _read_file(path, say)
    if dataset:
        names = _names(path, folder)
        dataset = _arrays(
            path, names, dataset, say, invert=invert, transpose=transpose, prepare=prepare
        )
    elif invert or transpose:
        raise HandcnnError(
            f"{one_line(path)} does not hold arrays but, perhaps, pictures, which are turned "
            "bright on dark anyway; omit --invert and --transpose"
        )
    else:
        dataset = read_pictures(path, folder, say, prepare=prepare, skip_unreadable=skip)
    if dataset is None:
        raise HandcnnError(f"{one_line(path)} holds no data set; {FORMS}")
    return dataset


def read_unlabelled(
    path: Path,
    say: Say,
    *,
    invert: bool = False,
    transpose: bool = False,
    prepare: str | None = None,
) -> Dataset | None:
    """Return the images of a table without labels as the part `test`; None if it has labels.

    The arguments and errors are those of `read_path`.
    """
    images = images_without_labels(path)
    if images is None:
        return None
    part = Part(images, np.zeros(len(images), np.uint8))
    dataset = users_dataset(path, "CSV without labels", {"test": part}, ["unknown"], "whole")
    return _arrays(
        path, path.name, dataset, say, invert=invert, transpose=transpose, prepare=prepare
    )


def validation_images(training_images: int) -> int:
    """Return how many of the training images to use for validation."""
    return min(MAX_VALIDATION_IMAGES, training_images // ONE_IN)


def _read_file(path: Path, say: Say) -> Dataset:
    """Return the data set in a single file."""
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return read_arrays(path, ".npz", arrays_in_npz(path))
    if suffix == ".csv":
        return read_arrays(path, "CSV", arrays_in_csv([path], say))
    if IDX_NAME.fullmatch(path.name):
        raise HandcnnError(f"{one_line(path)} is one of several IDX files; give their folder")
    if suffix in PACKED:
        raise HandcnnError(f"{one_line(path)} is packed; unpack it and give its folder")
    raise HandcnnError(f"{one_line(path)} is not a data set; {FORMS}")


def _innermost(path: Path) -> Path:
    """Return the folder itself, or the one that it wraps, as unpacked archives often do."""
    inner = path
    while (
        len(found := subfolders(inner)) == 1
        and found[0].name.lower() not in PARTS
        and not any(map(_is_table, visible(inner)))
    ):
        inner = found[0]
    return inner


def _is_table(file: Path) -> bool:
    """Return whether a file's name is that of an IDX file, a table or arrays."""
    return bool(IDX_NAME.fullmatch(file.name)) or file.suffix.lower() in (".csv", ".npz")


def _read_folder(path: Path, folder: Path, say: Say) -> Dataset | None:
    """Return the data set in IDX, .npz or .csv files of a folder, or None if there is none."""
    files = visible(folder)
    inside = [place / place.name for place in files if place.is_dir()]  # as Kaggle unpacks them
    files = [file for file in (*files, *inside) if not file.is_dir() and file.exists()]
    if any(IDX_NAME.fullmatch(file.name) for file in files):
        return read_arrays(path, "IDX files", arrays_in_idx_files(files))
    npz = [file for file in files if file.suffix.lower() == ".npz"]
    if any(kind_in(file.stem) for file in npz):
        return read_arrays(path, ".npz files", arrays_in_npz_files(npz))
    if tables := [file for file in files if file.suffix.lower() == ".csv"]:
        return read_arrays(path, "CSV", arrays_in_csv(tables, say))
    return None


def _names(path: Path, folder: Path) -> str:
    """Return the names of IDX files and tables in a folder, or that of a table."""
    files = visible(folder) if folder.is_dir() else [path]
    return " ".join(file.name for file in files if file.suffix.lower() != ".npz")


def _arrays(
    path: Path,
    names: str,
    dataset: Dataset,
    say: Say,
    *,
    invert: bool,
    transpose: bool,
    prepare: str | None,
) -> Dataset:
    """Return images stored as arrays, turned, with their preparation; warn of bright digits.

    EMNIST's files, known by their names, are transposed without being asked, and their letters are
    drawn as MNIST's digits.
    """
    from handcnn.pictures import preparation_of_arrays  # loads Pillow and SciPy

    is_emnist = bool(re.search("emnist", names, re.IGNORECASE))
    if is_emnist:
        say(f"{one_line(path)}: EMNIST's files hold transposed images; they are turned upright")
    dataset = _turned(dataset, invert=invert, transpose=transpose or is_emnist)
    prepared = prepare or (
        "digits" if is_emnist else preparation_of_arrays(dataset.images, dataset.class_names)
    )
    dataset = replace(dataset, prepared=prepared)
    _warn_of_bright_borders(path, dataset, say, invert=invert)
    return dataset


def _turned(dataset: Dataset, *, invert: bool, transpose: bool) -> Dataset:
    """Return the data set with images inverted and transposed."""
    images, notes = dataset.images, {"invert": invert, "transpose": transpose}
    if transpose:
        images = np.ascontiguousarray(images.transpose(0, 2, 1))
    if invert:
        images = 255 - images
    given = {name: value for name, value in notes.items() if value}
    return replace(dataset, images=images, notes={**dataset.notes, **given})


def _warn_of_bright_borders(path: Path, dataset: Dataset, say: Say, *, invert: bool) -> None:
    """Warn of digits that are dark on bright: prepared digits are bright on black."""
    share = np.mean(background_levels(some_of(dataset.images, MAX_EXAMINED)) >= BRIGHT)
    are_digits = "digits" in (dataset.prepared, usual_preparation(dataset.class_names))
    if share > 0.5 and are_digits:
        advice = "omit --invert" if invert else "add --invert"
        say(
            f"warning: {share:.0%} of the images in {one_line(path)} have a bright background. "
            "Digits in photographs and drawings are given to a network bright on black: if these "
            f"images are dark ink on a bright ground, {advice}"
        )


def _check_classes(path: Path, dataset: Dataset) -> None:
    labels = dataset.labels[dataset.indices.get("train", [])]
    counts = np.bincount(labels, minlength=len(dataset.class_names))
    if len(counts) < 2 or len(labels) < MIN_TRAINING_IMAGES:
        raise HandcnnError(
            f"{one_line(path)} holds {len(labels)} training images of {len(counts)} classes; at "
            f"least {MIN_TRAINING_IMAGES} images of 2 classes are needed"
        )
    if not counts.all():
        name = one_line(dataset.class_names[int(counts.argmin())])
        raise HandcnnError(
            f"{one_line(path)}: no training image of the class {name} can be used; add some, or "
            "remove the class"
        )


def _with_test(path: Path, dataset: Dataset, say: Say) -> Dataset:
    """Split test images off at random, always the same ones."""
    indices = dataset.indices["train"]
    count = min(MAX_TEST_IMAGES, len(indices) // ONE_IN)
    kept, held_out = per_class(dataset.labels[indices], count, np.random.default_rng(0))
    say(
        f"{one_line(path)} has no test part: {len(held_out):,} images chosen at random are held "
        f"out for the test, {len(kept):,} remain"
    )
    parts: dict[PartName, Indices] = {
        "train": indices[np.sort(kept)],
        "test": indices[np.sort(held_out)],
    }
    return replace(dataset, indices={**dataset.indices, **parts})
