"""Resume a run from its checkpoint, after checking the file and the options."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from app.console import plural
from app.options import Options, Request, flag, saved_options
from app.session import Session, load_data
from app.starting import checked_start
from data import TRAINING_IMAGES, Dataset
from handcnn.commands.hints import train_command
from handcnn.errors import HandcnnError
from handcnn.models import network_name
from handcnn.storage import runs
from handcnn.storage.checkpoints import Checkpoint, load_checkpoint
from handcnn.text import one_line

MAX_LOSS = 35  # -log 1e-15, rounded up: `loss_function` clips there


@contextmanager
def resumed_session(run: Path | str, request: Request) -> Iterator[Session]:
    """Find an earlier run, lock it, and yield a session that continues from its checkpoint.

    Args:
        run: its folder, or `runs.LATEST`.
        request: the command line.

    Raises:
        HandcnnError: there is no such run, or it cannot be resumed with these options.
    """
    folder = runs.find(run, request.outputs, f"train one first with: {train_command()}")
    with runs.locked(folder):
        options, state = read_run(folder)
        options = changed_options(folder, options, len(state.history), request.given)
        _check_place(folder, options.dataset)
        dataset = load_data(options, request.data_home)
        _check_data(folder, dataset, state)
        state.net.set_learning_rate(options.learning_rate)
        session = Session.open(folder, dataset, options, state, state.options["start"])
        missing = len(state.history) * session.steps - len(state.steps)
        if missing < 0 or missing % session.steps:
            raise HandcnnError(
                f"{one_line(folder / runs.CHECKPOINT)} cannot be used: its steps are not those of "
                "its epochs"
            )
        yield session


def read_run(folder: Path) -> tuple[Options, Checkpoint]:
    """Return the options and the state in the checkpoint of `folder`.

    Raises:
        HandcnnError: the checkpoint is damaged, or train.py cannot have written it.
    """
    path = folder / runs.CHECKPOINT
    state = load_checkpoint(path)
    try:
        saved = dict(state.options)
        if saved.pop("sha256", None) is None:
            raise ValueError("its options are not those of train.py")
        state.options["start"] = checked_start(saved.pop("start", None))
        options = saved_options(saved)
        if network_name(state.net) != options.network:
            raise ValueError("it does not hold the network that train.py trains")
        if len(state.history) > options.epochs or not all(map(_is_plausible, state.history)):
            raise ValueError("its history is impossible")
        if state.steps.min(initial=0) < 0 or state.steps.max(initial=0) > MAX_LOSS:
            raise ValueError("the losses of its steps are impossible")
    except ValueError as error:
        raise HandcnnError(f"{one_line(path)} cannot be used: {error}") from None
    return options, state


def _is_plausible(row: dict[str, float]) -> bool:
    return (
        max(row["loss"], row["val_loss"]) <= MAX_LOSS
        and max(row["accuracy"], row["val_accuracy"]) <= 1
        and min(row.values()) >= 0
    )


def changed_options(
    folder: Path, options: Options, epochs_done: int, given: Mapping[str, Any]
) -> Options:
    """Return the options of a run, changed by those given on the command line.

    Raises:
        HandcnnError: a change contradicts the epochs already trained.
    """
    if given.get("dataset") == "auto":  # auto means the data set of the run
        given = {name: value for name, value in given.items() if name != "dataset"}
    for entry in fields(Options):
        past, new = getattr(options, entry.name), given.get(entry.name)
        has_moved = entry.metadata["is_path"] and _is_path(past) and _is_path(new)
        if entry.metadata["fixed"] and new not in (None, past) and not has_moved:
            option = flag(entry.name)
            was = f"without {option}" if past in (None, False) else f"with {option} {past}"
            change = "which cannot change" + ("" if new is True else f" to {new}")
            raise HandcnnError(
                f"{one_line(folder)} was trained {was}, {change} on resuming; "
                "omit the option or start a new run"
            )
    changed = replace(options, **given)
    if changed.epochs != options.epochs and options.schedule != "constant":
        raise HandcnnError(
            f"{one_line(folder)} was trained with --schedule {options.schedule} for --epochs "
            f"{options.epochs}; another number of epochs would have changed the learning rates "
            "from the start; omit the option or start a new run"
        )
    if changed.epochs < epochs_done:
        raise HandcnnError(
            f"{one_line(folder)} has already trained {plural(epochs_done, 'epoch')}, more than "
            f"--epochs {changed.epochs}; omit the option or start a new run"
        )
    return changed


def _is_path(dataset: str | None) -> bool:
    return dataset is not None and dataset not in ("auto", *TRAINING_IMAGES)


def _check_place(folder: Path, dataset: str) -> None:
    """Raise a HandcnnError if the user's images are no longer where they were."""
    if _is_path(dataset) and not Path(dataset).exists():
        raise HandcnnError(
            f"{one_line(folder)} was trained on {one_line(dataset)}, which does not exist; if the "
            "images have moved, add --dataset with their new path"
        )


def _check_data(folder: Path, dataset: Dataset, state: Checkpoint) -> None:
    """Raise a HandcnnError if the data are not those that the run was trained on."""
    if dataset.record["sha256"] != state.options["sha256"]:
        raise HandcnnError(
            f"{one_line(folder)} was trained on other {one_line(dataset.address)} data than those "
            "there now (their SHA-256 differ); restore the old data or start a new run"
        )
    image, classes = dataset.test[0][0], len(dataset.class_names)
    if (state.net.input_shape, state.net.output_shapes()[-1]) != ((1, *image.shape), (classes,)):
        raise HandcnnError(
            f"{one_line(folder / runs.CHECKPOINT)} cannot be used: its network does not fit the "
            f"data, images of shape {image.shape} in {classes} classes"
        )
