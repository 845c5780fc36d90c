"""What both programs share at the command line: options read strictly, failures said in a line."""

import argparse
import math
import re
import sys
from collections.abc import Callable
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
        if not text.isascii() or not text.strip().lstrip("-").isdigit() or len(text) > 20:
            value = smallest - 1
        else:
            value = int(text)
        if not smallest <= value <= largest:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a whole number from {smallest:,} to {largest:,}"
            )
        return value

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


def file_name(text: str) -> str:
    """Convert an option value that becomes part of a file's name."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a name of letters, digits, '.', '_' and '-', 100 at most"
        )
    return text


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
    subject = f"{error.filename}: " if error.filename else ""
    return (
        f"{subject}{error.strerror or error}; what was saved before is unharmed: make room or "
        "choose a writable folder, and start again"
    )
