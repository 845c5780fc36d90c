"""Train the documented network on MNIST, by hand-derived gradients alone.

    python train.py                            the full training, results in outputs/
    python train.py --epochs 3                 a short one
    python train.py --limit 5000 --epochs 2    on 5,000 images, a matter of seconds
    python train.py --resume latest            go on where the last run was stopped
    python train.py --target-accuracy 97       exit code 1 below 97 % on the test set

Every run makes a folder of its own, outputs/<date-time>-<dataset>/, with the best weights, a
checkpoint after every epoch, the history and five pictures. Ctrl-C loses nothing.
"""

import argparse
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from data import TRAINING_IMAGES, Batches, Dataset, Split, load_dataset
from handcnn import HandcnnError, Network, __version__, cli, documented_network, runs
from handcnn.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from handcnn.layers import Array, ParameterLayer
from handcnn.stopping import Stopped, StopRequests
from handcnn.training import Batch, Score, confusion_matrix, evaluate, train_epoch

DEFAULTS: dict[str, Any] = {
    "epochs": 20,
    "batch_size": 64,
    "learning_rate": 0.001,
    "seed": 0,
    "dataset": "auto",
    "limit": None,
    "threads": 1,
}
# Resuming with another value of these would not continue the run but make up a new past for it.
FIXED = ("batch_size", "seed", "dataset", "limit")
EVALUATION_BATCH = 500
TITLES = {"mnist": "MNIST", "digits": "scikit-learn digits (NOT MNIST)"}


@dataclass
class Run:
    """A training run: its folder, its data, and its state, which is all that is on disk."""

    folder: Path
    dataset: Dataset
    state: Checkpoint

    @property
    def epochs_left(self) -> int:
        """How many epochs are still to be trained."""
        return int(self.state.options["epochs"]) - len(self.state.history)

    @property
    def best_row(self) -> dict[str, float]:
        """The epoch that was best on validation; between equals, the one with the lower loss."""
        return max(self.state.history, key=lambda row: (row["val_accuracy"], -row["val_loss"]))


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    given = parse_options(arguments)
    return cli.run("train.py", lambda: train(given))


# Options -----------------------------------------------------------------------------------------


def parse_options(arguments: list[str] | None) -> dict[str, Any]:
    """Return the options that were given; those that were not are absent."""
    count = cli.whole_number(1, 1_000_000)
    parser = cli.Parser(prog="train.py", description=__doc__, argument_default=argparse.SUPPRESS)

    def option(name: str, text: str, **kwargs: Any) -> None:
        default = DEFAULTS.get(name.lstrip("-").replace("-", "_"))
        parser.add_argument(
            name, help=f"{text} (default: {default})" if default else text, **kwargs
        )

    option("--epochs", "passes over the training images", type=count, metavar="N")
    option("--batch-size", "images in a step", type=count, metavar="N")
    option("--learning-rate", "step size", type=cli.number(0, 1000), metavar="R")
    option("--seed", "of weights and shuffling", type=cli.whole_number(0, 2**32 - 1), metavar="N")
    option("--limit", "use only N training images", type=count, metavar="N")
    option(
        "--dataset",
        "auto takes MNIST, or the digits of scikit-learn where MNIST cannot be had",
        choices=("auto", "mnist", "digits"),
    )
    option("--data-home", "scikit-learn's folder for downloads", type=cli.folder, metavar="FOLDER")
    option(
        "--output-dir", "where runs are kept (default: outputs)", type=cli.folder, metavar="FOLDER"
    )
    option("--name", "added to the name of the run's folder", type=cli.name)
    option(
        "--resume",
        "go on with the run in this folder, or with 'latest'",
        type=cli.folder,
        metavar="RUN",
    )
    option("--threads", "threads for matrix products", type=cli.whole_number(1, 256), metavar="N")
    option("--quiet", "print only warnings and the result", action="store_true")
    option(
        "--target-accuracy",
        "exit code 1 below P per cent on the test set",
        type=cli.number(0, 100),
        metavar="P",
    )
    given = vars(parser.parse_args(arguments))
    if "resume" in given and "name" in given:
        parser.error(f"--name {given['name']} cannot be given with --resume: the run has its name")
    largest = TRAINING_IMAGES.get(given.get("dataset", ""), max(TRAINING_IMAGES.values()))
    if given.get("limit", 0) > largest:
        parser.error(f"--limit: {given['limit']:,} is more than the {largest:,} training images")
    return given


