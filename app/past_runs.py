"""The runs in a folder: what each one trained, how far it came and how good it became.

Only run.json and history.csv are read. They are small, so a hundred runs are listed at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from app.options import Options, flag, saved_options, typed
from handcnn.commands.hints import train_command
from handcnn.errors import HandcnnError
from handcnn.models import USUAL_IMAGES
from handcnn.storage import runs
from handcnn.text import natural_order, one_line
from handcnn.training import best_epoch

FINISHED, INTERRUPTED, RUNNING, UNREADABLE = "finished", "interrupted", "running", "unreadable"


@dataclass(frozen=True)
class PastRun:
    """One run.

    Attributes:
        folder: its folder.
        state: finished, interrupted, running or unreadable.
        options: its options; None if they cannot be read, or are not yet written.
        data: the name of its data set.
        images: how many train.
        history: a row for each epoch.
        test: its accuracy on the test images, after the last epoch in the history.
        fault: why it is unreadable.
    """

    folder: Path
    state: str
    options: Options | None = None
    data: str = ""
    images: int = USUAL_IMAGES
    history: list[dict[str, float]] = field(default_factory=list)
    test: float | None = None
    fault: str = ""

    @property
    def best(self) -> Mapping[str, float] | None:
        """The row of the epoch whose weights are kept."""
        return best_epoch(self.history) if self.history else None

    @property
    def changes(self) -> dict[str, object]:
        """The options that differ from the recipe for its images."""
        return {} if self.options is None else self.options.changes(self.images)

    @property
    def seconds(self) -> float:
        """The time that its steps took."""
        return sum(row["seconds"] for row in self.history)


def all_runs(output_dir: Path) -> list[PastRun]:
    """Return the runs in a folder, in the order of their names, so the oldest first.

    Raises:
        HandcnnError: the folder does not exist.
    """
    if not output_dir.is_dir():
        raise HandcnnError(
            f"{one_line(output_dir)} does not exist; train a run first with: {train_command()}"
        )
    folders = [folder for folder in output_dir.iterdir() if _is_run(folder)]
    return [read_run(folder) for folder in sorted(folders, key=lambda f: natural_order(f.name))]


def find_run(name: Path, output_dir: Path) -> PastRun:
    """Return a run, given as a path or as the name of a folder in `output_dir`.

    Raises:
        HandcnnError: there is none, or it cannot be read.
    """
    for folder in (name, output_dir / name):
        if _is_run(folder):
            run = read_run(folder)
            if run.fault:
                raise HandcnnError(run.fault)
            return run
    raise HandcnnError(f"{one_line(name)} is not a run, here or in {one_line(output_dir)}")


def _is_run(folder: Path) -> bool:
    """Return whether a folder is that of a run, by its name or its files."""
    try:
        files = (folder / name for name in (runs.RECORD, runs.HISTORY, runs.CHECKPOINT))
        is_named = runs.STARTED.match(folder.name) is not None
        return folder.is_dir() and (is_named or any(file.is_file() for file in files))
    except OSError:  # no permission to look into it
        return False


def read_run(folder: Path) -> PastRun:
    """Return what the files of a run say; if they cannot be used, it is unreadable."""
    running = RUNNING if runs.is_locked(folder) else ""
    try:
        history = runs.read_history(folder) if (folder / runs.HISTORY).exists() else []
        if not (folder / runs.RECORD).exists() and (running or (folder / runs.CHECKPOINT).exists()):
            return PastRun(folder, running or INTERRUPTED, history=history)  # stopped at once
        record = runs.read_record(folder)
        options, data = record.get("options"), record.get("data")
        if not isinstance(options, dict) or not isinstance(data, dict):
            raise ValueError("it holds no options or no data")
        test = runs.tested_accuracy(folder, len(history))
        state = running or (INTERRUPTED if test is None else FINISHED)
        name = one_line(data.get("dataset", ""))
        sizes = data.get("sizes")
        images = sizes.get("train") if isinstance(sizes, dict) else None
        if type(images) is not int or images < 1:
            images = USUAL_IMAGES
        return PastRun(folder, state, saved_options(options), name, images, history, test)
    except (OSError, ValueError) as error:  # HandcnnError is a ValueError
        fault = str(error)
        if not isinstance(error, HandcnnError):
            fault = f"{one_line(folder / runs.RECORD)} cannot be used: {one_line(error)}"
        return PastRun(folder, running or UNREADABLE, fault=fault)


def common(compared: Sequence[PastRun]) -> str:
    """Return the network and the data of these runs, where all have the same."""
    values = [{_facts(run)[name] for run in compared} for name in ("network", "dataset")]
    return ", ".join(one.pop() for one in values if len(one) == 1)


def labels(compared: Sequence[PastRun]) -> list[str]:
    """Return what tells each run from the others; add its name if another has the same label.

    Of different networks, only those options count that differ from their own recipes.
    """
    facts = [_facts(run) for run in compared]
    if len({one["network"] for one in facts}) > 1:
        facts = [
            {"network": one["network"], "dataset": one["dataset"]} | run.changes
            for one, run in zip(facts, compared, strict=True)
        ]
    names = dict.fromkeys(name for one in facts for name in one)
    differing = [name for name in names if len({one.get(name) for one in facts}) > 1]
    found = [
        ", ".join(_said(name, one[name]) for name in differing if name in one) for one in facts
    ]
    return [
        label if label and found.count(label) == 1 else ", ".join(filter(None, [label, name]))
        for label, name in zip(found, (one_line(run.folder.name) for run in compared), strict=True)
    ]


def _facts(run: PastRun) -> dict[str, Any]:
    options = {"network": ""} if run.options is None else asdict(run.options)
    return options | {"dataset": run.data, "threads": None}


def _said(name: str, value: object) -> str:
    if name in ("network", "dataset"):
        return str(value)
    return f"no {flag(name)}" if value is None or value is False else typed(name, value)
