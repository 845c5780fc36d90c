"""One run in training: its folder, data and options, and its state after the last epoch.

After every epoch the whole state is saved, so a crash costs at most one epoch. A training of few
images has hundreds of epochs of a few steps; there, it costs at most 1 % of them.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from app.console import Console, epoch_line, plural
from app.evaluation import EVALUATION_BATCH
from app.interrupts import Interrupts
from app.options import Options, Request
from app.starting import read_start, start_record, started
from data import Dataset, load_dataset
from data.mixing import mixed
from handcnn.augmentation import fitting
from handcnn.commands.command_line import describe
from handcnn.commands.hints import resume_command
from handcnn.errors import HandcnnError
from handcnn.kernels.threads import use_threads
from handcnn.models import NETWORKS, Recipe
from handcnn.storage import runs
from handcnn.storage.checkpoints import Checkpoint, save_checkpoint
from handcnn.text import one_line
from handcnn.training import DivergedError, Epoch, Step, best_epoch, copies, evaluate, train

STEPS_PER_SAVE = 20  # in a training of few images with a hundred epochs or more


@dataclass(frozen=True)
class Session:
    """A run in training.

    Attributes:
        folder: its folder.
        dataset: its data.
        options: its options.
        state: what its checkpoint holds.
        start: the weights that it started from, as `start_record` describes them; None if random.
    """

    folder: Path
    dataset: Dataset
    options: Options
    state: Checkpoint
    start: Mapping[str, Any] | None

    @classmethod
    def open(
        cls,
        folder: Path,
        dataset: Dataset,
        options: Options,
        state: Checkpoint,
        start: Mapping[str, Any] | None,
    ) -> Self:
        """Return a session that continues from `state`, which will be saved with these options."""
        # Save what was found in place of "auto" and None, so that resuming loads the same data.
        augment = fitting(options.augment, dataset.class_names)
        options = replace(
            options, dataset=dataset.address, prepare=dataset.prepared, augment=augment
        )
        state.options = asdict(options) | {"sha256": dataset.record["sha256"], "start": start}
        return cls(folder, dataset, options, state, start)

    @property
    def is_over(self) -> bool:
        """Whether no epoch is left to train, or none was better for as long as the patience is.

        It depends on the history alone, so a resumed training stops at the same epoch.
        """
        done, patience = len(self.state.history), self.options.patience
        is_stuck = patience is not None and done and done - self.best_row["epoch"] >= patience
        return bool(is_stuck) or done >= self.options.epochs

    @property
    def steps(self) -> int:
        """The number of steps in an epoch."""
        return self.options.recipe.steps(self.dataset.record["sizes"]["train"])

    @property
    def epochs_per_save(self) -> int:
        """After how many epochs the state is saved and a line printed: 1, unless epochs are short.

        Twenty steps of few images take less time than saving, and then 1 % of a training is all
        that a crash can cost.
        """
        return max(1, min(STEPS_PER_SAVE // self.steps, self.options.epochs // 100))

    @property
    def best_row(self) -> Mapping[str, float]:
        """The history row of the epoch whose weights are saved."""
        return best_epoch(self.state.history)

    @contextmanager
    def protected(self, interrupts: Interrupts) -> Iterator[None]:
        """Save, then run the body with the run's threads; explain failures and how to resume."""
        interrupts.check()
        interrupts.folder = self.folder
        # Overflow needs no warning: the loss is checked for it.
        with self._explained_failures(interrupts), np.errstate(all="ignore"):
            self.save()
            with use_threads(self.options.threads):
                yield

    @contextmanager
    def _explained_failures(self, interrupts: Interrupts) -> Iterator[None]:
        go_on = f"resume with: {resume_command(self.folder)}"
        try:
            yield
        except MemoryError:
            raise HandcnnError(
                f"out of memory; close other programs and {go_on}, or start a new run with a "
                f"--batch-size below {self.options.batch_size}"
            ) from None
        except OSError as error:
            interrupts.check()  # Ctrl-C also ends a program that reads our output through a pipe
            if not self.folder.is_dir():
                raise HandcnnError(
                    f"{one_line(self.folder)} is no longer there: it was moved or deleted; "
                    "resume it where it is now, or start a new run"
                ) from error
            has_begun = (self.folder / runs.CHECKPOINT).is_file()
            saved = f"; what was saved before is intact; {go_on}" if has_begun else ""
            raise HandcnnError(describe(error) + saved) from error

    def train(
        self,
        interrupts: Interrupts,
        console: Console,
        listen: Callable[[Step], None] = lambda step: None,
    ) -> None:
        """Train the remaining epochs, and save each one, or a few, before the next begins.

        `listen` is called after every step, and may wait; it must not change anything.

        Raises:
            HandcnnError: the loss or a parameter is no longer finite.
            Stopped: a signal arrived; an unfinished epoch is lost.
        """
        options, state = self.options, self.state
        batches = self.dataset.batches("train", options.batch_size, state.rng)
        saved = len(state.history)  # epochs
        steps: list[tuple[float, float]] = []  # of the current epoch
        if self.is_over:
            return
        training = train(state.net, batches, options.recipe, state.rng, saved)
        try:
            with console.progress(options.epochs) as show:
                for event in training:
                    if isinstance(event, Step):
                        show(event)
                        steps.append((event.loss, event.correct / len(event.x)))
                        listen(event)
                    else:
                        row = self._validate(event)
                        state.steps = np.concatenate([state.steps, np.array(steps, np.float32)])
                        steps.clear()
                        if event.number == saved + self.epochs_per_save or self.is_over:
                            self.save()
                            is_best = self.best_row["epoch"] > saved
                            console.print(epoch_line(row, options.epochs, is_best))
                            saved = event.number
                    interrupts.check()
                    if isinstance(event, Epoch) and self.is_over:
                        break
        except DivergedError as error:
            raise HandcnnError(
                f"epoch {len(state.history) + 1}: {error}; {one_line(self.folder)} holds the state "
                f"after epoch {saved}; resume with: {resume_command(self.folder)} "
                f"--learning-rate {options.learning_rate / 10:g}"
            ) from error
        if saved < options.epochs:
            patience = plural(options.patience or 0, "epoch")
            console.print(f"stopped early: {patience} in a row without a better one")

    def _validate(self, epoch: Epoch) -> dict[str, float]:
        """Validate an epoch that was just trained, and return its row of the history."""
        batches = self.dataset.batches("validation", EVALUATION_BATCH)
        validation, _ = evaluate(self.state.net, batches)
        if not math.isfinite(validation.loss):
            raise DivergedError(
                "the validation loss is not finite after the last step, most likely because the "
                "learning rate is too large; try a tenth of it"
            )
        row = {
            "epoch": epoch.number,
            "learning_rate": epoch.learning_rate,
            "loss": epoch.metrics.loss,
            "accuracy": epoch.metrics.accuracy,
            "val_loss": validation.loss,
            "val_accuracy": validation.accuracy,
            "seconds": round(epoch.seconds, 2),
            "images_per_second": round(self.dataset.record["sizes"]["train"] / epoch.seconds),
        }
        self.state.history.append(row)
        if self.best_row is row:
            self.state.best = copies(self.state.net.parameters())
        return row

    def save(self) -> None:
        """Write weights, checkpoint, history and losses.

        If the program is killed between two of these, the weights are newer than the checkpoint, or
        the tables are older. Resuming saves first, which makes all of them agree again.
        """
        folder, state = self.folder, self.state
        if state.history:
            row = self.best_row
            state.net.with_parameters(state.best).save(
                folder / runs.WEIGHTS,
                dataset=self.dataset.name,
                classes=self.dataset.class_names,
                preparation=self.dataset.preparation.name,
                background=self.dataset.preparation.background,
                epoch=row["epoch"],
                val_loss=row["val_loss"],
                val_accuracy=row["val_accuracy"],
            )
        save_checkpoint(folder / runs.CHECKPOINT, state)
        runs.write_history(folder, state.history)
        runs.write_losses(folder, state.steps, self.steps, len(state.history))


