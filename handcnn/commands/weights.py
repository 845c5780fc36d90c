"""The weights file with which a command reads pictures.

It is the one that was given, or that of the newest run, or the one that comes with handcnn.
"""

import argparse
import os
from pathlib import Path

from handcnn.commands import command_line as cli
from handcnn.errors import HandcnnError
from handcnn.storage import runs
from handcnn.storage.classifiers import SavedNetwork, read_saved_network
from handcnn.storage.networks import READER
from handcnn.text import one_line

IMAGE_SHAPE = (1, 28, 28)  # (C, H, W) of a prepared picture


def add_weights_option(parser: cli.Parser) -> None:
    """Add the option `--weights`, a path or None, for `picture_network`."""
    parser.add_argument(
        "--weights",
        type=weights_file,
        metavar="FILE",
        help="weights, or the folder of a run, to use (default: the newest run's, or handcnn's)",
    )


def weights_file(text: str) -> Path:
    """Accept the path of a weights file, or of a run's folder, which stands for its weights."""
    of_run = cli.path(text) / runs.WEIGHTS
    if text and os.path.isfile(of_run):  # noqa: PTH113 - Path.is_file can raise OSError
        return of_run
    if text and os.path.isdir(of_run.parent):  # noqa: PTH112
        raise argparse.ArgumentTypeError(f"{text!r} is a folder without {runs.WEIGHTS}")
    return cli.file(text)


def picture_network(path: Path | None) -> SavedNetwork:
    """Return the network in a weights file, by default that of the newest run.

    Where there is no run, it is the network that comes with handcnn.

    Raises:
        HandcnnError: the file cannot be used, or its network is not for pictures of 28x28.
    """
    path = path or _newest_weights() or READER
    saved = read_saved_network(path)
    if saved.image_shape != IMAGE_SHAPE:
        raise HandcnnError(
            f"{one_line(path)} cannot be used: its network takes images of shape "
            f"{saved.image_shape}; prepared pictures have {IMAGE_SHAPE}"
        )
    return saved


def _newest_weights() -> Path | None:
    """Return the weights of the newest run, or None if there is no run."""
    try:
        return runs.newest_run(runs.OUTPUTS, runs.WEIGHTS) / runs.WEIGHTS
    except HandcnnError:
        return None
