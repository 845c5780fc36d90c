"""The options of train.py: the default, range and help of each, in one place.

`Options` define a run and are saved with it. The ranges here also check the options in a
checkpoint. `Request` is one command line: options of a run, and others for this call only.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from handcnn.app import command_line as cli
from handcnn.augmentation import AUGMENTATIONS
from handcnn.kernels.threads import default_threads
from handcnn.models import NETWORKS, RECIPES
from handcnn.schedule import SCHEDULES
from handcnn.storage import runs

DOCUMENTED = RECIPES["documented"]
# Options that checkpoints of version 0.1 do not contain.
FORMERLY = {"network": "documented", "schedule": "constant", "augment": "none", "average": 0.0}
COUNT = cli.whole_number(1, 1_000_000)


def about(
    convert: Callable[[str], object] | None,
    help: str,
    metavar: str | None = None,
    *,
    fixed: bool = False,
) -> dict[str, Any]:
    """Return the metadata that turns a field into an option.

    Args:
        convert: turns the typed text into a value, or refuses it; None for a switch.
        help: what the option does, in a few words.
        metavar: the name of its value in the help text.
        fixed: whether it must not change on resuming, because the trained epochs used its value.
    """
    return {"convert": convert, "help": help, "metavar": metavar, "fixed": fixed}


def _run(text: str) -> Path | str:
    """Accept the folder of a run, or the word "latest"; ./latest is a folder."""
    return runs.LATEST if text == runs.LATEST else cli.folder(text)


@dataclass(frozen=True)
class Options:
    """The options that define a run. Their defaults are those of the documented network."""

    network: str = field(
        default="documented",
        metadata=about(
            cli.one_of(*NETWORKS),
            "network to train, with its recipe",
            f"{{{','.join(NETWORKS)}}}",
            fixed=True,
        ),
    )
    epochs: int = field(
        default=DOCUMENTED.epochs,
        metadata=about(cli.whole_number(1, 10_000), "passes over the training images", "N"),
    )
    batch_size: int = field(
        default=DOCUMENTED.batch_size,
        metadata=about(
            COUNT, "images per step; for twice as many, halve the learning rate", "N", fixed=True
        ),
    )
    learning_rate: float = field(
        default=DOCUMENTED.learning_rate,
        metadata=about(cli.number(0, 1000), "step size for the gradient of the summed loss", "R"),
    )
    schedule: str = field(
        default=DOCUMENTED.schedule,
        metadata=about(
            cli.one_of(*SCHEDULES),
            "how the learning rate changes during training",
            f"{{{','.join(SCHEDULES)}}}",
            fixed=True,
        ),
    )
    augment: str = field(
        default=DOCUMENTED.augment,
        metadata=about(
            cli.one_of(*AUGMENTATIONS),
            "random changes to the training images, new in each epoch",
            f"{{{','.join(AUGMENTATIONS)}}}",
            fixed=True,
        ),
    )
    average: float = field(
        default=DOCUMENTED.average,
        metadata=about(
            cli.fraction,
            "decay per step of the weight average that is saved instead of the weights; 0 for none",
            "D",
            fixed=True,
        ),
    )
    seed: int = field(
        default=0,
        metadata=about(
            cli.whole_number(0, 2**32 - 1), "seed of all random numbers", "N", fixed=True
        ),
    )
    dataset: str = field(
        default="auto",
        metadata=about(
            str,  # `parse` replaces this by a check of the names
            "name of a data set, or path of your own images; "
            "auto is MNIST, or scikit-learn's digits if MNIST is not available",
            fixed=True,
        ),
    )
    limit: int | None = field(
        default=None, metadata=about(COUNT, "use only N training images", "N", fixed=True)
    )
    threads: int = field(
        default=default_threads(),
        metadata=about(cli.whole_number(1, 256), "threads to compute with", "N"),
    )


@dataclass(frozen=True)
class Request:
    """A parsed command line.

    Attributes:
        options: the options of the run, with defaults for those not given.
        given: the names of the run's options that were given.
    """

    options: Options
    given: frozenset[str]
    data_home: Path | None = field(
        default=None, metadata=about(cli.folder, "scikit-learn's download folder", "FOLDER")
    )
    output_dir: Path | None = field(
        default=None,
        metadata=about(cli.folder, f"folder for all runs (default: {runs.OUTPUTS})", "FOLDER"),
    )
    name: str | None = field(
        default=None, metadata=about(cli.name, "text to add to the name of the run's folder")
    )
    resume: Path | str | None = field(
        default=None,
        metadata=about(_run, "resume the run in this folder, or the 'latest' run", "RUN"),
    )
    quiet: bool = field(default=False, metadata=about(None, "print only warnings and the result"))
    target_accuracy: float | None = field(
        default=None,
        metadata=about(cli.number(0, 100), "exit with 1 below P per cent on the test set", "P"),
    )

    @property
    def outputs(self) -> Path:
        """The folder of all runs."""
        return self.output_dir or runs.OUTPUTS


def parse(
    arguments: list[str] | None, description: str | None, training_images: Mapping[str, int]
) -> Request:
    """Return the parsed command line; exit with code 2 if it is not valid.

    Args:
        arguments: by default those of the command line.
        description: the first part of the help text.
        training_images: the number of training images of each named data set.
    """
    names = ("auto", *training_images)
    dataset = {"convert": cli.name_or_path(*names), "metavar": f"{{{','.join(names)},PATH}}"}
    parser = cli.Parser(
        prog="train.py", description=description, argument_default=argparse.SUPPRESS
    )
    exclusive = parser.add_mutually_exclusive_group()
    for entry in (*fields(Options), *fields(Request)):
        if entry.metadata:
            group = exclusive if entry.name in ("name", "resume") else parser
            default = _default(entry.name, entry.default)
            metadata = entry.metadata | (dataset if entry.name == "dataset" else {})
            group.add_argument(flag(entry.name), **_argument(default, **dict[str, Any](metadata)))
    typed = vars(parser.parse(arguments))
    given = {entry.name: typed.pop(entry.name) for entry in fields(Options) if entry.name in typed}
    recipe = asdict(RECIPES[given.get("network", "documented")])
    request = Request(Options(**(recipe | given)), frozenset(given), **typed)
    _refuse_contradictions(parser, request, training_images)
    return request


def _default(name: str, default: object) -> str:
    """Return the default of an option as text, with the networks that have a different one."""
    values = {network: getattr(recipe, name, default) for network, recipe in RECIPES.items()}
    others = [f", {value} for {network}" for network, value in values.items() if value != default]
    return "" if default is None else f"{default}{''.join(others)}"


def _argument(
    default: str,
    convert: Callable[[str], object] | None,
    help: str,
    metavar: str | None,
    fixed: bool,
) -> dict[str, Any]:
    """Return the keyword arguments for `add_argument`."""
    if convert is None:
        return {"help": help, "action": "store_true"}
    help += f" (default: {default})" if default else ""
    return {"help": help, "type": convert, "metavar": metavar}


def _refuse_contradictions(
    parser: cli.Parser, request: Request, training_images: Mapping[str, int]
) -> None:
    """Exit with code 2 if two options contradict each other."""
    resume, output_dir, limit = request.resume, request.output_dir, request.options.limit
    if isinstance(resume, Path) and output_dir not in (None, resume.parent):
        parser.error(
            f"--output-dir: '{output_dir}' cannot be combined with --resume {resume}, which stays "
            "where it is; use it only with --resume latest"
        )
    # The size of other data sets is known only after loading.
    known = {**training_images, "auto": max(training_images.values())}
    largest = known.get(request.options.dataset)
    if limit is not None and largest is not None and resume is None and limit > largest:
        parser.error(f"--limit: {limit} is more than the {largest:,} training images")


def saved_options(saved: Mapping[str, object]) -> Options:
    """Return the options saved in a checkpoint.

    Raises:
        ValueError: train.py would not accept them.
    """
    saved = FORMERLY | dict(saved)
    if saved.keys() != {entry.name for entry in fields(Options)}:
        raise ValueError("its options are not those of train.py")
    for entry in fields(Options):
        if not _is_valid(saved[entry.name], entry.default, entry.metadata["convert"]):
            raise ValueError(f"its {flag(entry.name)} is not a valid value")
    return Options(**dict[str, Any](saved))


def _is_valid(value: object, default: object, convert: Callable[[str], object]) -> bool:
    try:
        return convert(str(value)) == value
    except argparse.ArgumentTypeError:
        return value is None and default is None


def flag(name: str) -> str:
    """Return an option as it is typed: `--batch-size` for `batch_size`."""
    return "--" + name.replace("_", "-")
