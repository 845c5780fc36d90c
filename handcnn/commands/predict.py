"""Read the digit in each picture, with weights that train.py saved.

    python predict.py picture.png                                  the newest run's weights
    python predict.py *.jpg --weights outputs/RUN/weights.npz
    python predict.py photo.jpg --show seen.png                    also save what the network saw
    python predict.py - < photo.jpg                                a picture from standard input

A picture can be a photo or a drawing, of any size, dark on light or light on dark, as PNG, JPEG or
in another format that the README lists. The exit code is 1 if a picture could not be read.
"""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

try:
    import numpy as np

    from handcnn import HandcnnError
    from handcnn.commands import command_line as cli
    from handcnn.commands.weights import picture_network
    from handcnn.pictures import Prepared, Tile, examine_picture, load_picture, save_sheet, to_batch
    from handcnn.storage.classifiers import SavedNetwork
    from handcnn.text import are_digits, one_line, percent
    from handcnn.types import Array
except ModuleNotFoundError as error:
    sys.exit(
        f"predict.py: {error.name} is not installed in this Python; use make, or see README.md"
    )
except KeyboardInterrupt:
    sys.exit(130)


STDIN = "-"  # not Path("-"), which is a file of that name
MOST_BYTES = 100_000_000  # read from standard input, which may never end
NAMED_CLASSES = 3  # in an answer: the digit and two runners-up


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    with np.errstate(all="ignore"):  # overflow shows in the probabilities
        return cli.run("predict.py", lambda: predict(parse_options(arguments)))


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """Return the parsed options."""
    parser = cli.Parser(prog="predict.py", description=__doc__)
    parser.add_argument(
        "pictures",
        nargs="+",
        type=picture,
        metavar="picture",
        help="picture to read; - is standard input",
    )
    parser.add_argument(
        "--weights",
        type=cli.file,
        metavar="FILE",
        help="weights to use (default: those of the newest run)",
    )
    parser.add_argument(
        "--show", type=cli.png, metavar="FILE", help="save a PNG of what the network saw and said"
    )
    options = parser.parse(arguments)
    read = [path for path in (*options.pictures, options.weights) if isinstance(path, Path)]
    if options.show and os.path.realpath(options.show) in map(os.path.realpath, read):
        parser.error(f"--show: '{options.show}' would overwrite an input file")
    return options


def picture(text: str) -> Path | str:
    """Return the path of a picture, or STDIN for -; ./- is a path."""
    return STDIN if text == STDIN else Path(text)


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
            cli.print_failure("predict.py", str(error))
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


if __name__ == "__main__":
    sys.exit(main())
