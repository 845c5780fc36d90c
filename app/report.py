"""The report of a run: on the console, in run.json and in five plots."""

import platform
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_info

from app import evaluation
from app.console import HEADING, Console, plural
from app.evaluation import EVALUATION_BATCH, evaluated, explained_drawing, result_line
from app.interrupts import Interrupts
from app.options import Options, typed
from app.session import Session
from handcnn import __version__
from handcnn.commands.hints import predict_command, resume_command
from handcnn.errors import HandcnnError
from handcnn.models import MIN_STEPS, USUAL_IMAGES
from handcnn.network import Network
from handcnn.storage import runs
from handcnn.storage.mistakes import Mistakes, save_mistakes
from handcnn.text import are_digits, escaped, one_line
from handcnn.training import Metrics, confusion_matrix, worst_mistakes
from handcnn.types import Array

if TYPE_CHECKING:
    from handcnn import plots

# Imported late. A training must not run for minutes to find that one is missing.
for library in ("matplotlib", "sklearn", "tqdm"):
    if find_spec(library) is None:
        raise ModuleNotFoundError(f"No module named {library!r}", name=library)

FAR_TOO_FEW_STEPS = MIN_STEPS // 10  # the documented network hardly changes in the first 120
PLOTS = ("accuracy.png", "loss.png", "confusion_matrix.png", "mistakes.png", "filters.png")
PACKAGES = ("numpy", "scikit-learn", "scipy", "matplotlib", "pillow", "threadpoolctl", "tqdm")


def finished_accuracy(session: Session) -> float | None:
    """If the run is finished, say so and return its test accuracy.

    Return None if the training is not over, or if a result file is missing.
    """
    folder, done = session.folder, len(session.state.history)
    accuracy = runs.tested_accuracy(folder, done)
    names = (runs.WEIGHTS, runs.HISTORY, *PLOTS)
    is_complete = all((folder / name).is_file() for name in names)
    if not session.is_over or accuracy is None or not is_complete:
        return None
    options, go_on = session.options, ""
    if done < options.epochs:
        go_on = f"; use --patience N with N > {options.patience} to train further"
    elif options.schedule == "constant":  # other schedules are tied to their number of epochs
        go_on = f"; use --epochs N with N > {done} to train further"
    print(f"{one_line(folder)} is finished after {plural(done, 'epoch')}{go_on}")
    return accuracy


def introduce(session: Session, console: Console) -> None:
    """Print what will be trained, and record it in the run's folder."""
    sizes = [f"{size:,} {part}" for part, size in session.dataset.record["sizes"].items()]
    console.print(f"data     {session.dataset.title}: {', '.join(sizes)} images")
    console.print(f"options  {_typed(session)}")
    if session.start is not None:
        console.print(f"start    {_start(session)}")
    if remark := _few_steps(session):
        print(f"warning  {remark}", flush=True)
    console.print(f"folder   {one_line(session.folder)}\n")
    console.print(f"{session.state.net}\n")
    console.print(HEADING)
    # A resumed run keeps its old results until there are new ones.
    if not (session.folder / runs.RECORD).exists():
        runs.write_record(session.folder, record(session))


def _start(session: Session) -> str:
    """Return the weights that the run started from, and how good they are untouched."""
    start = session.start or {}
    title = one_line(start["title"])
    if start["fresh_output_layer"]:
        return f"{title}\n         of other classes, so the output layer starts fresh"
    accuracy = 100 * start["validation"]["accuracy"]
    return f"{title}\n         untouched {accuracy:.2f} % on validation"


def _typed(session: Session) -> str:
    """Return the options as on a command line, on lines of at most 80 columns."""
    words = [
        typed(name, value).replace(" ", "\0")  # stay on one line
        for name, value in asdict(session.options).items()
        if value is not None and value is not False
    ]
    images = session.dataset.record["sizes"]["train"]
    if images < USUAL_IMAGES:  # an epoch is shorter than people expect
        steps = plural(session.options.epochs * session.steps, "step")
        words[1] += f"\0({plural(images, 'image')}:\0{steps})".replace(" ", "\0")
    lines = textwrap.wrap(" ".join(words), 71, break_on_hyphens=False, break_long_words=False)
    return "\n         ".join(lines).replace("\0", " ")


def network_and_options(options: Options, images: int) -> str:
    """Return the network of a run and the options that differ from its recipe, for the plots."""
    changes = [f" {typed(name, value)}" for name, value in options.changes(images).items()]
    return f"{options.network}, trained by its recipe{' but' * bool(changes)}{''.join(changes)}"


def _few_steps(session: Session) -> str:
    """Return a remark if the training is far too short to learn, else an empty text."""
    options, images = session.options, session.dataset.record["sizes"]["train"]
    steps = options.epochs * session.steps
    if steps >= FAR_TOO_FEW_STEPS or session.start is not None:
        return ""
    usual = options.recipe.for_images(images).epochs
    return f"{plural(steps, 'step')} will teach the network little; --epochs {usual} is advised"


