"""The options of `train.py`: their defaults, what each may be, and which go together.

The same rules hold for what is typed and for what a checkpoint says was typed once.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from handcnn.app import command_line as cli
from handcnn.kernels.threads import default_threads
from handcnn.storage import runs

DEFAULTS: dict[str, Any] = {
    "epochs": 20,
    "batch_size": 64,
    "learning_rate": 0.001,
    "seed": 0,
    "dataset": "auto",
    "limit": None,
    "threads": default_threads(),
}
COUNT = cli.whole_number(1, 1_000_000)
EPOCHS = cli.whole_number(1, 10_000)  # as many as a checkpoint can tell of
CONVERTERS: dict[str, Callable[[str], Any]] = {
    "epochs": EPOCHS,
    "batch_size": COUNT,
    "learning_rate": cli.number(0, 1000),
    "seed": cli.whole_number(0, 2**32 - 1),
    "dataset": cli.one_of("auto", "mnist", "digits"),
    "limit": COUNT,
    "threads": cli.whole_number(1, 256),
}
# Resuming with another value of these would not continue the run but make up a new past for it.
FIXED = ("batch_size", "seed", "dataset", "limit")


def parse_options(
    arguments: list[str] | None, description: str | None, training_images: Mapping[str, int]
) -> dict[str, Any]:
    """Return the options that were given; those that were not are absent."""
    parser = cli.Parser(
        prog="train.py", description=description, argument_default=argparse.SUPPRESS
    )

    def option(name: str, text: str, **kwargs: Any) -> None:
        key = name.lstrip("-").replace("-", "_")
        if key in CONVERTERS:
            kwargs["type"] = CONVERTERS[key]
        default = DEFAULTS.get(key)
        text += "" if default is None else f" (default: {default})"
        parser.add_argument(name, help=text, **kwargs)

    option("--epochs", "passes over the training images", metavar="N")
    option(
        "--batch-size", "images in a step; twice as many want half the learning rate", metavar="N"
    )
    option("--learning-rate", "step size, for the gradient of the summed loss", metavar="R")
    option("--seed", "of weights and shuffling", metavar="N")
    option("--limit", "use only N training images", metavar="N")
    option(
        "--dataset",
        "auto takes MNIST, or the digits of scikit-learn where MNIST cannot be had",
        metavar="{auto,mnist,digits}",
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
    option("--threads", "processor cores to compute on", metavar="N")
    option("--quiet", "print only warnings and the result", action="store_true")
    option(
        "--target-accuracy",
        "exit code 1 below P per cent on the test set",
        type=cli.number(0, 100),
        metavar="P",
    )
    given = vars(parser.parse(arguments))
    refuse_contradictions(parser, given, training_images)
    return given


def refuse_contradictions(
    parser: cli.Parser, given: dict[str, Any], training_images: Mapping[str, int]
) -> None:
    """Exit with 2 if an option does not go with another one."""
    resume: Path | None = given.get("resume")
    output_dir: Path | None = given.get("output_dir")
    if resume is not None and "name" in given:
        parser.error(f"--name: {given['name']!r} cannot be given with --resume, which has a name")
    if resume not in (None, runs.LATEST) and output_dir not in (None, Path(resume).parent):
        parser.error(
            f"--output-dir: '{output_dir}' cannot be given with --resume {resume}, which stays "
            "where it is; it goes with --resume latest only"
        )
    largest = training_images.get(given.get("dataset", ""), max(training_images.values()))
    if given.get("limit", 0) > largest:
        parser.error(f"--limit: {given['limit']} is more than the {largest:,} training images")


def find_bad_option(options: Mapping[str, Any]) -> str | None:
    """Return the name of an option that cannot have been given so, or None if all can."""
    for name, convert in CONVERTERS.items():
        value = options.get(name)
        if name == "limit" and value is None:
            continue
        try:
            good = convert(str(value)) == value
        except argparse.ArgumentTypeError:
            good = False
        if not good:
            return name
    return None


def flag(name: str) -> str:
    """Return an option as it is typed: `--batch-size` for `batch_size`."""
    return "--" + name.replace("_", "-")
