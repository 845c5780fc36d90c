"""Checkpoints: everything a training needs to resume exactly where it stopped."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np

from handcnn.errors import HandcnnError
from handcnn.network import Network
from handcnn.storage.archive import Layout, read_archive, reason, write_archive
from handcnn.storage.files import unusable
from handcnn.storage.networks import build_network, checked_architecture, parameter_layout
from handcnn.types import Array

HISTORY_COLUMNS = (
    "epoch",
    "learning_rate",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "seconds",
    "images_per_second",
)


STEPS = "steps"  # the name of their array, and of their number in the metadata


def no_steps() -> Array:
    """Return the steps of a training that has taken none."""
    return np.empty((0, 2), np.float32)


@dataclass
class Checkpoint:
    """The state of a training after its last finished epoch.

    Attributes:
        net: the network after that epoch.
        best: the parameters, by name, of the epoch that was best on validation.
        rng: the random generator for the next epoch.
        history: one row per finished epoch, with a number in each of HISTORY_COLUMNS.
        options: the options of the training, as JSON values.
        steps: the loss and the accuracy of every step on its batch, float32 (S, 2). Those of epochs
            that an older version trained are missing.
    """

    net: Network
    best: dict[str, Array]
    rng: np.random.Generator
    history: list[dict[str, float]]
    options: dict[str, Any]
    steps: Array = field(default_factory=no_steps)


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path`, completely or not at all.

    Raises:
        HandcnnError: as in `save_network`. An existing file is not changed.
        OSError: the file cannot be written.
    """
    best = {f"best.{name}": array for name, array in checkpoint.best.items()}
    metadata = {
        **checked_architecture(path, checkpoint.net),
        "rng": checkpoint.rng.bit_generator.state,
        "history": checkpoint.history,
        "options": checkpoint.options,
        STEPS: len(checkpoint.steps),
    }
    arrays = checkpoint.net.parameters() | best | {STEPS: checkpoint.steps}
    write_archive(path, "checkpoint", arrays, metadata)


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Return the checkpoint that `save_checkpoint` wrote to `path`.

    Raises:
        HandcnnError: as in `load_network`, or the history or the random state is impossible.
    """
    arrays, metadata = read_archive(path, "checkpoint", _layout)
    best = {name: arrays.pop(f"best.{name}") for name in parameter_layout(metadata)}
    steps = arrays.pop(STEPS, no_steps())
    net = build_network(path, metadata, arrays)
    try:
        rng = _generator(metadata["rng"])
        history, options = metadata["history"], metadata["options"]
        if not isinstance(history, list) or not isinstance(options, dict):
            raise ValueError("its history or its options are missing")
        for epoch, row in enumerate(history, start=1):
            _check_row(row, epoch)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise unusable(path, f"its progress is damaged ({reason(error)})") from None
    return Checkpoint(net, best, rng, history, options, steps)


def _layout(metadata: Mapping[str, Any]) -> Layout:
    if metadata.get("has_average") is True:  # written by 0.1, or soon after
        raise HandcnnError(
            "it was trained with --average, which handcnn no longer has; start a new run"
        )
    parameters = parameter_layout(metadata)
    layout = {
        f"{kind}{name}": entry for kind in ("", "best.") for name, entry in parameters.items()
    }
    if STEPS in metadata:  # older versions did not keep them
        count = metadata[STEPS]
        if type(count) is not int or count < 0:
            raise HandcnnError("the number of its steps is not a whole number")
        layout[STEPS] = ((count, 2), np.dtype(np.float32))
    return layout


def _generator(state: Any) -> np.random.Generator:
    """Return the generator in this state, which must be a possible state of PCG64.

    NumPy accepts more: it rounds 1.5, reads true as 1, and accepts an even increment, with which
    the generator may repeat one number forever, so that a shuffle never ends.
    """
    rng = np.random.Generator(np.random.PCG64())
    rng.bit_generator.state = state
    accepted = rng.bit_generator.state
    same = json.dumps(accepted, sort_keys=True) == json.dumps(state, sort_keys=True)
    if not same or state["state"]["inc"] % 2 == 0:
        raise ValueError("the state of its random generator is not one of PCG64")
    return rng


def _check_row(row: Any, epoch: int) -> None:
    if not isinstance(row, dict) or tuple(row) != HISTORY_COLUMNS:
        raise ValueError(f"the history of epoch {epoch} has the wrong columns")
    if not all(type(value) in (int, float) and isfinite(value) for value in row.values()):
        raise ValueError(f"the history of epoch {epoch} holds something that is not a number")
    if type(row["epoch"]) is not int or row["epoch"] != epoch:
        raise ValueError(f"the history has epoch {row['epoch']} in place of epoch {epoch}")
