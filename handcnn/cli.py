"""What both programs share at the command line: options read strictly, failures said in a line."""

import argparse
import errno
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from handcnn.errors import HandcnnError


class Parser(argparse.ArgumentParser):
    """An argument parser whose every complaint is one line, with exit code 2."""

    def __init__(self, **kwargs: Any) -> None:
        # No abbreviations: a script written today must not change its meaning with a new option.
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs
        )

    def error(self, message: str) -> NoReturn:
        """Print `message` on one line of stderr and exit with 2."""
        self.exit(2, f"{self.prog}: {message.removeprefix('argument ')}; see {self.prog} --help\n")


def whole_number(smallest: int, largest: int) -> Callable[[str], int]:
    """Return a converter for option values that are whole numbers in a range."""

    def convert(text: str) -> int:
        if re.fullmatch("-?[0-9]{1,20}", text) and smallest <= int(text) <= largest:
            return int(text)
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number from {smallest:,} to {largest:,}"
        )

    return convert


def number(above: float, largest: float) -> Callable[[str], float]:
    """Return a converter for option values that are numbers above one bound, up to the other."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not above < value <= largest:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a number above {above:g} and at most {largest:g}"
            )
        return value

    return convert


def name(text: str) -> str:
    """Convert an option value that becomes part of a folder's name."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a name of at most 100 letters, digits, '.', '_' and '-'"
        )
    return text


def folder(text: str) -> Path:
    """Convert an option value that names a folder, which need not exist yet."""
    if not text or "\0" in text or (Path(text).exists() and not Path(text).is_dir()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder")
    return Path(text)


def file(text: str) -> Path:
    """Convert an option value that names a file, which need not exist yet."""
    if not text or "\0" in text or Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a file")
    return Path(text)


def run(program: str, main: Callable[[], int]) -> int:
    """Return the exit code of `main`, with every expected failure told in one line on stderr."""
    try:
        return main()
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    except HandcnnError as error:
        print(f"{program}: {error}", file=sys.stderr)
    except MemoryError:
        print(f"{program}: out of memory; close other programs", file=sys.stderr)
    except OSError as error:
        print(f"{program}: {describe(error)}", file=sys.stderr)
    return 1


def describe(error: OSError) -> str:
    """Say what the system refused, to which file, and what usually helps."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            advice = "make room on the disk"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            advice = "choose a folder that you may write to"
        case _:
            advice = "see that its folder is there and can be written to"
    subject = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or type(error).__name__
    return f"{subject}{reason}; {advice}; what was saved before is unharmed"
