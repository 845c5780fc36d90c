"""A folder of pictures with one subfolder for each class: the layout of PyTorch's ImageFolder.

The class folders may stand inside folders for the parts, such as train, val and test, and may hold
folders themselves. Each picture is prepared as predict.py will prepare those that it reads.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.catalogue import MAX_CLASSES
from data.dataset import Dataset, Part, PartName, users_dataset
from data.progress import Say, progress_bar
from data.stored_arrays import PARTS
from handcnn.errors import HandcnnError
from handcnn.preparation import Preparation, usual_preparation
from handcnn.text import one_line
from handcnn.types import UInt8

LITTER = {"thumbs.db", "desktop.ini", "__macosx"}  # and names that begin with a dot
MAX_FAULTS_SHOWN = 20


class Picture(NamedTuple):
    """A picture file, its part, and the index of its class."""

    file: Path
    part: PartName
    label: int


def visible(folder: Path) -> list[Path]:
    """Return what people have put into a folder, sorted by name.

    Raises:
        HandcnnError: the folder cannot be read.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise HandcnnError(
            f"{one_line(folder)} cannot be read: {error.strerror or error}; check its permissions"
        ) from None
    return [p for p in paths if not p.name.startswith(".") and p.name.lower() not in LITTER]


def subfolders(folder: Path) -> list[Path]:
    """Return the visible folders in a folder."""
    return [path for path in visible(folder) if path.is_dir()]


def read_pictures(
    path: Path, folder: Path, say: Say, *, prepare: str | None, skip_unreadable: bool
) -> Dataset | None:
    """Return the pictures in class folders, or None if `folder` is no such folder.

    Args:
        path: the folder that the user named.
        folder: that folder, or one inside it that holds all.
        say: is called for each picture that cannot be used.
        prepare: how to prepare the pictures; None for "digits" if all classes are digits, otherwise
            "whole".
        skip_unreadable: whether to leave these pictures out.

    Raises:
        HandcnnError: the layout is not clear, a class has no pictures, or some cannot be used.
    """
    parts = _parts(folder, say)
    class_folders = {part: subfolders(place) for part, place in parts.items()}
    names = [place.name for place in class_folders["train"]]
    if len(names) < 2 and parts["train"] == folder:
        return None
    if not 1 <= len(names) <= MAX_CLASSES:
        raise HandcnnError(
            f"{one_line(parts['train'])} holds {len(names)} folders; there must be 1 to "
            f"{MAX_CLASSES}, one of pictures for each class"
        )
    listed = list(_listed(class_folders, names))
    prepared = prepare or usual_preparation(names)
    preparation = Preparation(prepared, "any")  # a set's own pictures are never inverted
    images, kept = _prepared(listed, path, say, preparation, skip_unreadable=skip_unreadable)
    found = {
        part: Part(
            np.stack([image for image, it in zip(images, kept, strict=True) if it.part == part]),
            np.array([it.label for it in kept if it.part == part], np.uint8),
        )
        for part in dict.fromkeys(it.part for it in kept)
    }
    dataset = users_dataset(path, "pictures", found, names, prepared)
    skipped = len(listed) - len(kept)
    return replace(dataset, notes={"skipped_pictures": skipped}) if skipped else dataset


def _parts(folder: Path, say: Say) -> dict[PartName, Path]:
    """Return the folder of each part; the folder itself if it is not divided.

    Raises:
        HandcnnError: folders of parts stand beside others.
    """
    folders = subfolders(folder)
    parts: dict[PartName, Path] = {}
    for place in folders:
        if part := PARTS.get(place.name.lower()):
            if part in parts:
                raise HandcnnError(
                    f"{one_line(folder)} holds both {one_line(parts[part].name)} and "
                    f"{one_line(place.name)}; give each part one folder"
                )
            parts[part] = place
    if not parts:
        return {"train": folder}
    others = [place for place in folders if place not in parts.values()]
    if others or "train" not in parts:
        there = ", ".join(one_line(place.name) for place in (*parts.values(), *others[:3]))
        raise HandcnnError(
            f"{one_line(folder)} holds the folders {there}; put class folders alone into it, or "
            "the folders train, test and, if you like, val with the same class folders in each"
        )
    for part in [part for part, place in parts.items() if part != "train"]:
        if not subfolders(parts[part]):
            say(f"{one_line(parts[part])} has no class folders, so it is not used")
            del parts[part]
    return parts


def _listed(class_folders: dict[PartName, list[Path]], names: list[str]) -> Iterator[Picture]:
    """Yield all pictures.

    Raises:
        HandcnnError: a class is not one of `names`, has no pictures, or is divided into parts.
    """
    for part, folders in class_folders.items():
        for folder in folders:
            if folder.name not in names:
                raise HandcnnError(
                    f"{one_line(folder)} is a class that has no folder among those for training; "
                    "give all parts the same class folders"
                )
            files = list(_files(folder))
            if not files:
                raise HandcnnError(
                    f"{one_line(folder)} holds no pictures; add some or remove the folder"
                )
            yield from (Picture(file, part, names.index(folder.name)) for file in files)


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of a class folder and of the folders in it."""
    for path in visible(folder):
        if not path.is_dir():
            yield path
        elif path.name.lower() in PARTS:
            raise HandcnnError(
                f"{one_line(folder)} holds a folder {one_line(path.name)}; it must be the other "
                "way round, with the class folders inside train and test"
            )
        elif not path.is_symlink():  # which could lead back here
            yield from _files(path)


def _prepared(
    listed: list[Picture], path: Path, say: Say, preparation: Preparation, *, skip_unreadable: bool
) -> tuple[list[UInt8], list[Picture]]:
    """Return the images (28, 28) of all pictures that can be used, and these pictures.

    Raises:
        HandcnnError: some cannot be used, and they are not to be skipped.
    """
    images, kept, faults = [], [], []
    with progress_bar(path.name, len(listed)) as bar:
        for picture in listed:
            try:
                images.append(_prepare(picture.file, preparation))
                kept.append(picture)
            except HandcnnError as fault:
                faults.append(str(fault))
            bar.update()
    for message in faults[:MAX_FAULTS_SHOWN]:
        say(message)
    if len(faults) > MAX_FAULTS_SHOWN:
        say(f"... and {len(faults) - MAX_FAULTS_SHOWN:,} more")
    summary = f"{len(faults):,} of {len(listed):,} pictures in {one_line(path)} cannot be used"
    if faults and not (skip_unreadable and kept):
        raise HandcnnError(
            f"{summary}; fix or remove them, or leave them out with --skip-unreadable"
        )
    if faults:
        say(f"{summary} and are left out")
    return images, kept


def _prepare(file: Path, preparation: Preparation) -> UInt8:
    """Return a picture as the network expects it: uint8 (28, 28)."""
    from handcnn.pictures import load_picture, prepare  # loads Pillow and SciPy

    if not file.is_file():  # opening a pipe would wait for ever
        raise HandcnnError(f"{one_line(file)} is not a file")
    grey = load_picture(file)
    try:
        return prepare(grey, preparation).image
    except HandcnnError as fault:
        raise HandcnnError(f"{one_line(file)}: {fault}") from None
