"""A run's folder: what it is called, what is in it, and how the newest one is found."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from handcnn.errors import HandcnnError
from handcnn.storage.checkpoints import HISTORY_COLUMNS
from handcnn.storage.files import atomic_write, flush_folder, lock_file, remove_temporary_files

OUTPUTS = Path("outputs")
LATEST = Path("latest")  # in the place of a run's folder: the newest one
WEIGHTS = "weights.npz"
CHECKPOINT = "checkpoint.npz"
HISTORY = "history.csv"
RECORD = "run.json"
LOCK = ".lock"
STARTED = re.compile(r"\d{8}-\d{6}-")


def create_run_folder(output_dir: Path, dataset: str, name: str | None, now: datetime) -> Path:
    """Make the folder `<date-time>-<dataset>[-<name>]`, a new one even within the same second.

    Raises:
        OSError: it cannot be made.
    """
    stem = "-".join(filter(None, [now.strftime("%Y%m%d-%H%M%S"), dataset, name]))
    output_dir.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, 1000):
        folder = output_dir / (stem if attempt == 1 else f"{stem}-{attempt}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        flush_folder(output_dir)
        return folder
    raise HandcnnError(f"{output_dir} holds a thousand runs named {stem}; choose another --name")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other process from training in `folder`; a dead process locks nothing.

    Raises:
        HandcnnError: another process is training there.
    """
    with (folder / LOCK).open("ab") as file:
        try:
            lock_file(file)
        except (BlockingIOError, PermissionError):
            raise HandcnnError(
                f"{folder} is being trained by another process; wait until it ends, or stop it"
            ) from None
        except OSError:
            pass  # a file system without locks is no reason not to train
        remove_temporary_files(folder)
        yield


def remove_if_empty(folder: Path) -> None:
    """Remove the folder of a run that failed before it had anything to keep."""
    with suppress(OSError):
        if {path.name for path in folder.iterdir()} <= {LOCK}:
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()


def newest_run(output_dir: Path, holding: str) -> Path:
    """Return the folder of the run that was started last and holds the file `holding`.

    Raises:
        HandcnnError: there is none.
    """
    runs = sorted(
        folder
        for folder in output_dir.glob("*")
        if STARTED.match(folder.name) and (folder / holding).is_file()
    )
    if not runs:
        raise HandcnnError(
            f"no run in {output_dir} holds {holding}; train one first with: python train.py"
        )
    return runs[-1]


def find(run: Path, output_dir: Path) -> Path:
    """Return the folder of the run that is meant: `latest`, or the path of a folder.

    Raises:
        HandcnnError: there is none, or it holds no checkpoint.
    """
    if run == LATEST:
        return newest_run(output_dir, CHECKPOINT)
    if not (run / CHECKPOINT).is_file():
        raise HandcnnError(
            f"{run} is not the folder of a run: it holds no {CHECKPOINT}; "
            f"give a folder inside {output_dir}, or latest"
        )
    return run


def tested_accuracy(folder: Path, epochs: int) -> float | None:
    """Return the test accuracy in the run's record, if that is of a run of so many epochs.

    The record is written last: None means that the results are still to be made.
    """
    try:
        record = json.loads((folder / RECORD).read_text())
        return float(record["test"]["accuracy"]) if record["epochs"] == epochs else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def write_history(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write `history.csv`, a row per epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HISTORY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    with atomic_write(folder / HISTORY) as file:
        file.write(text.getvalue().encode())


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write `run.json`, everything there is to know about a run apart from its numbers by epoch."""
    with atomic_write(folder / RECORD) as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())
