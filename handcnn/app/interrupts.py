"""Ctrl-C and SIGTERM turned into a stop at a moment when everything on disk is whole."""

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self, TypeVar

from handcnn.storage.files import remove_temporary_files

Item = TypeVar("Item")


class Stopped(BaseException):
    """The program was asked to stop; `exit_code` is 128 plus the signal's number.

    Not an Exception, or whoever guards against all failures would take it for one and go on.
    """

    def __init__(self, number: int, folder: Path | None) -> None:
        advice = "" if folder is None else f"; go on with: {resume_command(folder)}"
        super().__init__(f"stopped by {signal.Signals(number).name}, nothing is lost{advice}")
        self.exit_code = 128 + number


class StopRequests:
    """While this context is open, a first signal only asks; a second one ends the process.

    Attributes:
        folder: of the run, once it has a checkpoint to go on from. From then on a first signal
            waits for the next `check`; before, nothing can be lost and `Stopped` is raised at once.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self.folder: Path | None = None

    def __enter__(self) -> Self:
        self._former = {
            number: signal.signal(number, self._remember)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise `Stopped` if a signal has come."""
        if self.requested is not None:
            raise Stopped(self.requested, self.folder)

    def checked(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield `items`, checking before each."""
        for item in items:
            self.check()
            yield item

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None:
            self._leave(number)
        self.requested = number
        if self.folder is None:
            self.check()
        _write("\nstopping after this step; once more to leave at once\n")

    def _leave(self, number: int) -> None:
        """End the process; raising would let whatever is running now decide when."""
        if self.folder is not None:
            remove_temporary_files(self.folder)
        _write("\n")
        os._exit(128 + number)


def resume_command(folder: Path) -> str:
    """Return what to type to go on with the run in `folder`."""
    return f"{python_command()} train.py --resume {shlex.quote(str(folder))}"


def python_command() -> str:
    """Return what to type for this very Python, which `make` runs without activating it."""
    if shutil.which("python") == sys.executable:
        return "python"
    path = Path(sys.executable)
    return shlex.quote(
        str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    )


def _write(text: str) -> None:
    """Write to stderr, if there is one; not print, as the signal may have come amid a print."""
    with suppress(AttributeError, OSError):
        os.write(sys.stderr.fileno(), text.encode())
