"""The command line of every command: strict options, and one line for each failure."""

import argparse
import errno
import io
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from handcnn.commands.hints import missing_library
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
    """An argument parser that reports each error on one line and exits with code 2.

    Args:
        prog: the name of the program.
        description: the first part of the help text; PROGRAM stands for how to start the program.
    """

    def __init__(self, prog: str, description: str | None, **kwargs: Any) -> None:
        start = f"python {prog}" if prog.endswith(".py") else prog
        # No abbreviations: a new option must not change the meaning of an old script.
        super().__init__(
            prog=prog,
            description=(description or "").replace("PROGRAM", start),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **kwargs,
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
            if text and path(text).exists():
                return str(path(text).resolve())
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


def path(text: str) -> Path:
    """Return a typed path; ~ is the home folder, also in --option=~/x, where shells leave it."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser fails if there is none


def folder(text: str) -> Path:
    """Accept the path of a folder, which may not exist yet."""
    if not text or _is_folder(text, path(text)) is False:
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder")
    return path(text)


def file(text: str) -> Path:
    """Accept the path of a file in an existing folder. The file may not exist yet."""
    if not text or _is_folder(text, path(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a file")
    if not _is_folder(text, path(text).parent):
        raise argparse.ArgumentTypeError(f"{text!r} is not in an existing folder")
    return path(text)


def png(text: str) -> Path:
    """Accept the path of a PNG to write. If the file exists, it must be a PNG or empty."""
    target = file(text)
    if target.is_file():
        try:
            with target.open("rb") as former:
                start = former.read(len(PNG))
        except OSError as error:
            raise argparse.ArgumentTypeError(
                f"{text!r} cannot be used as a path: {error.strerror}"
            ) from None
        if start not in (PNG, b""):
            raise argparse.ArgumentTypeError(f"{text!r} is a file that is not a PNG")
    return target


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
    """Return the exit code of `main`; every expected failure becomes one line on stderr.

    SIGTERM raises KeyboardInterrupt, as Ctrl-C does, so that temporary files are removed.
    """
    with _termination() as signals:
        try:
            return _run(program, main, signals)
        except KeyboardInterrupt:  # a second signal, while the first was being reported
            return 143 if signals else 130


@contextmanager
def _termination() -> Iterator[list[int]]:
    """Yield the list of the SIGTERMs received in this block; each one raises KeyboardInterrupt."""
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield received  # the program has its own way to stop
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _run(program: str, main: Callable[[], int], signals: list[int]) -> int:
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
        code, message = (143, "stopped by SIGTERM") if signals else (130, "interrupted")
    except HandcnnError as error:
        code, message = 1, str(error)
    except MemoryError:
        code, message = 1, "out of memory; close other programs"
    except ModuleNotFoundError as error:
        code, message = 1, missing_library(error)
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
        case errno.EMFILE | errno.ENFILE:
            advice = "close other programs, or raise the limit of open files (ulimit -n)"
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
