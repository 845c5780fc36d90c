"""The images that a saved network is evaluated on: loaded, their classes matched with its own."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from app.options import saved_options
from data import TRAINING_IMAGES, Dataset, load_dataset, load_unlabelled, load_whole
from data.catalogue import MAX_CLASSES
from handcnn.errors import HandcnnError
from handcnn.storage import runs
from handcnn.storage.classifiers import SavedNetwork
from handcnn.text import one_line

NAMES_SHOWN = 3  # in a message about classes


def unlabelled_data(options: argparse.Namespace, saved: SavedNetwork) -> Dataset | None:
    """Return images without labels, or None if the data have labels.

    Raises:
        HandcnnError: they cannot be used, or the options need labels.
    """
    if options.dataset is None:
        return None
    turned = {"invert": options.invert, "transpose": options.transpose}
    dataset = load_unlabelled(options.dataset, prepare=saved.preparation.name, **turned)
    if dataset is None:
        return None
    if options.answers is None:
        raise HandcnnError(
            f"{one_line(options.dataset)} has no labels to compare with; add --answers FILE to "
            "save what the network answers"
        )
    if options.plots is not None:
        raise HandcnnError(
            f"{one_line(options.dataset)} has no labels, so there are no mistakes to draw; omit "
            "--plots"
        )
    return replace(_on_known_background(saved, dataset), class_names=saved.class_names)


def labelled_data(options: argparse.Namespace, saved: SavedNetwork) -> Dataset:
    """Return the images to evaluate a network on, as the part `test`, with its classes.

    Raises:
        HandcnnError: they cannot be used, or not with this network.
    """
    if options.dataset is None:
        options = argparse.Namespace(**vars(options) | _own_data(saved))
    load = load_whole if options.part == "all" else load_dataset
    dataset = load(
        options.dataset,
        data_home=options.data_home,
        invert=options.invert,
        transpose=options.transpose,
        prepare=saved.preparation.name,
        skip_unreadable=options.skip_unreadable,
    )
    return fitted(saved, _on_known_background(saved, dataset))


def _on_known_background(saved: SavedNetwork, dataset: Dataset) -> Dataset:
    """Return the images inverted if their background is the opposite of the network's."""
    found, known = dataset.preparation.background, saved.preparation.background
    if {found, known} != {"dark", "bright"}:
        return dataset
    print(f"inverted the images, whose background is {found}: the network knows {known} ones")
    return replace(dataset, images=255 - dataset.images)


def _own_data(saved: SavedNetwork) -> dict[str, Any]:
    """Return the options that name the data of a network; of a user's own, run.json has them.

    Raises:
        HandcnnError: they are not known, or no longer there.
    """
    name, record = saved.metadata.get("dataset"), saved.path.with_name(runs.RECORD)
    if name in TRAINING_IMAGES:
        return {"dataset": name}
    if not record.exists():
        raise HandcnnError(
            f"{one_line(saved.path)} does not say where its images are; add --dataset with a name "
            "or a path"
        )
    options = runs.read_record(record.parent).get("options")
    try:
        run = saved_options(options if isinstance(options, dict) else {})
    except ValueError as error:
        raise HandcnnError(f"{one_line(record)} cannot be used: {one_line(error)}") from None
    if not Path(run.dataset).exists():
        raise HandcnnError(
            f"{one_line(record.parent)} was trained on {one_line(run.dataset)}, which does not "
            "exist; if the images have moved, add --dataset with their new path"
        )
    turned = ("invert", "transpose", "skip_unreadable")
    return {"dataset": run.dataset} | {option: getattr(run, option) for option in turned}


def fitted(saved: SavedNetwork, dataset: Dataset) -> Dataset:
    """Return the data set with the classes of a network, found by their names.

    The data may have fewer classes than the network. If the labels of a user's own data are only
    numbers and the network's classes have other names, they are taken for indices of these.

    Raises:
        HandcnnError: the network does not know a class.
    """
    known, names = saved.class_names, [one_line(name) for name in dataset.class_names]
    if len(known) > MAX_CLASSES:
        raise HandcnnError(
            f"{one_line(saved.path)} has {len(known):,} classes; at most {MAX_CLASSES} can be "
            "evaluated"
        )
    is_own, are_numbers = dataset.name not in TRAINING_IMAGES, all(map(str.isdecimal, names))
    if is_own and are_numbers and not any(map(str.isdecimal, known)):
        print(f"warning  the labels are numbers, taken in the order of {_some(known)}", flush=True)
        names = [known[int(name)] if int(name) < len(known) else name for name in names]
    if unknown := [name for name in names if name not in known]:
        raise HandcnnError(
            f"{dataset.title} has the class {unknown[0]}, which the network in "
            f"{one_line(saved.path)} does not know; its classes are {_some(known)}; choose data "
            "of these classes, or other weights"
        )
    places = np.array([known.index(name) for name in names], np.uint8)
    return replace(dataset, labels=places[dataset.labels], class_names=known)


def _some(names: Sequence[str]) -> str:
    """Return some names for a message: `0, 1, 2 and 7 more`."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
