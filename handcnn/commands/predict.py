"""Read the digit in each picture, with weights that train.py saved.

    PROGRAM picture.png                                  the newest run's weights
    PROGRAM *.jpg --weights outputs/RUN/weights.npz
    PROGRAM photo.jpg --show seen.png                    also save what the network saw
    PROGRAM photos/                                      all pictures in a folder
    PROGRAM - < photo.jpg                                a picture from standard input

A picture can be a photo or a drawing, of any size, dark on light or light on dark, as PNG, JPEG or
in another format that the README lists. The exit code is 1 if a picture could not be read.
"""

import argparse
import glob
import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from PIL import Image

from handcnn.commands import command_line as cli
from handcnn.commands.weights import picture_network, weights_file
from handcnn.errors import HandcnnError
from handcnn.pictures import Prepared, Tile, examine_picture, load_picture, save_sheet, to_batch
from handcnn.storage.classifiers import SavedNetwork
from handcnn.text import are_digits, natural_order, one_line, percent
from handcnn.types import Array

STDIN = "-"  # not Path("-"), which is a file of that name
MOST_BYTES = 100_000_000  # read from standard input, which may never end
NAMED_CLASSES = 3  # in an answer: the digit and two runners-up


def main(arguments: list[str] | None = None, program: str = "predict.py") -> int:
    """Run the program and return its exit code."""
    with np.errstate(all="ignore"):  # overflow shows in the probabilities
        return cli.run(program, lambda: predict(parse_options(arguments, program)))


def parse_options(arguments: list[str] | None, program: str) -> argparse.Namespace:
    """Return the parsed options."""
    parser = cli.Parser(prog=program, description=__doc__)
    parser.set_defaults(program=program)
    parser.add_argument(
        "pictures",
        nargs="+",
        type=pictures,
        metavar="picture",
        help="picture to read, a folder of pictures, or a pattern as *.jpg; - is standard input",
    )
    parser.add_argument(
        "--weights",
        type=weights_file,
        metavar="FILE",
        help="weights, or the folder of a run, to use (default: those of the newest run)",
    )
    parser.add_argument(
        "--show", type=cli.png, metavar="FILE", help="save a PNG of what the network saw and said"
    )
    options = parser.parse(arguments)
    options.pictures = [picture for given in options.pictures for picture in given]
    read = [path for path in (*options.pictures, options.weights) if isinstance(path, Path)]
    if options.show and os.path.realpath(options.show) in map(os.path.realpath, read):
        parser.error(f"--show: '{options.show}' would overwrite an input file")
    return options


def pictures(text: str) -> list[Path | str]:
    """Return the paths of the pictures that `text` means, or STDIN for -; ./- is a path.

    The shell of Windows does not expand * and ?, so they are expanded here.
    """
    if text == STDIN:
        return [STDIN]
    path = cli.path(text)
    if is_folder := os.path.isdir(path):  # noqa: PTH112 - Path.is_dir can raise OSError
        found = [file for file in path.iterdir() if is_picture(file)]
    elif os.path.exists(path) or not re.search("[*?]", text):  # noqa: PTH110
        return [path]
    else:
        matches = glob.glob(str(path).replace("[", "[[]"))  # noqa: PTH207 - any path, with folders
        found = [Path(name) for name in matches if os.path.isfile(name)]  # noqa: PTH113
    if not found:
        kind = "is a folder without pictures" if is_folder else "is a pattern that no file matches"
        raise argparse.ArgumentTypeError(f"{text!r} {kind}")
    return sorted(found, key=lambda file: natural_order(str(file)))


def is_picture(file: Path) -> bool:
    """Return whether the name of a file in a folder is that of a picture that Pillow opens."""
    kind = Image.registered_extensions().get(file.suffix.lower())
    return kind in Image.OPEN and not file.name.startswith(".")


def predict(options: argparse.Namespace) -> int:
    """Print an answer for each picture; return 1 if any of them could not be read."""
    saved = picture_network(options.weights)
    print(f"weights: {saved}")
    classes = saved.class_names
    names = [one_line(path) for path in options.pictures]
    width = max(map(len, names))
    reads_digits = are_digits(classes)  # other classes may consist of several parts
    tiles = []
    for path, name in zip(options.pictures, names, strict=True):
        tile = Tile("standard input" if path == STDIN else Path(path).name)
        try:
            image, several = read(path)
        except HandcnnError as error:
            cli.print_failure(options.program, str(error))
        else:
            row = probabilities(saved, image)
            several &= reads_digits
            remark = "   there seem to be several digits" if several else ""
            print(f"{name:{width}}  {answer(row, classes)}{remark}", flush=True)
            best = row.argmax()
            tile = Tile(tile.name, image, classes[best], percent(row[best]), several)
        tiles.append(tile)
    if options.show is not None:
        save_sheet(options.show, tiles)
        print(f"what the network saw: {one_line(options.show)}")
    return 1 if any(tile.picture is None for tile in tiles) else 0


def read(path: Path | str) -> Prepared:
    """Return the digit in a picture as the network expects it, and whether it looks like several.

    Raises:
        HandcnnError: the file is not a picture, or the picture is empty.
    """
    name = "standard input" if path == STDIN else one_line(path)
    picture = load_picture(standard_input() if path == STDIN else path)
    try:
        return examine_picture(picture)
    except HandcnnError as error:
        raise HandcnnError(f"{name}: {error}") from error


def standard_input() -> io.BytesIO:
    """Return all of standard input as a file in memory.

    Raises:
        HandcnnError: it cannot be read to its end, or it is too long.
    """
    if sys.stdin is None:
        raise HandcnnError("standard input is closed; redirect a picture to it")
    if not waits(sys.stdin):
        raise HandcnnError("standard input is non-blocking; save the picture in a file first")
    try:
        content = sys.stdin.buffer.read(MOST_BYTES + 1)
    except OSError as error:
        raise HandcnnError(f"standard input cannot be read: {error.strerror or error}") from error
    if len(content) > MOST_BYTES:
        raise HandcnnError("standard input holds more than 100 MB; make the picture smaller")
    return io.BytesIO(content)


def waits(file: TextIO) -> bool:
    """Return whether reading waits for more data; if not, only a part would be read."""
    try:
        return os.get_blocking(file.fileno())
    except (AttributeError, OSError):  # Windows before Python 3.12, or no file descriptor
        return True


def probabilities(saved: SavedNetwork, image: Array) -> Array:
    """Return the probability of each class (K,).

    Raises:
        HandcnnError: the probabilities are not finite, although the weights are.
    """
    row: Array = saved.net.predict_proba(to_batch([image]))[0]
    if not np.isfinite(row).all():
        raise HandcnnError(
            f"{one_line(saved.path)} gives no probabilities: its numbers are too large to compute "
            "with; use other weights"
        )
    return row


def answer(probabilities: Array, names: Sequence[str]) -> str:
    """Return the most probable class with its probability, and the runners-up."""
    best, *others = np.argsort(-probabilities)[:NAMED_CLASSES]
    runners_up = ", ".join(f"{names[i]} {percent(probabilities[i])}" for i in others)
    width = max(map(len, names))
    return f"{names[best]:{width}}  {percent(probabilities[best]):>9}   then {runners_up}"
