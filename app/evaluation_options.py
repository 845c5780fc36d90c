"""The options of evaluate.py."""

import argparse
from pathlib import Path

from app.answers import answers_file
from data import TRAINING_IMAGES
from handcnn.commands import command_line as cli
from handcnn.commands.weights import add_weights_option
from handcnn.kernels.threads import default_threads
from handcnn.storage import runs


def parse(arguments: list[str] | None, description: str | None) -> argparse.Namespace:
    """Return the parsed options; exit with code 2 if they are not valid."""
    parser = cli.Parser("evaluate.py", description)
    parser.set_defaults(part="test", threads=default_threads())
    add_weights_option(parser)
    for flag, convert, metavar, help in (
        (
            "--dataset",
            cli.name_or_path(*TRAINING_IMAGES),
            f"{{{','.join(TRAINING_IMAGES)},PATH}}",
            "name of a data set, or path of your own images (default: that of the weights)",
        ),
        ("--part", cli.one_of("test", "all"), "{test,all}", "images to use (default: test)"),
        ("--plots", _plots_folder, "FOLDER", "draw the confusion matrix and the mistakes there"),
        ("--answers", answers_file, "FILE", "write the answer for each image to this .csv file"),
        ("--data-home", cli.folder, "FOLDER", "scikit-learn's download folder"),
        ("--threads", cli.whole_number(1, 256), "N", "threads to compute with"),
    ):
        parser.add_argument(flag, type=convert, metavar=metavar, help=help)
    for flag, help in (
        ("--invert", "turn your own images, dark on bright, into bright on dark"),
        ("--transpose", "swap the rows and columns of your own images"),
        ("--skip-unreadable", "leave out those of your own pictures that cannot be used"),
    ):
        parser.add_argument(flag, action="store_true", help=help)
    return parser.parse(arguments)


def _plots_folder(text: str) -> Path:
    """Accept the path of a folder that is not a run's, whose own plots would be replaced."""
    folder = cli.folder(text)
    if (folder / runs.RECORD).exists() or (folder / runs.CHECKPOINT).exists():
        raise argparse.ArgumentTypeError(
            f"{text!r} is the folder of a run, which has plots of its own"
        )
    return folder
