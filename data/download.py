"""A download with timeouts.

scikit-learn sets no time limit of its own. A limit for each read does not help against a server
that sends one byte a second, and looking up a name has no limit at all. So the download runs in a
thread of its own. Its connections are known here, and whoever waits for it can cut them and go on.
"""

import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from typing import Any, NamedTuple
from urllib.parse import urlsplit

POLL = 0.05  # seconds between two checks
THREAD = "download"
CLEAN_UP = 2.0  # seconds that a thread has to end after its connections were cut


class Timeouts(NamedTuple):
    """How many seconds to wait for each thing."""

    connect: float = 10.0  # until the first connection stands
    answers: float = 60.0  # for the small answers that come before the data, together
    silence: float = 30.0  # between two packets
    download: float = 1800.0  # for the data: 15 to 120 MB, perhaps shared by a classroom


class TimedOutError(Exception):
    """An answer did not come in time. The message is a sentence that names the host."""


class _CutError(BaseException):
    """Ends the thread, for which nobody waits any longer.

    It is not an Exception: scikit-learn would take that for a fault of the network and try again.
    """


class Download:
    """One download: what it asked for, since when, over which connections."""

    def __init__(self, timeouts: Timeouts) -> None:
        self.timeouts = timeouts
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
        """Return `work()`, whose requests by urllib are watched.

        Raises:
            TimedOutError: an answer did not come in time; the connections were cut.
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
                self._check_timeouts()
        except BaseException:  # TimedOutError, or Ctrl-C
            was_busy = self._busy()  # the cut soon changes it
            self._cut()
            if was_busy:
                worker.join(CLEAN_UP)
            raise

    def _busy(self) -> bool:
        return self.opening or any(one.fileno() != -1 for one in self.sockets)

    def _check_timeouts(self) -> None:
        if not self._busy():
            return  # parsing has no timeout
        waited = time.monotonic() - self.since
        if not self.sockets and waited > self.timeouts.connect:
            raise TimedOutError(
                f"{self.host} could not be reached within {self.timeouts.connect:g} s"
            )
        limit = self.timeouts.answers if _is_small(self.url) else self.timeouts.download
        if waited > limit:
            raise TimedOutError(f"{self.host} did not send all of {self.url} within {limit:g} s")

    def _cut(self) -> None:
        self.is_cut = True
        for one in self.sockets:
            with suppress(OSError):
                # The method of an SSL socket would also take its state from the thread that reads.
                socket.socket.shutdown(one, socket.SHUT_RDWR)

    def open(
        self, do_open: Callable[..., HTTPResponse], request: urllib.request.Request, make: Any
    ) -> HTTPResponse:
        """Ask for `request.full_url`; called by urllib, in the thread of the download."""
        if not self.url or _is_small(self.url) != _is_small(request.full_url):
            self.since = time.monotonic()
        self.url, self.opening = request.full_url, True
        request.timeout = self.timeouts.silence
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


def _handlers(download: Download) -> list[urllib.request.BaseHandler]:
    """Return urllib's handlers for http and https, with every request made by `download`."""

    class Http(urllib.request.HTTPHandler):
        def do_open(self, http_class: Any, req: Any, **options: Any) -> HTTPResponse:
            return download.open(super().do_open, req, partial(http_class, **options))

    class Https(urllib.request.HTTPSHandler):
        def do_open(self, http_class: Any, req: Any, **options: Any) -> HTTPResponse:
            return download.open(super().do_open, req, partial(http_class, **options))

    return [Http(), Https()]