def train(given: dict[str, Any]) -> int:
    """Train as the options say, write the results, return the exit code."""
    if "resume" in given:
        folder = runs.find(given["resume"], given.get("output_dir", runs.OUTPUTS))
        with runs.locked(folder):
            return train_run(resume_run(folder, given), given)
    options = DEFAULTS | {name: given[name] for name in DEFAULTS if name in given}
    dataset = load(options, given)
    folder = runs.create_run_folder(
        given.get("output_dir", runs.OUTPUTS), dataset.name, given.get("name"), datetime.now()
    )
    with runs.locked(folder):
        return train_run(start_run(folder, dataset, options), given)


def train_run(run: Run, given: dict[str, Any]) -> int:
    """Train the epochs that are left, write the results, return the exit code."""
    from threadpoolctl import threadpool_limits

    if run.epochs_left <= 0 and runs.is_finished(run.folder):
        done = len(run.state.history)
        print(f"{run.folder} is finished after {done} epochs; --epochs N with N > {done} goes on")
        return 0
    screen = Screen(quiet="quiet" in given)
    introduce(run, screen)
    with threadpool_limits(run.state.options["threads"], "blas"):
        try:
            with StopRequests() as stop:
                while run.epochs_left > 0:
                    run_epoch(run, stop, screen)
        except Stopped as stopped:
            print(f"stopped, nothing is lost; go on with: python train.py --resume {run.folder}")
            return stopped.exit_code
        accuracy = 100 * finish(run, screen).accuracy
    target = given.get("target_accuracy", 0)
    if accuracy < target:
        raise HandcnnError(f"test accuracy {accuracy:.2f} % is below the target of {target:g} %")
    return 0


