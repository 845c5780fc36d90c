"""The command line of every command: strict options, and one line for each failure."""

import argparse
import errno
import io
import os
import re
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from handcnn.errors import HandcnnError
from handcnn.text import escaped, one_line

PNG = b"\x89PNG\r\n\x1a\n"  # the first bytes of a PNG file
# Stricter than float(), which also reads '٣', ' 5' and '1_000'.
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


class Stopped(BaseException):
    """The command was asked to stop: the message says how to go on.

    It is not an Exception, so code that catches every Exception does not swallow it.
    """

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Parser(argparse.ArgumentParser):
    """An argument parser that reports each error on one line and exits with code 2."""

    def __init__(self, **kwargs: Any) -> None:
        # No abbreviations: a new option must not change the meaning of an old script.
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs
        )
        # All our options begin with two dashes, so -1e5 and -photo.jpg are values.
        self._negative_number_matcher = re.compile("-[^-]")

    def parse(self, arguments: list[str] | None) -> argparse.Namespace:
        """Return the options in `arguments`, by default those of the command line."""
        arguments = sys.argv[1:] if arguments is None else arguments
        for argument in arguments:
            if argument.startswith("--") and argument.endswith("=--"):  # argparse drops this value
                self.error(f"{argument.removesuffix('=--')}: '--' is not a value")
        return self.parse_args(arguments)

    def error(self, message: str) -> NoReturn:
        """Print `message` on one line of stderr and exit with code 2."""
        line = one_line(" ".join(message.removeprefix("argument ").split()))
        self.exit(2, f"{self.prog}: {line}; see {self.prog} --help\n")


def whole_number(smallest: int, largest: int) -> Callable[[str], int]:
    """Return a converter for whole numbers from `smallest` to `largest`."""

    def convert(text: str) -> int:
        if re.fullmatch("-?[0-9]{1,20}", text) and smallest <= int(text) <= largest:
            return int(text)
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number from {smallest:,} to {largest:,}"
        )

    return convert


def number(above: float, largest: float) -> Callable[[str], float]:
    """Return a converter for numbers greater than `above` and at most `largest`."""

    def convert(text: str) -> float:
        if NUMBER.fullmatch(text) and above < float(text) <= largest:
            return float(text)
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number above {above:g} and at most {largest:g}"
        )

    return convert


def one_of(*names: str) -> Callable[[str], str]:
    """Return a converter that accepts one of `names`."""

    def convert(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(names)}")
        return text

    return convert


def name_or_path(*names: str) -> Callable[[str], str]:
    """Return a converter that accepts one of `names`, or an existing path, made absolute."""

    def convert(text: str) -> str:
        if text in names:
            return text
        with suppress(OSError, ValueError):
            if text and Path(text).exists():
                return str(Path(text).resolve())
        raise argparse.ArgumentTypeError(
            f"{text!r} is not one of {', '.join(names)}, nor a file or folder"
        )

    return convert


def name(text: str) -> str:
    """Accept text that can be part of a folder's name."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a name of at most 100 letters, digits, '.', '_' and '-'"
        )
    return text


def folder(text: str) -> Path:
    """Accept the path of a folder, which may not exist yet."""
    if not text or _is_folder(text, Path(text)) is False:
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder")
    return Path(text)


def file(text: str) -> Path:
    """Accept the path of a file in an existing folder. The file may not exist yet."""
    if not text or _is_folder(text, Path(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a file")
    if not _is_folder(text, Path(text).parent):
        raise argparse.ArgumentTypeError(f"{text!r} is not in an existing folder")
    return Path(text)


def png(text: str) -> Path:
    """Accept the path of a PNG to write. If the file exists, it must be a PNG or empty."""
    path = file(text)
    if path.is_file():
        try:
            with path.open("rb") as former:
                start = former.read(len(PNG))
        except OSError as error:
            raise argparse.ArgumentTypeError(
                f"{text!r} cannot be used as a path: {error.strerror}"
            ) from None
        if start not in (PNG, b""):
            raise argparse.ArgumentTypeError(f"{text!r} is a file that is not a PNG")
    return path


def _is_folder(text: str, path: Path) -> bool | None:
    """Return whether `path` is a folder, or None if it does not exist."""
    try:
        path.stat()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used as a path: {reason}") from None
    return path.is_dir()


def run(program: str, main: Callable[[], int]) -> int:
    """Return the exit code of `main`; every expected failure becomes one line on stderr."""
    if not sys.warnoptions:  # warnings are for developers, who enable them with -W
        warnings.simplefilter("ignore")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names can hold any bytes
    try:
        code = main()
        print(end="", flush=True)
        return code
    except Stopped as stopped:
        code, message = stopped.exit_code, str(stopped)
    except KeyboardInterrupt:
        code, message = 130, "interrupted"
    except HandcnnError as error:
        code, message = 1, str(error)
    except MemoryError:
        code, message = 1, "out of memory; close other programs"
    except (ImportError, SystemError) as error:  # also raised when memory runs out
        advice = "close other programs, or install it again"
        code, message = 1, f"a library cannot be loaded: {one_line(error)}; {advice}"
    except OSError as error:
        code, message = 1, describe(error)
    _give_up_broken_output()
    with suppress(OSError):
        print_failure(program, message)
    return code


def print_failure(program: str, message: str) -> None:
    """Print a message on one line of stderr."""
    print(f"{program}: {escaped(message)}", file=sys.stderr, flush=True)


def describe(error: OSError) -> str:
    """Return a printable message: which file failed, why, and what usually helps."""
    match error.errno:
        case errno.EPIPE:
            return "the program that reads the output has quit"
        case errno.ENOSPC | errno.EDQUOT:
            advice = "free some disk space"
        case errno.EFBIG:
            advice = "raise the file size limit (ulimit -f)"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            advice = "choose a folder that you can write to"
        case errno.ENAMETOOLONG:
            advice = "choose a shorter name"
        case _:
            advice = "check that its folder exists and is writable"
    subject = error.filename or "the output"
    reason = error.strerror or type(error).__name__
    return f"{one_line(subject)}: {one_line(reason)}; {advice}"


def _give_up_broken_output() -> None:
    """Discard output that stdout cannot take; otherwise Python prints an error when it exits."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
