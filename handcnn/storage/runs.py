"""The folder of a run: its name, its files, its lock, and how to find the newest one."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from handcnn.errors import HandcnnError
from handcnn.storage.checkpoints import HISTORY_COLUMNS
from handcnn.storage.files import (
    atomic_write,
    flush_folder,
    lock_file,
    open_file,
    opened_folder,
    remove_temporary_files,
    unusable,
)
from handcnn.text import natural_order, one_line
from handcnn.types import Array

OUTPUTS = Path("outputs")
LATEST = "latest"  # means the newest run; Path("latest") is a folder of that name
WEIGHTS = "weights.npz"
CHECKPOINT = "checkpoint.npz"
HISTORY = "history.csv"
LOSSES = "losses.csv"
RECORD = "run.json"
MISTAKES = "mistakes.npz"
LOCK = ".lock"
LOSS_COLUMNS = ("epoch", "step", "loss", "accuracy")
LOSS_ROW = "%d,%d,%.6g,%.6g\n"
MAX_TEXT_BYTES = 10_000_000  # bytes read of a history or a record
STARTED = re.compile("[0-9]{8}-[0-9]{6}-")


def create_run_folder(output_dir: Path, dataset: str, name: str | None, now: datetime) -> Path:
    """Make and return the folder `<date-time>-<dataset>[-<name>]`, numbered if it already exists.

    The newest run is found by these names, so `now` must be UTC: local time can go back.

    Raises:
        OSError: the folder cannot be made.
        HandcnnError: a thousand such folders exist, or a part of the path is no folder.
    """
    stem = "-".join(filter(None, [now.strftime("%Y%m%d-%H%M%S"), dataset, name]))
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise HandcnnError(
            f"{one_line(error.filename)} is a file, or a link to a folder that does not exist; "
            "choose another --output-dir"
        ) from None
    for attempt in range(1, 1000):
        folder = output_dir / (stem if attempt == 1 else f"{stem}-{attempt}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        flush_folder(output_dir)
        return folder
    raise HandcnnError(
        f"{one_line(output_dir)} holds a thousand runs named {stem}; choose another --name"
    )


@contextmanager
def new_run(output_dir: Path, dataset: str, name: str | None) -> Iterator[Path]:
    """Make the folder of a new run and lock it. Remove it at the end if nothing was saved in it.

    Raises:
        OSError: the folder cannot be made.
    """
    folder = create_run_folder(output_dir, dataset, name, datetime.now(UTC))
    try:
        with locked(folder):
            yield folder
    finally:
        remove_if_empty(folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from training in `folder` until this process leaves the block or dies.

    Two locks: some file systems lock no folders, and anybody can delete a file.

    Raises:
        HandcnnError: another process is training there, or the lock is not a file.
    """
    path = folder / LOCK
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise HandcnnError(f"{one_line(path)} is not a file; remove it")
    with path.open("ab") as file, opened_folder(folder) as descriptor:
        try:
            lock_file(file)
            if descriptor is not None:
                lock_file(descriptor)
        except (BlockingIOError, PermissionError):
            raise HandcnnError(
                f"{one_line(folder)} is being trained by another process; wait until it ends, or "
                "stop it"
            ) from None
        except OSError:
            pass  # train without a lock if the file system has none
        remove_temporary_files(folder)
        yield


def is_locked(folder: Path) -> bool:
    """Return whether a process is training in `folder`. Nothing is written there."""
    with suppress(HandcnnError), open_file(folder / LOCK) as file, opened_folder(folder) as place:
        try:
            lock_file(file)
            if place is not None:
                lock_file(place)
        except (BlockingIOError, PermissionError):
            return True
        except OSError:
            pass  # the file system has no locks
    return False


def remove_if_empty(folder: Path) -> None:
    """Remove the folder of a run that failed before it saved anything."""
    with suppress(OSError):
        if {path.name for path in folder.iterdir()} <= {LOCK}:
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()


