"""An end to every wait: a download that can be watched, and cut, from outside.

scikit-learn sets no time limit of its own, and a limit for a single read does not help against a
server that sends a byte a second, nor one for a connection against a name that is looked up for
ever. So the download runs in a thread of its own, its connections are known here, and whoever
waits for it can cut them and go on.
"""

import socket
import threading
import time
import urllib.request
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from typing import Any, NamedTuple
from urllib.parse import urlsplit

POLL = 0.05  # seconds between two looks at the clock
THREAD = "download"
LAST_WORDS = 2.0  # seconds for a thread that was cut off to tidy up


class Patience(NamedTuple):
    """How many seconds to wait: for what, and no longer."""

    connect: float = 10.0  # until the first connection stands
    answers: float = 60.0  # for the small answers that come before the data, together
    silence: float = 30.0  # between two packets
    download: float = 1800.0  # for the data: 15 to 120 MB, perhaps shared by a classroom


class OverdueError(Exception):
    """The patience is at its end; the message is a sentence about whom it was spent on."""


class _CutError(BaseException):
    """Ends the thread: nobody waits for it any longer.

    As an Exception it would be taken for a fault of the network, and another try be made.
    """


class Line:
    """The network as one download uses it: what was asked, since when, over which connections."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self.url = ""  # asked for last
        self.since = 0.0  # when the first of the small answers, or the data, was asked for
        self.opening = False
        self.is_cut = False
        self.sockets: list[socket.socket] = []

    @property
    def host(self) -> str:
        """Return host and port of what was asked for last; empty when nothing was."""
        return urlsplit(self.url).netloc

    def run(self, work: Callable[[], Any]) -> Any:
        """Return `work()`, whose requests by urllib are watched and whose warnings are silent.

        Raises:
            OverdueError: an answer did not come in time; the connections were cut.
            Exception: whatever `work` raised.
        """
        outcome: dict[str, Any] = {}

        def run() -> None:
            try:
                outcome["value"] = work()
            except Exception as error:
                outcome["error"] = error
            except _CutError:
                pass

        former = getattr(urllib.request, "_opener", None)
        urllib.request.install_opener(urllib.request.build_opener(*_handlers(self)))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._wait_for(threading.Thread(target=run, daemon=True, name=THREAD))
        finally:
            urllib.request.install_opener(former)
        if "error" in outcome:
            raise outcome["error"]
        return outcome["value"]

    def _wait_for(self, worker: threading.Thread) -> None:
        worker.start()
        try:
            while worker.is_alive():
                worker.join(POLL)
                self._look_at_the_clock()
        except BaseException:  # OverdueError, or Ctrl-C
            on_the_line = self._busy()  # asked first: the cut soon changes it
            self._cut()
            if on_the_line:
                worker.join(LAST_WORDS)
            raise

    def _busy(self) -> bool:
        return self.opening or any(one.fileno() != -1 for one in self.sockets)

    def _look_at_the_clock(self) -> None:
        if not self._busy():
            return  # parsing, which may take its time
        waited = time.monotonic() - self.since
        if not self.sockets and waited > self.patience.connect:
            raise OverdueError(
                f"{self.host} could not be reached within {self.patience.connect:g} s"
            )
        limit = self.patience.answers if _is_small(self.url) else self.patience.download
        if waited > limit:
            raise OverdueError(f"{self.host} did not send all of {self.url} within {limit:g} s")

    def _cut(self) -> None:
        self.is_cut = True
        for one in self.sockets:
            with suppress(OSError):
                # Not the method of an SSL socket, which would pull the rug from under its reader.
                socket.socket.shutdown(one, socket.SHUT_RDWR)

    def open(
        self, do_open: Callable[..., HTTPResponse], request: urllib.request.Request, make: Any
    ) -> HTTPResponse:
        """Ask for `request.full_url`; called by urllib, in the thread of the download."""
        if not self.url or _is_small(self.url) != _is_small(request.full_url):
            self.since = time.monotonic()
        self.url, self.opening = request.full_url, True
        request.timeout = self.patience.silence
        try:
            return do_open(lambda *args, **options: self._noted(make(*args, **options)), request)
        finally:
            self.opening = False

    def _noted(self, connection: HTTPConnection) -> HTTPConnection:
        connect = connection.connect

        def connect_and_note() -> None:
            self._end_if_cut()
            connect()
            self.sockets.append(connection.sock)
            self._end_if_cut()

        connection.connect = connect_and_note  # type: ignore[method-assign]
        return connection

    def _end_if_cut(self) -> None:
        if self.is_cut:
            raise _CutError


def _is_small(url: str) -> bool:
    return "/api/" in url


def _handlers(line: Line) -> list[urllib.request.BaseHandler]:
    """Return urllib's handlers for http and https, with every request going through `line`."""

    class Http(urllib.request.HTTPHandler):
        def do_open(self, http_class: Any, req: Any, **options: Any) -> HTTPResponse:
            return line.open(super().do_open, req, partial(http_class, **options))

    class Https(urllib.request.HTTPSHandler):
        def do_open(self, http_class: Any, req: Any, **options: Any) -> HTTPResponse:
            return line.open(super().do_open, req, partial(http_class, **options))

    return [Http(), Https()]
