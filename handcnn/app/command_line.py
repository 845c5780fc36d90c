"""What every program here shares: options read strictly, failures told in one line."""

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

from handcnn.app.interrupts import Stopped
from handcnn.errors import HandcnnError
from handcnn.text import escaped, one_line

PNG = b"\x89PNG\r\n\x1a\n"  # how such a file begins
LONGEST = 500  # characters in a message about an option
# Not all that float() takes: it also reads '٣', ' 5' and '1_000'.
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
NEGATIVE = re.compile(r"-\.?(\d|inf|nan)", re.IGNORECASE)


class Parser(argparse.ArgumentParser):
    """An argument parser whose every message is one line, with exit code 2."""

    def __init__(self, **kwargs: Any) -> None:
        # No abbreviations: a new option must not change what an old script means.
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs
        )

    def parse(self, arguments: list[str] | None) -> argparse.Namespace:
        """Return the options in `arguments`, by default those of the command line."""
        arguments = join_negative_values(sys.argv[1:] if arguments is None else arguments)
        for argument in arguments:
            # argparse drops this value and runs no check.
            if re.fullmatch("--[a-z-]+=--", argument):
                self.error(f"{argument.removesuffix('=--')}: '--' is not a value")
        return self.parse_args(arguments)

    def error(self, message: str) -> NoReturn:
        """Print `message` on one line of stderr and exit with 2."""
        line = " ".join(message.removeprefix("argument ").split())
        if len(line) > LONGEST:
            line = f"{line[:100]} ... {line[100 - LONGEST :]}"
        self.exit(2, f"{self.prog}: {escaped(line)}; see {self.prog} --help\n")


def join_negative_values(arguments: list[str]) -> list[str]:
    """Return `--rate -1e5` as `--rate=-1e5`, since argparse takes -1e5 for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and re.fullmatch("--[a-z-]+", joined[-1]) and NEGATIVE.match(argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


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
    """Return a converter for numbers above one bound, up to and including the other."""

    def convert(text: str) -> float:
        if NUMBER.fullmatch(text) and above < float(text) <= largest:
            return float(text)
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number above {above:g} and at most {largest:g}"
        )

    return convert


def fraction(text: str) -> float:
    """Accept a number from 0 up to, but not including, 1."""
    if NUMBER.fullmatch(text) and 0 <= float(text) < 1:
        return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0 and below 1")


def one_of(*names: str) -> Callable[[str], str]:
    """Return a converter that accepts one of `names`."""

    def convert(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(names)}")
        return text

    return convert


def name_or_path(*names: str) -> Callable[[str], str]:
    """Return a converter that accepts one of `names`, or a path that exists, made absolute."""

    def convert(text: str) -> str:
        if text in names:
            return text
        with suppress(OSError, ValueError):
            if text and Path(text).exists():
                return str(Path(text).resolve())
        raise argparse.ArgumentTypeError(
            f"{text!r} is not one of {', '.join(names)}, and no file or folder"
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
    """Accept the path of a folder, which need not exist yet."""
    if not text or _is_folder(text, Path(text)) is False:
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder")
    return Path(text)


def file(text: str) -> Path:
    """Accept the path of a file, which need not exist yet, in a folder that does."""
    if not text or _is_folder(text, Path(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a file")
    if not _is_folder(text, Path(text).parent):
        raise argparse.ArgumentTypeError(f"{text!r} is not a file in a folder that exists")
    return Path(text)


def png(text: str) -> Path:
    """Accept the path of a PNG to write. If a file is there, it must be one, or empty."""
    path = file(text)
    if path.is_file():
        try:
            with path.open("rb") as former:
                start = former.read(len(PNG))
        except OSError as error:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a path to use: {error.strerror}"
            ) from None
        if start not in (PNG, b""):
            raise argparse.ArgumentTypeError(f"{text!r} is a file that is not a PNG")
    return path


def _is_folder(text: str, path: Path) -> bool | None:
    """Return whether `path` is a folder, or None if nothing is there."""
    try:
        path.stat()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        raise argparse.ArgumentTypeError(f"{text!r} is not a path to use: {reason}") from None
    return path.is_dir()


def run(program: str, main: Callable[[], int]) -> int:
    """Return the exit code of `main`; every expected failure becomes one line on stderr."""
    if not sys.warnoptions:  # Python's warnings are for developers, who ask for them with -W
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
    except (ImportError, SystemError) as error:  # both for lack of memory, too
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
    """Return which file failed, why, and what usually helps, safe to print."""
    match error.errno:
        case errno.EPIPE:
            return "nobody reads the output any longer"
        case errno.ENOSPC | errno.EDQUOT:
            advice = "make room on the disk"
        case errno.EFBIG:
            advice = "raise the limit on the size of a file (ulimit -f)"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            advice = "choose a folder that you may write to"
        case errno.ENAMETOOLONG:
            advice = "choose a shorter name"
        case _:
            advice = "see that its folder is there and can be written to"
    subject = error.filename or "the output"
    reason = error.strerror or type(error).__name__
    return f"{one_line(subject)}: {one_line(reason)}; {advice}"


def _give_up_broken_output() -> None:
    """Discard what stdout refuses, or Python would complain about it when it exits."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