def newest_run(output_dir: Path, holding: str, advice: str = "train one first") -> Path:
    """Return the folder of the newest run that contains the file `holding`.

    Unreadable runs are skipped.

    Raises:
        HandcnnError: there is none.
    """
    folders = [
        folder
        for folder in output_dir.glob("*")
        if STARTED.match(folder.name) and _is_file(folder / holding)
    ]
    if not folders:
        raise HandcnnError(f"no run in {one_line(output_dir)} holds {holding}; {advice}")
    return max(folders, key=lambda folder: natural_order(folder.name))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no permission to look into a folder
        return False


def find(run: Path | str, output_dir: Path, advice: str) -> Path:
    """Return the folder of a run, given as a path or as LATEST.

    Raises:
        HandcnnError: there is no run (the message ends with `advice`), or it has no checkpoint.
    """
    if run == LATEST:
        return newest_run(output_dir, CHECKPOINT, advice)
    folder = Path(run)
    if not (folder / CHECKPOINT).is_file():
        raise HandcnnError(
            f"{one_line(folder)} is not the folder of a run: it holds no {CHECKPOINT}; "
            f"give a folder inside {one_line(output_dir)}, or {LATEST}"
        )
    return folder


def tested_accuracy(folder: Path, epochs: int) -> float | None:
    """Return the test accuracy recorded after this number of epochs, or None if there is none."""
    try:
        record = read_record(folder)
        accuracy = record["test"]["accuracy"]
        is_current = record["epochs"] == epochs and 0 <= accuracy <= 1  # false for NaN
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return accuracy if is_current and isinstance(accuracy, float) else None


def read_record(folder: Path) -> dict[str, Any]:
    """Return what `write_record` wrote.

    Raises:
        HandcnnError: the file cannot be read, or it is no JSON object.
        OSError: reading fails.
    """
    path = folder / RECORD
    with open_file(path) as file:
        text = file.read(MAX_TEXT_BYTES)
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise unusable(path, "it is damaged")
    return record


def read_history(folder: Path) -> list[dict[str, float]]:
    """Return what `write_history` wrote.

    Raises:
        HandcnnError: the file cannot be read, or it holds something else.
        OSError: reading fails.
    """
    path = folder / HISTORY
    with open_file(path) as file:
        text = file.read(MAX_TEXT_BYTES)
    try:
        header, *lines = csv.reader(text.decode().splitlines())
        rows = [dict(zip(HISTORY_COLUMNS, map(float, line), strict=True)) for line in lines]
        if tuple(header) != HISTORY_COLUMNS or not all(map(_is_in_order, enumerate(rows, 1))):
            raise ValueError
    except (ValueError, csv.Error):
        raise unusable(path, "it is damaged") from None
    return rows


def _is_in_order(numbered: tuple[int, Mapping[str, float]]) -> bool:
    number, row = numbered
    return row["epoch"] == number and all(map(isfinite, row.values()))


def write_history(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write `history.csv`, one row per epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HISTORY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    with atomic_write(folder / HISTORY) as file:
        file.write(text.getvalue().encode())


def write_losses(folder: Path, steps: Array, steps_per_epoch: int, epochs: int) -> None:
    """Write `losses.csv`, a row for each step.

    Args:
        folder: of the run.
        steps: the loss and the accuracy of each step, (S, 2), up to the last one of an epoch.
        steps_per_epoch: how many steps an epoch has.
        epochs: the number of epochs trained; the steps of the first ones may be missing.
    """
    numbers = np.arange(len(steps)) + epochs * steps_per_epoch - len(steps)
    table = np.column_stack([numbers // steps_per_epoch + 1, numbers + 1, steps])
    # One format for the whole table: 10 ms for the 17,200 steps of the default training.
    text = LOSS_ROW * len(steps) % tuple(table.ravel().tolist())
    with atomic_write(folder / LOSSES) as file:
        file.write(f"{','.join(LOSS_COLUMNS)}\n{text}".encode())


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write `run.json`: everything about a run that is not in its history."""
    with atomic_write(folder / RECORD) as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())
