"""Data sets from OpenML: a child process fetches and parses, this one waits and shows progress.

scikit-learn gets an empty download folder to fill, with copies of what is already in the user's
download cache. So whatever fails or is killed, that cache changes only when the data have been
checked. Every failure becomes one sentence.
"""

import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from data import download_cache
from data.catalogue import Known
from data.download_cache import OutsideError
from data.fetch import run
from data.progress import Say, progress_bar
from handcnn.errors import HandcnnError
from handcnn.text import escaped, one_line
from handcnn.types import UInt8

CONNECT_SECONDS = 10.0  # for the first connection
ANSWER_SECONDS = 60.0  # for all small responses that come before the data
DOWNLOAD_SECONDS = 1800.0  # for the data: 15 to 150 MB, perhaps for a whole classroom
POLL_SECONDS = 0.1  # between two looks at the download

CONTEXT: Any = multiprocessing.get_context("spawn")  # works on every system, and with threads
Check = Callable[[UInt8, UInt8, Known], None]


def fetch(known: Known, data_home: Path | None, check: Check, say: Say) -> tuple[UInt8, UInt8]:
    """Return images (N, 28, 28) and labels (N,) from scikit-learn's download cache or OpenML.

    Args:
        known: which data set.
        data_home: scikit-learn's download folder; None for its usual place.
        check: raises a HandcnnError if images and labels are not the published ones.
        say: is called with each message.

    Raises:
        HandcnnError: the data cannot be fetched or used. The message names host, file or folder.
    """
    folder = download_cache.find(data_home)
    download_cache.quarantine(download_cache.damaged(folder, known), say)
    found = download_cache.files(folder, known)
    try:
        return _fetch(known, folder, check, say)
    except OutsideError:
        raise
    except HandcnnError as error:
        if not found:
            raise
        download_cache.quarantine(dict.fromkeys(found, str(error)), say)
        return _fetch(known, folder, check, say)


def _fetch(known: Known, cache: Path, check: Check, say: Say) -> tuple[UInt8, UInt8]:
    """Run the child process in a folder of its own; keep what it fetched if the data are right."""
    with TemporaryDirectory(prefix="handcnn-", ignore_cleanup_errors=True) as home:
        folder = download_cache.find(Path(home))
        download_cache.copy(download_cache.files(cache, known), cache, folder)
        download = Download(known, cache, folder)
        with _child(known, Path(home)) as (child, pipe):
            images, labels = download.follow(child, pipe, say)
        try:
            check(images, labels, known)
        except HandcnnError as error:
            raise HandcnnError(f"{download.source} is not {known.title}: {error}") from error
        try:
            download_cache.copy(download_cache.files(folder, known), folder, cache)
        except OSError as error:
            say(
                f"{one_line(cache)}, scikit-learn's download cache, cannot keep {known.title}: "
                f"{error.strerror or error}"
            )
    return images, labels


@contextmanager
def _child(known: Known, home: Path) -> Iterator[tuple[Any, Connection]]:
    """Start the child process; end it at the end of the block, whatever happens."""
    if multiprocessing.current_process().daemon:
        raise OutsideError(
            f"{known.title} is parsed in a process of its own, which a daemonic process cannot "
            f"start; run `python -m data {known.name}` once before"
        )
    pipe, end = CONTEXT.Pipe(duplex=False)
    child = CONTEXT.Process(target=run, args=(end, known, home), daemon=True)
    with pipe:
        with end, _without_ctrl_c(), _without_main_module():
            child.start()
        try:
            yield child, pipe
        finally:
            child.kill()
            child.join()


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Ignore Ctrl-C for the milliseconds of the block; a process started in it always does."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may change this
        return
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


