"""The options of train.py: the default, range and help of each, in one place.

`Options` define a run and are saved with it. The ranges here also check the options in a
checkpoint. `Request` is one command line: options of a run, and others for this call only. To add
an option, add a field: `parse` and the checks find it.
"""

import argparse
from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from data import TRAINING_IMAGES
from handcnn.augmentation import AUGMENTATIONS
from handcnn.commands import command_line as cli
from handcnn.commands.weights import weights_file
from handcnn.kernels.threads import default_threads
from handcnn.models import (
    FINE_TUNING_STEPS,
    MIN_STEPS,
    NETWORKS,
    OTHER_IMAGES,
    RECIPES,
    Recipe,
    recipe_for,
)
from handcnn.preparation import PREPARATIONS
from handcnn.schedule import SCHEDULES
from handcnn.storage import runs
from handcnn.text import one_line

DOCUMENTED = RECIPES["documented"]
# What a checkpoint without an option means by that: version 0.1 had none of these.
WHERE_MISSING = {
    "network": "documented",
    "schedule": "constant",
    "augment": "none",
    "invert": False,
    "transpose": False,
    "prepare": None,
    "skip_unreadable": False,
    "patience": None,
    "start_from": None,
    "also": None,
}
COUNT = cli.whole_number(1, 1_000_000)


def option(
    default: object,
    convert: Callable[[str], object] | None,
    help: str,
    metavar: str | None = None,
    *,
    fixed: bool = False,
    is_path: bool = False,
) -> Any:
    """Return a field that is an option.

    Args:
        default: its value if it is not given.
        convert: turns the typed text into a value, or refuses it; None for a switch.
        help: what the option does, in a few words.
        metavar: the name of its value in the help text.
        fixed: whether it must not change on resuming, because the trained epochs used its value.
        is_path: whether it may be a path. A saved one is not checked, since it may have moved.
    """
    about = {"convert": convert, "help": help, "metavar": metavar}
    return field(default=default, metadata={**about, "fixed": fixed, "is_path": is_path})


def choice(default: str, names: Collection[str], help: str) -> Any:
    """Return a field that is an option with one of these names as its value, fixed in a run."""
    return option(default, cli.one_of(*names), help, f"{{{','.join(names)}}}", fixed=True)


def _run(text: str) -> Path | str:
    """Accept the folder of a run, a file in it, or the word "latest"; ./latest is a folder."""
    if text == runs.LATEST:
        return runs.LATEST
    path = cli.path(text)
    return path.parent if path.name in (runs.CHECKPOINT, runs.WEIGHTS) else cli.folder(text)


def _start(text: str) -> str:
    """Accept the path of a weights file or of a run's folder; return that of the file, absolute."""
    return str(weights_file(text).resolve())


