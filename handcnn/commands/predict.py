"""Read the digits in each picture, with weights that train.py saved.

    PROGRAM picture.png                                  the newest run's weights, or handcnn's own
    PROGRAM *.jpg --weights outputs/RUN/weights.npz
    PROGRAM photo.jpg --show seen.png                    also save what the network saw
    PROGRAM photo.jpg --show-steps steps.png             how it became 28x28, step by step
    PROGRAM photo.jpg --json                             a JSON object for each picture
    PROGRAM photos/                                      all pictures in a folder
    PROGRAM - < photo.jpg                                a picture from standard input

A picture can be a photo or a drawing, of any size, dark on light or light on dark, as PNG, JPEG or
in another format that the README lists. Several digits are read as a number, row by row. The exit
code is 1 if a picture could not be read.
"""

import argparse
import glob
import io
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from PIL import Image

from handcnn.commands import command_line as cli
from handcnn.commands.weights import add_weights_option, picture_network
from handcnn.errors import HandcnnError
from handcnn.pictures import (
    Reading,
    Tile,
    load_picture,
    picture_size,
    read_picture,
    save_sheet,
    save_steps,
)
from handcnn.pictures.numbers import runners_up
from handcnn.storage.classifiers import SavedNetwork
from handcnn.text import natural_order, one_line, percent
from handcnn.types import Array

STDIN = "-"  # not Path("-"), which is a file of that name
MAX_STDIN_BYTES = 100_000_000  # read from standard input, which may never end


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
    add_weights_option(parser)
    parser.add_argument(
        "--show", type=cli.png, metavar="FILE", help="save a PNG of what the network saw and said"
    )
    parser.add_argument(
        "--show-steps",
        type=cli.png,
        metavar="FILE",
        help="save a PNG of how each picture became 28x28, step by step",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object a line for each picture"
    )
    options = parser.parse(arguments)
    options.pictures = [picture for given in options.pictures for picture in given]
    read = [path for path in (*options.pictures, options.weights) if isinstance(path, Path)]
    for option, file in (("--show", options.show), ("--show-steps", options.show_steps)):
        if file and os.path.realpath(file) in map(os.path.realpath, read):
            parser.error(f"{option}: '{file}' would overwrite an input file")
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
    if options.show_steps and saved.preparation.name != "digits":
        raise HandcnnError(
            f"--show-steps shows how a digit is found, but {one_line(saved.path)} is for pictures "
            "that are scaled whole; use --show"
        )
    say = print_nothing if options.json else print
    say(f"weights: {saved}")
    classes = saved.class_names
    names = [one_line(path) for path in options.pictures]
    width = max(map(len, names))
    tiles, seen, failed = [], [], False
    for path, name in zip(options.pictures, names, strict=True):
        title = "standard input" if path == STDIN else Path(path).name
        try:
            picture, scale = load(path)
            reading = read(name, picture, saved)
        except HandcnnError as error:
            failed = True
            tiles.append(Tile(title))
            if options.json:
                print(as_json(path, error=str(error)), flush=True)
            else:
                cli.print_failure(options.program, str(error))
            continue
        tiles += tiles_of(title, picture, reading)
        seen.append(picture)
        if options.json:
            print(as_json(path, reading, scale), flush=True)
        else:
            print(answer(f"{name:{width}}  ", reading, classes), flush=True)
    if options.show is not None:
        save_sheet(options.show, tiles)
        say(f"what the network saw: {one_line(options.show)}")
    if options.show_steps is not None and seen:
        save_steps(options.show_steps, seen)
        say(f"how it was prepared: {one_line(options.show_steps)}")
    return 1 if failed else 0


def print_nothing(line: str) -> None:
    """Take the place of print, where only JSON may be printed."""


def load(path: Path | str) -> tuple[Array, tuple[float, float]]:
    """Return a picture as grey values (h, w), and its width and height divided by w and h.

    Raises:
        HandcnnError: the file is not a picture.
    """
    if path == STDIN:
        content = standard_input()
        grey = load_picture(io.BytesIO(content))
        width, height = picture_size(io.BytesIO(content))
    else:
        grey = load_picture(path)
        width, height = picture_size(path)
    return grey, (width / grey.shape[1], height / grey.shape[0])


def read(name: str, picture: Array, saved: SavedNetwork) -> Reading:
    """Return what a grey picture (h, w) says: digits, or one image of another class.

    Raises:
        HandcnnError: the picture is empty, or the probabilities are not finite.
    """
    try:
        return read_picture(saved.net, picture, saved.class_names, saved.preparation)
    except HandcnnError as error:
        raise HandcnnError(f"{name}: {error}") from error


def as_json(
    path: Path | str,
    reading: Reading | None = None,
    scale: tuple[float, float] = (1, 1),
    error: str | None = None,
) -> str:
    """Return an answer as one line of JSON, with boxes in pixels of the picture in the file."""
    answer: dict[str, object] = {"picture": str(path), "text": reading.text if reading else ""}
    if reading is None:
        return json.dumps({**answer, "error": error})
    answer["digits"] = [
        {
            "class": digit.text,
            "probability": float(digit.probability),
            "row": digit.row,
            "box": [
                round(side * factor) for side, factor in zip(digit.box, scale * 2, strict=True)
            ],
        }
        for digit in reading.digits
    ]
    return json.dumps({**answer, "left_out": reading.left_out, "remark": reading.doubt})


def tiles_of(title: str, picture: Array, reading: Reading) -> list[Tile]:
    """Return the tiles that show an answer; for a number, the picture comes before its digits."""
    tiles = [
        Tile(title, digit.image, digit.text, percent(digit.probability)) for digit in reading.digits
    ]
    if len(tiles) == 1:
        return tiles
    boxes = [digit.box for digit in reading.digits]
    text = reading.text.replace("\n", " | ")
    return [Tile(title, picture, text, percent(reading.probability), boxes), *tiles]


def standard_input() -> bytes:
    """Return all of standard input.

    Raises:
        HandcnnError: it cannot be read to its end, or it is too long.
    """
    if sys.stdin is None:
        raise HandcnnError("standard input is closed; redirect a picture to it")
    if not waits(sys.stdin):
        raise HandcnnError("standard input is non-blocking; save the picture in a file first")
    try:
        content = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
    except OSError as error:
        raise HandcnnError(f"standard input cannot be read: {error.strerror or error}") from error
    if len(content) > MAX_STDIN_BYTES:
        raise HandcnnError("standard input holds more than 100 MB; make the picture smaller")
    return content


def waits(file: TextIO) -> bool:
    """Return whether reading waits for more data; if not, only a part would be read."""
    try:
        return os.get_blocking(file.fileno())
    except (AttributeError, OSError):  # Windows before Python 3.12, or no file descriptor
        return True


def answer(start: str, reading: Reading, classes: Sequence[str]) -> str:
    """Return what was read, after the start of the line: a class, or a number in its rows."""
    if len(reading.digits) == 1:
        best, then = reading.text, runners_up(reading.digits[0].probabilities, classes)
        width = max(map(len, classes))
        remark = reading.doubt and f"   {reading.doubt}"
        return f"{start}{best:{width}}  {percent(reading.probability):>9}   then {then}{remark}"
    first, *others = reading.text.split("\n")
    left_out = reading.other_marks and f"   {reading.other_marks}"
    indent = f"\n{' ' * len(start)}"
    lines = indent.join([first, *others])
    doubts = "".join(f"{indent}{doubt}" for doubt in reading.doubts)
    return f"{start}{lines}  {percent(reading.probability):>9}{left_out}{doubts}"
