"""Ctrl-C and SIGTERM turned into a stop between two training steps, when everything is whole."""

import os
import signal
from types import FrameType, TracebackType
from typing import Self


class Stopped(Exception):
    """Training was asked to stop; `exit_code` is 128 plus the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class StopRequests:
    """While this context is open, a first signal only asks; a second one ends the process."""

    def __init__(self) -> None:
        self.requested: int | None = None

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
            raise Stopped(self.requested)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None:
            raise SystemExit(128 + number)
        self.requested = number
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"\nstopping after this step; once more to leave at once\n")