@dataclass(frozen=True)
class Options:
    """The options that define a run. Their defaults are those of the documented network."""

    network: str = choice("documented", NETWORKS, "network to train, with its recipe")
    epochs: int = option(
        DOCUMENTED.epochs, cli.whole_number(1, 10_000), "passes over the training images", "N"
    )
    patience: int | None = option(
        None,
        cli.whole_number(1, 10_000),
        "stop after N epochs in a row that are not better on validation",
        "N",
    )
    batch_size: int = option(
        DOCUMENTED.batch_size,
        COUNT,
        "images per step; for twice as many, halve the learning rate",
        "N",
        fixed=True,
    )
    learning_rate: float = option(
        DOCUMENTED.learning_rate,
        cli.number(0, 1000),
        "step size for the gradient of the summed loss",
        "R",
    )
    schedule: str = choice(
        DOCUMENTED.schedule, SCHEDULES, "how the learning rate changes during training"
    )
    augment: str = choice(
        DOCUMENTED.augment,
        AUGMENTATIONS,
        "random changes to the training images, new in each epoch",
    )
    seed: int = option(
        0, cli.whole_number(0, 2**32 - 1), "seed of all random numbers", "N", fixed=True
    )
    dataset: str = option(
        "auto",
        cli.name_or_path("auto", *TRAINING_IMAGES),
        "name of a data set, or path of your own images; "
        "auto is MNIST, or scikit-learn's digits if MNIST is not available",
        f"{{{','.join(['auto', *TRAINING_IMAGES])},PATH}}",
        fixed=True,
        is_path=True,
    )
    also: str | None = option(
        None,
        cli.name_or_path(*TRAINING_IMAGES),
        "mix as many images of another data set of the same classes into the training",
        f"{{{','.join(TRAINING_IMAGES)},PATH}}",
        fixed=True,
        is_path=True,
    )
    start_from: str | None = option(
        None,
        _start,
        "train the weights of a file or a run further, with few small steps",
        "FILE",
        fixed=True,
        is_path=True,
    )
    invert: bool = option(
        False, None, "turn your own images, dark on bright, into bright on dark", fixed=True
    )
    transpose: bool = option(
        False, None, "swap the rows and columns of your own images", fixed=True
    )
    prepare: str | None = option(
        None,
        cli.one_of(*PREPARATIONS),
        "find the digit in a picture, or scale it whole (default: digits if the images are)",
        f"{{{','.join(PREPARATIONS)}}}",
        fixed=True,
    )
    skip_unreadable: bool = option(
        False, None, "leave out those of your own pictures that cannot be used", fixed=True
    )
    limit: int | None = option(None, COUNT, "use only N training images", "N", fixed=True)
    threads: int = option(
        default_threads(), cli.whole_number(1, 256), "threads or processes to compute with", "N"
    )

    @property
    def recipe(self) -> Recipe:
        """The options that a training needs."""
        return Recipe(**{entry.name: getattr(self, entry.name) for entry in fields(Recipe)})

    def usual_recipe(self, prepared: str) -> tuple[Recipe, int]:
        """Return the recipe for images prepared in this way, and how many steps few images need."""
        recipe = recipe_for(self.network, prepared)
        if self.start_from is None:
            return recipe, MIN_STEPS
        return recipe.fine_tuning(), FINE_TUNING_STEPS

    def changes(self, images: int) -> dict[str, object]:
        """Return the options that differ from the recipe for so many images, or their default.

        What the data are is left out, which every run names, and threads, which change no result.
        Of a path, the last two parts stay: the run and the file.
        """
        recipe, least = self.usual_recipe(self.prepare or "digits")
        epochs = replace(recipe, batch_size=self.batch_size).for_images(images, least).epochs
        usual = asdict(Options()) | asdict(recipe) | {"epochs": epochs}
        named = {"network", "dataset", "prepare", "threads"}
        changed = {
            name: value
            for name, value in asdict(self).items()
            if name not in named and value != usual[name]
        }
        for name in {"start_from", "also"} & changed.keys():
            changed[name] = str(Path(*Path(changed[name]).parts[-2:]))
        return changed


@dataclass(frozen=True)
class Request:
    """A parsed command line.

    Attributes:
        options: the options of the run, with defaults for those not given.
        given: the run's options that were given, by name.
    """

    options: Options
    given: Mapping[str, Any]
    data_home: Path | None = option(None, cli.folder, "scikit-learn's download folder", "FOLDER")
    output_dir: Path | None = option(
        None, cli.folder, f"folder for all runs (default: {runs.OUTPUTS})", "FOLDER"
    )
    name: str | None = option(None, cli.name, "text to add to the name of the run's folder")
    resume: Path | str | None = option(
        None, _run, "resume the run in this folder, or the 'latest' run", "RUN"
    )
    watch: bool = option(False, None, "show the training in the browser while it runs")
    paused: bool = option(False, None, "pause after the first step, to go on from the page")
    port: int | None = option(
        None, cli.whole_number(1, 65535), "port of that page (default: 2828, or a free one)", "N"
    )
    no_browser: bool = option(False, None, "do not open the page")
    quiet: bool = option(False, None, "print only warnings and the result")
    target_accuracy: float | None = option(
        None, cli.number(0, 100), "exit with 1 below P per cent on the test set", "P"
    )

    @property
    def outputs(self) -> Path:
        """The folder of all runs."""
        return self.output_dir or runs.OUTPUTS