class Screen:
    """What the user sees on the way: lines, and on a terminal or in a notebook a bar."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.shows_bars = not quiet and (sys.stderr.isatty() or "ipykernel" in sys.modules)

    def say(self, line: str) -> None:
        """Print a line, unless everything but warnings and the result is unwanted."""
        if not self.quiet:
            print(line, flush=True)

    @contextmanager
    def bar(
        self, batches: Iterable[Batch], title: str
    ) -> Iterator[tuple[Iterable[Batch], Callable[[Score], None]]]:
        """Yield the batches, shown as a bar where one can be shown, and a way to show a score."""
        if not self.shows_bars:
            yield batches, lambda score: None
            return
        from tqdm.auto import tqdm

        with tqdm(batches, title, unit="batch", leave=False) as bar:

            def show(score: Score) -> None:
                text = f"loss {score.loss:.4f}, accuracy {100 * score.accuracy:.2f} %"
                bar.set_postfix_str(text, refresh=False)

            yield bar, show


# Starting and resuming ---------------------------------------------------------------------------


def start_run(folder: Path, dataset: Dataset, options: dict[str, Any]) -> Run:
    """Make the network and save the state before the first epoch; a failure leaves no folder."""
    # What `auto` turned out to be is what resuming asks for.
    options = options | {"dataset": dataset.name}
    rng = np.random.default_rng(options["seed"])
    net = documented_network(options["learning_rate"], rng=rng)
    run = Run(folder, dataset, Checkpoint(net, copies(net.parameters()), rng, [], options))
    try:
        save_checkpoint(folder / runs.CHECKPOINT, run.state)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return run


def resume_run(folder: Path, given: dict[str, Any]) -> Run:
    """Read a run's last checkpoint, with those options changed that may change.

    Raises:
        HandcnnError: the checkpoint is damaged, an option would change the past, or the data of
            the run are not to be had.
    """
    state = load_checkpoint(folder / runs.CHECKPOINT)
    for name in FIXED:
        if name in given and given[name] != state.options[name]:
            raise HandcnnError(
                f"{folder} was trained with {_flag(name)} {state.options[name]}, which cannot "
                f"become {given[name]} on resuming; leave the option out or start a new run"
            )
    state.options |= {name: given[name] for name in DEFAULTS if name in given}
    for layer in state.net.layers:
        if isinstance(layer, ParameterLayer):
            layer.learning_rate = state.options["learning_rate"]
    run = Run(folder, load(state.options, given), state)
    if state.history:
        save_best(run)  # a stop between two writes may have left those of an epoch not recorded
    return run


def load(options: dict[str, Any], given: dict[str, Any]) -> Dataset:
    """Load the data that `options` ask for."""
    return load_dataset(
        options["dataset"],
        data_home=given.get("data_home"),
        seed=options["seed"],
        limit=options["limit"],
        say=_warn,
    )


def introduce(run: Run, screen: Screen) -> None:
    """Say what is going to happen, and record it in the run's folder."""
    sizes = [f"{size:,} {part}" for part, size in run.dataset.record["sizes"].items()]
    settings = [f"{_flag(name)} {value}" for name, value in run.state.options.items()]
    screen.say(f"data     {TITLES[run.dataset.name]}: {', '.join(sizes)} images")
    screen.say(f"options  {' '.join(settings)}")
    screen.say(f"folder   {run.folder}\n")
    screen.say(f"{run.state.net}\n")
    screen.say("   epoch  train loss  train acc    val loss    val acc  seconds  images/s")
    runs.write_record(run.folder, record(run))


# Training ----------------------------------------------------------------------------------------


def run_epoch(run: Run, stop: StopRequests, screen: Screen) -> None:
    """Train one epoch, validate, and have it all on disk before anything else happens."""
    state, options = run.state, run.state.options
    epoch = len(state.history) + 1
    batches = make_batches(run, run.dataset.train, options["batch_size"], state.rng)
    with screen.bar(batches, f"epoch {epoch}/{options['epochs']}") as (shown_batches, show):

        def after_step(score: Score) -> None:
            show(score)
            stop.check()

        start = time.perf_counter()
        try:
            training = train_epoch(state.net, shown_batches, after_step)
        except HandcnnError as error:
            raise HandcnnError(
                f"epoch {epoch}: {error}; {run.folder} keeps the state after epoch {epoch - 1}, "
                f"go on with: python train.py --resume {run.folder} "
                f"--learning-rate {options['learning_rate'] / 10:g}"
            ) from error
        seconds = time.perf_counter() - start
    validation, _ = evaluate(state.net, make_batches(run, run.dataset.validation))
    row = {
        "epoch": epoch,
        "learning_rate": options["learning_rate"],
        "loss": training.loss,
        "accuracy": training.accuracy,
        "val_loss": validation.loss,
        "val_accuracy": validation.accuracy,
        "seconds": round(seconds, 2),
        "images_per_second": round(len(run.dataset.train.labels) / seconds),
    }
    state.history.append(row)
    keep(run)
    screen.say(epoch_line(row, options["epochs"]) + ("  best" if run.best_row is row else ""))


def make_batches(
    run: Run, split: Split, size: int = EVALUATION_BATCH, rng: np.random.Generator | None = None
) -> Batches:
    """Return the batches of one part of the run's data, shuffled if `rng` is given."""
    return Batches(*split, size, rng, classes=run.dataset.record["classes"])


def keep(run: Run) -> None:
    """Write weights (if they are the best so far), checkpoint and history."""
    state = run.state
    if run.best_row is state.history[-1]:
        state.best = copies(state.net.parameters())
        save_best(run)
    save_checkpoint(run.folder / runs.CHECKPOINT, state)
    runs.write_history(run.folder, state.history)