def write_results(session: Session, interrupts: Interrupts, console: Console) -> float:
    """Test the best weights, record the result, plot it; return the test accuracy.

    The test set is used only here, once at the end of a training. A run resumed with more epochs
    uses it again at its end. Choosing the better of the two results would be choosing by the test
    set, and the accuracy would then say less about unseen images.
    """
    net = session.state.net.with_parameters(session.state.best)
    batches = session.dataset.batches("test", EVALUATION_BATCH)
    weights = session.folder / runs.WEIGHTS
    test, probabilities = evaluated(net, interrupts.checked(batches), weights, "start a new run")
    if runs.tested_accuracy(session.folder, len(session.state.history)) is None:
        # Those of an earlier result must not appear beside the new record.
        for name in (*PLOTS, runs.MISTAKES):
            (session.folder / name).unlink(missing_ok=True)
    runs.write_record(session.folder, record(session, test))
    _save_mistakes(session, probabilities)
    _show_result(session, test, console)
    go_on = f"once matplotlib works, resume with: {resume_command(session.folder)}"
    with explained_drawing(f"the test result is saved; {go_on}"):
        from handcnn.plots import save_figure

        for name, figure in interrupts.checked(figures(session, net, test, probabilities)):
            save_figure(session.folder / name, figure)
    _show_files(session.folder, session.dataset.class_names, console)
    return test.accuracy


def _save_mistakes(session: Session, probabilities: Array) -> None:
    """Save the images of mistakes.png, which the drawing page offers."""
    images, labels = session.dataset.test
    worst = worst_mistakes(labels, probabilities)
    of_answers = probabilities[worst]
    answers = of_answers.argmax(axis=1)
    mistakes = Mistakes(images[worst], labels[worst], answers, of_answers.max(axis=1), worst)
    save_mistakes(session.folder / runs.MISTAKES, mistakes)


def check_target(accuracy: float, target: float | None) -> None:
    """Raise a HandcnnError if the test accuracy is below the target, given in per cent."""
    if target is not None and round(100 * accuracy, 9) < target:  # 100 * 0.9601 is below 96.01
        raise HandcnnError(
            f"test accuracy {100 * accuracy:.2f} % is below the target of {target:g} %"
        )


def _show_result(session: Session, test: Metrics, console: Console) -> None:
    row, count = session.best_row, session.dataset.record["sizes"]["test"]
    console.print("")
    if session.start is not None and not session.start["fresh_output_layer"]:
        before, tested = (session.start[part]["accuracy"] for part in ("validation", "test"))
        print(
            f"untouched weights: {100 * before:.2f} % on validation, {100 * tested:.2f} % on the "
            "test images"
        )
        if row["val_accuracy"] < before:
            print("warning  no epoch was as good on validation as the untouched weights")
    print(f"best epoch {row['epoch']}: {100 * row['val_accuracy']:.2f} % on validation")
    print(result_line(test, count, session.dataset.title))


def _show_files(folder: Path, class_names: list[str], console: Console) -> None:
    console.print("\nwritten:")
    for path in sorted(folder.glob("[!.]*")):
        console.print(f"  {one_line(path)}")
    weights = folder / runs.WEIGHTS
    if are_digits(class_names):
        console.print(f"\nread digits: {escaped(predict_command(weights))}")
    else:
        command = predict_command(weights, Path("PICTURE"))
        console.print(f"\nread pictures: {escaped(command)}")


def figures(
    session: Session, net: Network, test: Metrics, probabilities: Array
) -> "Iterator[tuple[str, plots.Figure]]":
    """Yield the file name and the figure of each of PLOTS."""
    from handcnn import plots  # matplotlib takes half a second to import

    history, title = session.state.history, session.dataset.title
    run = network_and_options(session.options, session.dataset.record["sizes"]["train"])
    distorted = session.options.augment != "none"
    state = session.state
    # Those of the first epochs are missing if an older version trained them.
    steps = state.steps if len(state.steps) == len(history) * session.steps else None
    part, names = session.dataset.test, session.dataset.class_names
    counts = confusion_matrix(part.labels, probabilities.argmax(axis=1), len(names))
    yield (
        "accuracy.png",
        plots.plot_accuracy(
            history, title, test.accuracy, run=run, distorted=distorted, steps=steps
        ),
    )
    yield (
        "loss.png",
        plots.plot_loss(history, title, test.loss, run=run, distorted=distorted, steps=steps),
    )
    yield from evaluation.figures(part, counts, probabilities, title, names, run)
    yield "filters.png", plots.plot_filters(net, part.images[0], title, names, run=run)


def record(session: Session, test: Metrics | None = None) -> dict[str, Any]:
    """Return everything about a run except its history; `test` is given once it is finished."""
    net = session.state.net
    result = {
        "options": asdict(session.options),
        "start": session.start,
        "data": session.dataset.record,
        "architecture": net.architecture()["layers"],
        "parameters": sum(array.size for array in net.parameters().values()),
        "versions": {"handcnn": __version__, "python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "machine": platform.platform(),
        "blas": sorted(
            f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}".strip()
            for pool in threadpool_info()
            if pool["user_api"] == "blas"
        ),
    }
    if test is not None:
        result["epochs"] = len(session.state.history)
        result["best_epoch"] = session.best_row["epoch"]
        result["test"] = test._asdict()
    return result