@contextmanager
def _without_main_module() -> Iterator[None]:
    """Hide the running script, which a new process would import and so, perhaps, run again."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@dataclass
class Download:
    """What the child process does.

    Attributes:
        known: the data set.
        cache: the user's download cache, for messages.
        folder: the download cache that the child process fills.
        url: of its last request; "" if it has requested nothing.
        since: time of its first request for small responses, or of that for the data.
        is_connected: whether a server has been reached.
    """

    known: Known
    cache: Path
    folder: Path
    url: str = ""
    since: float = 0.0
    is_connected: bool = False

    def follow(self, child: Any, pipe: Connection, say: Say) -> tuple[UInt8, UInt8]:
        """Show the progress of the child process; return its images and labels."""
        assert self.known.openml
        title, megabytes = self.known.title, self.known.openml.megabytes
        is_parsing = self.tell_parsing(say)
        if not is_parsing:
            say(f"{title}: fetching about {megabytes} MB from openml.org, once")
        with progress_bar(
            title, megabytes * 10**6, shown=not is_parsing, unit="B", unit_scale=True
        ) as bar:
            while not (message := _message(pipe)) or message[0] in ("request", "connected"):
                self.note(message)
                if not is_parsing and self.data_file():
                    bar.close()
                    is_parsing = self.tell_parsing(say)
                elif not is_parsing:
                    bar.update(self.bytes() - bar.n)
                if reason := self.overdue():
                    raise OutsideError(reason)
        if not is_parsing:
            self.tell_parsing(say)
        match message:
            case ["parsed", images, labels]:
                return images, labels
            case ["failed", reason]:
                raise OutsideError(escaped(reason))
            case ["unusable", fault]:
                raise HandcnnError(f"{self.source} {escaped(fault)}")
        child.join()
        raise OutsideError(_end(title, child.exitcode))

    def note(self, message: tuple[Any, ...]) -> None:
        """Note a request or a connection."""
        match message:
            case ["request", url]:
                if not self.url or _is_small(self.url) != _is_small(url):
                    self.since = time.monotonic()
                self.url = url
            case ["connected"]:
                self.is_connected = True

    @property
    def host(self) -> str:
        """The host and port of the last request."""
        return urlsplit(self.url).netloc

    @property
    def source(self) -> str:
        """The source of the data, for messages."""
        if self.url:
            return f"the response of {self.host} to {escaped(self.url)}"
        return f"the content of scikit-learn's download cache in {one_line(self.cache.parents[1])}"

    def data_file(self) -> Path | None:
        """Return the file of images and labels, once it is complete."""
        return download_cache.data_file(self.folder, self.known)

    def tell_parsing(self, say: Say) -> bool:
        """Say that the data are being parsed, if all of them are there."""
        if file := self.data_file():
            place = one_line(self.cache / file.relative_to(self.folder))
            say(f"{self.known.title}: parsing {place}; this takes about 20 s, once")
        return file is not None

    def overdue(self) -> str:
        """Return what has not arrived in time, or "". Parsing has no time limit."""
        if not self.url or (self.folder / f"{urlsplit(self.url).path.strip('/')}.gz").exists():
            return ""
        waited = time.monotonic() - self.since
        limit = ANSWER_SECONDS if _is_small(self.url) else DOWNLOAD_SECONDS
        if not self.is_connected and waited > CONNECT_SECONDS:
            return f"{self.host} could not be reached within {CONNECT_SECONDS:g} s"
        if waited > limit:
            return f"{self.host} did not send all of {escaped(self.url)} within {limit:g} s"
        return ""

    def bytes(self) -> int:
        """Return how many bytes of the data have arrived: scikit-learn writes them to a file."""
        if not self.url or _is_small(self.url):
            return 0
        with suppress(OSError):  # the file has just been moved
            return sum(file.stat().st_size for file in self.folder.glob("data/**/tmp*/*"))
        return 0


def _message(pipe: Connection) -> tuple[Any, ...]:
    """Return the next message of the child process; () if there is none yet; "ended" at the end."""
    try:
        message: tuple[Any, ...] = pipe.recv() if pipe.poll(POLL_SECONDS) else ()
    except EOFError:
        return ("ended",)
    return message


def _is_small(url: str) -> bool:
    """Return whether this is the URL of one of the small responses before the data."""
    return "/api/" in url


def _end(title: str, exit_code: int) -> str:
    process = f"the process that fetches and parses {title}"
    if exit_code < 0:
        return f"{process} was killed, perhaps because memory ran out: it needs about 1 GB"
    return f"{process} ended early, with exit code {exit_code}; start again"
