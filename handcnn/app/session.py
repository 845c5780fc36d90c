"""One training, from its start or a checkpoint to its last epoch.

After every epoch the whole state is saved, so a crash costs at most one epoch.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from handcnn.app import command_line as cli
from handcnn.app.commands import resume_command
from handcnn.app.console import Console, epoch_line
from handcnn.app.interrupts import Interrupts
from handcnn.app.options import Options
from handcnn.augmentation import AUGMENTATIONS
from handcnn.errors import HandcnnError
from handcnn.kernels.threads import use_threads
from handcnn.network import Network
from handcnn.schedule import learning_rates
from handcnn.storage import runs
from handcnn.storage.checkpoints import Checkpoint, save_checkpoint
from handcnn.text import one_line
from handcnn.training import (
    Batch,
    Metrics,
    WeightAverage,
    best_epoch,
    copies,
    evaluate,
    train_epoch,
)
from handcnn.types import UInt8

EVALUATION_BATCH = 1000


class Dataset(Protocol):
    """The data of a training, as `data.Dataset` provides them."""

    @property
    def name(self) -> str:
        """The short name, for folders."""

    @property
    def title(self) -> str:
        """The name in messages and plots."""

    @property
    def address(self) -> str:
        """The value of `--dataset` that loads the same data again."""

    @property
    def class_names(self) -> list[str]:
        """The name of each class."""

    @property
    def record(self) -> dict[str, Any]:
        """The source, the sizes and the SHA-256 of the data, as JSON values."""

    @property
    def test(self) -> tuple[UInt8, UInt8]:
        """The test images (N, H, W) and labels (N,)."""

    def batches(
        self,
        part: Literal["train", "validation", "test"],
        size: int,
        rng: np.random.Generator | None = None,
    ) -> Iterable[Batch]:
        """Return one part in batches, shuffled if `rng` is given."""


@dataclass(frozen=True)
class Session:
    """A run in training: its folder, data, options, and the state saved in its checkpoint."""

    folder: Path
    dataset: Dataset
    options: Options
    state: Checkpoint

    @property
    def epochs_left(self) -> int:
        """The number of epochs still to train."""
        return self.options.epochs - len(self.state.history)

    @property
    def trained(self) -> Network:
        """The network to validate and save, with averaged weights if there is an average."""
        net, average = self.state.net, self.state.average
        return net.with_parameters(average) if average else net

    @property
    def best_row(self) -> Mapping[str, float]:
        """The history row of the epoch whose weights are saved."""
        return best_epoch(self.state.history)


def new_session(
    folder: Path, dataset: Dataset, options: Options, net: Network, rng: np.random.Generator
) -> Session:
    """Return a session before its first epoch. `rng` shuffles and augments the images."""
    average = copies(net.parameters()) if options.average else {}
    state = Checkpoint(net, copies(net.parameters()), rng, [], {}, average)
    return open_session(folder, dataset, options, state)


def open_session(folder: Path, dataset: Dataset, options: Options, state: Checkpoint) -> Session:
    """Return a session that continues from `state`, which will be saved with these options."""
    # Save the data set that "auto" has found, so that resuming loads the same one.
    options = replace(options, dataset=dataset.address)
    state.options = asdict(options) | {"sha256": dataset.record["sha256"]}
    return Session(folder, dataset, options, state)


@contextmanager
def working(session: Session, interrupts: Interrupts) -> Iterator[None]:
    """Save the session, then run the body with its threads; explain failures and how to resume."""
    interrupts.check()
    interrupts.folder = session.folder
    # Overflow needs no warning: the loss is checked for it.
    with _explained_failures(session, interrupts), np.errstate(all="ignore"):
        save(session)
        with use_threads(session.options.threads):
            yield


@contextmanager
def _explained_failures(session: Session, interrupts: Interrupts) -> Iterator[None]:
    go_on = f"resume with: {resume_command(session.folder)}"
    try:
        yield
    except MemoryError:
        raise HandcnnError(
            f"out of memory; close other programs and {go_on}, or start a new run with a "
            f"--batch-size below {session.options.batch_size}"
        ) from None
    except OSError as error:
        interrupts.check()  # Ctrl-C also ends a program that reads our output through a pipe
        if not session.folder.is_dir():
            raise HandcnnError(
                f"{one_line(session.folder)} has disappeared, with everything saved in it; "
                "start a new run"
            ) from error
        has_begun = (session.folder / runs.CHECKPOINT).is_file()
        saved = f"; what was saved before is intact; {go_on}" if has_begun else ""
        raise HandcnnError(cli.describe(error) + saved) from error


def train_epochs(session: Session, interrupts: Interrupts, console: Console) -> None:
    """Train the remaining epochs, and save each one before the next begins."""
    while session.epochs_left > 0:
        row = train_one_epoch(session, interrupts, console)
        session.state.history.append(row)
        is_best = session.best_row is row
        if is_best:
            session.state.best = copies(session.trained.parameters())
        save(session)
        console.print(epoch_line(row, session.options.epochs, is_best))
        interrupts.check()


def train_one_epoch(session: Session, interrupts: Interrupts, console: Console) -> dict[str, float]:
    """Train and validate one epoch; return its history row.

    Raises:
        HandcnnError: the loss or a parameter is no longer finite.
        Stopped: a signal arrived; the epoch is lost.
    """
    net, options, rng = session.state.net, session.options, session.state.rng
    epoch = len(session.state.history) + 1
    batches = session.dataset.batches("train", options.batch_size, rng)
    steps = -(-session.dataset.record["sizes"]["train"] // options.batch_size)
    rates = learning_rates(options.schedule, options.learning_rate, epoch, options.epochs, steps)
    augment = AUGMENTATIONS[options.augment]
    average = WeightAverage(session.state.average, options.average, (epoch - 1) * steps)
    with console.progress(batches, f"epoch {epoch}/{options.epochs}") as (shown_batches, show):

        def after_step(metrics: Metrics) -> None:
            if options.average:
                average.update(net.parameters())
            show(metrics)
            interrupts.check()

        start = time.perf_counter()
        augmented = ((augment(x, rng), y) for x, y in shown_batches)
        try:
            training = train_epoch(net, augmented, after_step, rates)
        except HandcnnError as error:
            raise _diverged(session, str(error)) from error
        seconds = time.perf_counter() - start
    session.state.average = average.arrays
    validation, _ = evaluate(
        session.trained, session.dataset.batches("validation", EVALUATION_BATCH)
    )
    if not math.isfinite(validation.loss):
        cause = "most likely because the learning rate is too large; try a tenth of it"
        raise _diverged(session, f"the validation loss is not finite after the last step, {cause}")
    net.set_learning_rate(options.learning_rate)
    return {
        "epoch": epoch,
        "learning_rate": rates[-1],
        "loss": training.loss,
        "accuracy": training.accuracy,
        "val_loss": validation.loss,
        "val_accuracy": validation.accuracy,
        "seconds": round(seconds, 2),
        "images_per_second": round(session.dataset.record["sizes"]["train"] / seconds),
    }


def _diverged(session: Session, cause: str) -> HandcnnError:
    """Return the error for a failed epoch: the cause, and how to resume."""
    done = len(session.state.history)
    return HandcnnError(
        f"epoch {done + 1}: {cause}; {one_line(session.folder)} holds the state after epoch "
        f"{done}; resume with: {resume_command(session.folder)} "
        f"--learning-rate {session.options.learning_rate / 10:g}"
    )


def save(session: Session) -> None:
    """Write weights, checkpoint and history.

    If the program is killed between two of these, the weights are newer than the checkpoint, or the
    history is older. Resuming saves first, which makes the three agree again.
    """
    folder, state = session.folder, session.state
    if state.history:
        row = session.best_row
        state.net.with_parameters(state.best).save(
            folder / runs.WEIGHTS,
            dataset=session.dataset.name,
            classes=session.dataset.class_names,
            epoch=row["epoch"],
            val_loss=row["val_loss"],
            val_accuracy=row["val_accuracy"],
        )
    save_checkpoint(folder / runs.CHECKPOINT, state)
    runs.write_history(folder, state.history)