@contextmanager
def new_session(request: Request) -> Iterator[Session]:
    """Load the data, build the network, make a folder for the run; yield its session."""
    saved = start = None
    if request.options.start_from is not None:
        saved, network = read_start(request.options.start_from, request.given.get("network"))
        request = replace(request, options=replace(request.options, network=network))
    dataset = load_data(request.options, request.data_home)
    options = replace(request.options, **asdict(recipe_of(request, dataset)))
    rng = np.random.default_rng(options.seed)
    classes = len(dataset.class_names)
    net = NETWORKS[options.network](options.learning_rate, classes=classes, rng=rng)
    if saved is not None:
        net = started(net, saved, dataset.class_names)
        start = start_record(net, saved, dataset, options.threads)
    with runs.new_run(request.outputs, dataset.name, request.name) as folder:
        state = Checkpoint(net, copies(net.parameters()), rng, [], {})
        yield Session.open(folder, dataset, options, state, start)


def recipe_of(request: Request, dataset: Dataset) -> Recipe:
    """Return the recipe of a new run: that of its network for these images, with what was given."""
    recipe, least = request.options.usual_recipe(dataset.prepared)
    names = {entry.name for entry in fields(Recipe)} & request.given.keys()
    recipe = replace(recipe, **{name: request.given[name] for name in names})
    if "epochs" in names:
        return recipe
    return recipe.for_images(dataset.record["sizes"]["train"], least)


def load_data(options: Options, data_home: Path | None) -> Dataset:
    """Return the data set of a run."""
    dataset = load_dataset(
        options.dataset,
        data_home=data_home,
        seed=options.seed,
        limit=options.limit,
        invert=options.invert,
        transpose=options.transpose,
        prepare=options.prepare,
        skip_unreadable=options.skip_unreadable,
    )
    if options.also is None:
        return dataset
    other = load_dataset(options.also, data_home=data_home, prepare=dataset.prepared)
    return mixed(dataset, other, np.random.default_rng(options.seed))
