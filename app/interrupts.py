"""Ctrl-C and SIGTERM, delayed until all files are complete."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from handcnn.commands.command_line import Stopped
from handcnn.commands.hints import resume_command
from handcnn.storage.files import remove_temporary_files

Item = TypeVar("Item")
STOPPING = "\nstopping after this step; press Ctrl-C again to quit now\n"
WAITING_SECONDS = 0.5  # between two looks for a signal; it also ends a sleep


class Interrupts:
    """Inside this context, the first signal requests a stop and the second one forces it.

    Attributes:
        folder: the run's folder, once it has a checkpoint. From then on the first signal takes
            effect at the next `check`. Before that, nothing can be lost, and `Stopped` is raised
            at once.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self.folder: Path | None = None
        self.is_finished = False
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only this one may set handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                # Keep ignoring Ctrl-C in a background job of a shell.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._former[number] = signal.signal(number, self._remember)
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
        """Raise `Stopped` if a signal has arrived."""
        if self.requested is not None:
            advice = ""
            if self.folder is not None and self.folder.is_dir():  # neither moved nor deleted
                advice = f"; resume with: {resume_command(self.folder)}"
            name = signal.Signals(self.requested).name
            raise Stopped(128 + self.requested, f"stopped by {name}; nothing is lost{advice}")

    def checked(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield `items`; call `check` before each."""
        for item in items:
            self.check()
            yield item

    def stop(self) -> None:
        """Request a stop as Ctrl-C does. Another thread may call this."""
        if self.requested is None:
            self.requested = signal.SIGINT
            _write(STOPPING)

    def finish(self) -> None:
        """Nothing can be lost any more: from now on, the first signal only ends `wait`."""
        self.is_finished = True

    def wait(self) -> None:
        """Wait for a signal, or return at once if one has arrived."""
        while self.requested is None:
            time.sleep(WAITING_SECONDS)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None:
            self._leave(number)
        self.requested = number
        if self.is_finished:
            return
        if self.folder is None:
            self.check()
        _write(STOPPING)

    def _leave(self, number: int) -> None:
        """End the process now. An exception might be delayed by the code that is running."""
        if self.folder is not None:
            remove_temporary_files(self.folder, ours=True)
        _write("\n")
        os._exit(128 + number)


def _write(text: str) -> None:
    """Write to stderr, if there is one. Not with `print`, which the signal may have interrupted."""
    with suppress(AttributeError, OSError):
        os.write(sys.stderr.fileno(), text.encode())