def save_best(run: Run) -> None:
    """Write `weights.npz`: the best parameters, with what they were trained on and how they did."""
    row = run.best_row
    run.state.net.with_parameters(run.state.best).save(
        run.folder / runs.WEIGHTS,
        dataset=run.dataset.name,
        epoch=row["epoch"],
        val_loss=row["val_loss"],
        val_accuracy=row["val_accuracy"],
    )


def copies(arrays: dict[str, Array]) -> dict[str, Array]:
    """Return the arrays as they are now, whatever happens to them later."""
    return {name: array.copy() for name, array in arrays.items()}


def epoch_line(row: dict[str, float], epochs: int) -> str:
    """Return one line of fixed width for one epoch."""
    return (
        f"{row['epoch']:4.0f}/{epochs:<4} {row['loss']:9.4f}  {100 * row['accuracy']:7.2f} %"
        f"  {row['val_loss']:10.4f}  {100 * row['val_accuracy']:7.2f} %"
        f"  {row['seconds']:7.2f}  {row['images_per_second']:8,.0f}"
    )


# Results -----------------------------------------------------------------------------------------


def finish(run: Run, screen: Screen) -> Score:
    """Read the test set, for the first and only time, with the best weights; draw and record."""
    net = run.state.net.with_parameters(run.state.best)
    test = run.dataset.test
    score, probabilities = evaluate(net, make_batches(run, test))
    draw(run, net, score, probabilities)
    runs.write_record(run.folder, record(run, score))

    row, count = run.best_row, len(test.labels)
    print(f"\nbest epoch {row['epoch']}: {100 * row['val_accuracy']:.2f} % on validation")
    print(
        f"test loss {score.loss:.4f}, test accuracy {100 * score.accuracy:.2f} % "
        f"({round(score.accuracy * count):,} of {count:,} images), {TITLES[run.dataset.name]}"
    )
    screen.say("\nwritten:")
    for path in sorted(run.folder.glob("[!.]*")):
        screen.say(f"  {path}")
    screen.say(
        f"\nread digits: python predict.py --weights {run.folder / runs.WEIGHTS} picture.png"
    )
    return score


def draw(run: Run, net: Network, score: Score, probabilities: Array) -> None:
    """Write the five pictures."""
    from handcnn import plots

    folder, history, title = run.folder, run.state.history, TITLES[run.dataset.name]
    images, labels = run.dataset.test
    counts = confusion_matrix(labels, probabilities.argmax(axis=1), probabilities.shape[1])
    plots.plot_accuracy(folder / "accuracy.png", history, title, score.accuracy)
    plots.plot_loss(folder / "loss.png", history, title, score.loss)
    plots.plot_confusion_matrix(folder / "confusion_matrix.png", counts, title)
    plots.plot_mistakes(folder / "mistakes.png", images, labels, probabilities, title)
    plots.plot_filters(folder / "filters.png", net, images[0], title)


def record(run: Run, test: Score | None = None) -> dict[str, Any]:
    """Return all there is to know about the run beside its history; `test` is there at the end."""
    from threadpoolctl import threadpool_info

    packages = ("numpy", "scikit-learn", "matplotlib")
    result = {
        "options": run.state.options,
        "data": run.dataset.record,
        "architecture": run.state.net.architecture()["layers"],
        "parameters": sum(array.size for array in run.state.net.parameters().values()),
        "versions": {"handcnn": __version__, "python": platform.python_version()}
        | {name: version(name) for name in packages},
        "machine": platform.platform(),
        "blas": [
            {name: pool[name] for name in ("internal_api", "version", "architecture")}
            for pool in threadpool_info()
            if pool["user_api"] == "blas"
        ],
    }
    if test is not None:
        result["best_epoch"] = run.best_row["epoch"]
        result["test"] = test._asdict()
    return result


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _warn(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