def parse(arguments: list[str] | None, description: str | None) -> Request:
    """Return the parsed command line; exit with code 2 if it is not valid.

    Args:
        arguments: by default those of the command line.
        description: the first part of the help text.
    """
    parser = cli.Parser(
        prog="train.py", description=description, argument_default=argparse.SUPPRESS
    )
    exclusive = parser.add_mutually_exclusive_group()
    for entry in (*fields(Options), *fields(Request)):
        if entry.metadata:
            group = exclusive if entry.name in ("name", "resume") else parser
            group.add_argument(flag(entry.name), **_argument(entry))
    typed = vars(parser.parse(arguments))
    given = {entry.name: typed.pop(entry.name) for entry in fields(Options) if entry.name in typed}
    recipe = asdict(RECIPES[given.get("network", "documented")])
    request = Request(Options(**(recipe | given)), given, **typed)
    if fault := _contradiction(request):
        parser.error(fault)
    return request


def _argument(entry: Field[Any]) -> dict[str, Any]:
    """Return the keyword arguments for `add_argument`."""
    convert, help = entry.metadata["convert"], entry.metadata["help"]
    if convert is None:
        return {"help": help, "action": "store_true"}
    if entry.default is not None:
        help += f" (default: {entry.default}{_other_defaults(entry)})"
    return {"help": help, "type": convert, "metavar": entry.metadata["metavar"]}


def _other_defaults(entry: Field[Any]) -> str:
    """Return the networks whose recipe has another default, with these defaults."""
    others = []
    for network, recipe in RECIPES.items():
        default = getattr(recipe, entry.name, entry.default)
        if default != entry.default:
            others.append(f", {default} for {network}")
        if entry.name in OTHER_IMAGES.get(network, {}):
            others.append(f" ({OTHER_IMAGES[network][entry.name]} if the images are no digits)")
    return "".join(others)


def _contradiction(request: Request) -> str:
    """Return what is wrong if two options contradict each other, else an empty string."""
    resume, output_dir, limit = request.resume, request.output_dir, request.options.limit
    if isinstance(resume, Path) and output_dir not in (None, resume.parent):
        return (
            f"--output-dir: '{output_dir}' cannot be combined with --resume {resume}, which stays "
            "where it is; use it only with --resume latest"
        )
    for name in ("paused", "port", "no_browser"):
        if getattr(request, name) and not request.watch:
            return f"{flag(name)}: is for the page of --watch, which was not given"
    if resume is not None and request.options.start_from is not None:
        return (
            "--start-from: not allowed with argument --resume, which goes on from the run's own "
            "weights"
        )
    # The size of other data sets is known only after loading.
    known = {**TRAINING_IMAGES, "auto": TRAINING_IMAGES["mnist"]}
    largest = known.get(request.options.dataset)
    if limit is not None and largest is not None and resume is None and limit > largest:
        return f"--limit: {limit} is more than the {largest:,} training images"
    return ""


def saved_options(saved: Mapping[str, object]) -> Options:
    """Return the options saved in a checkpoint.

    Raises:
        ValueError: train.py would not accept them.
    """
    saved = WHERE_MISSING | dict(saved)
    if saved.get("average") == 0:  # no average of the weights, which was an option once
        del saved["average"]
    if saved.keys() != {entry.name for entry in fields(Options)}:
        raise ValueError("its options are not those of train.py")
    for entry in fields(Options):
        if not _is_valid(saved[entry.name], entry):
            raise ValueError(f"its {flag(entry.name)} is not a valid value")
    return Options(**dict[str, Any](saved))


def _is_valid(value: object, entry: Field[Any]) -> bool:
    if entry.metadata["is_path"]:
        return isinstance(value, str) or value is entry.default
    if entry.metadata["convert"] is None:
        return isinstance(value, bool)
    try:
        return bool(entry.metadata["convert"](str(value)) == value)
    except argparse.ArgumentTypeError:
        return value is None and entry.default is None


def flag(name: str) -> str:
    """Return an option as it is typed: `--batch-size` for `batch_size`."""
    return "--" + name.replace("_", "-")


def typed(name: str, value: object) -> str:
    """Return an option with its value as it is typed: `--batch-size 64`, or only `--invert`."""
    return flag(name) if value is True else f"{flag(name)} {one_line(value)}"
