"""Fetch a data set from OpenML with scikit-learn and parse it: a program for a separate process.

    python fetch.py TITLE NAME VERSION DATA_HOME

`data.openml` starts it. A process can be killed at any time, and when it ends, the gigabyte that
the parser needs is returned to the system. It writes one JSON list per line to stdout:

    ["made", PATH]            a new file or folder in scikit-learn's download cache
    ["bytes", COUNT]          how much of the data has arrived; 0 if nothing is awaited
    ["parsing", FILE]         all of it has arrived
    ["parsed", ROWS, SOURCE]  followed by the bytes of images (ROWS, 28, 28) and labels (ROWS,)
    ["failed", REASON]        a fault of the network or of this machine
    ["unusable", REASON]      a fault of the response or of the cache

scikit-learn does not report what it is waiting for, but Python's audit events show it.

The parser is scikit-learn's own ("liac-arff"). Its default parser needs pandas, on which handcnn
does not depend. It was also seen to fail on this data and then delete the cached file.
"""

import gzip
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

import numpy as np
from sklearn.datasets import fetch_openml

# Seconds to wait
CONNECT = 10.0  # for the first connection
ANSWERS = 60.0  # for all small responses that come before the data
SILENCE = 30.0  # between two packets
DOWNLOAD = 1800.0  # for the data: 15 to 150 MB, perhaps for a whole classroom
POLL = 0.1  # between two progress reports

SIDE = 28
writing = threading.Lock()


def main(title: str, name: str, version: str, data_home: str) -> None:
    """Report every step, then the images and labels, or why there are none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    socket.setdefaulttimeout(SILENCE)
    wait = Wait(data_home)
    sys.addaudithook(wait.listen)
    threading.Thread(target=wait.watch, daemon=True).start()
    try:
        bunch = fetch_openml(
            name,
            version=int(version),
            data_home=data_home,
            as_frame=False,
            parser="liac-arff",
            n_retries=1,
        )
        content = as_bytes(bunch.data, bunch.target)
    except Exception as error:
        report(*explain(error, title, wait))
    else:
        report("parsed", len(bunch.target), wait.source, content=content)
    os._exit(0)  # without waiting for the other thread


def report(*words: object, content: bytes = b"") -> None:
    """Send a line to the parent, followed by its content."""
    with writing:
        sys.stdout.buffer.write(json.dumps(words).encode() + b"\n" + content)
        sys.stdout.buffer.flush()


@dataclass
class Wait:
    """What scikit-learn is waiting for, and since when."""

    data_home: str
    url: str = ""  # of the last request
    since: float = 0.0  # time of the first request for small responses, or of that for the data
    is_connected: bool = False
    is_waiting: bool = False
    folder: Path | None = None  # holds the response until it is complete

    @property
    def host(self) -> str:
        """The host and port of the last request."""
        return urlsplit(self.url).netloc

    @property
    def source(self) -> str:
        """The source of the data, for messages."""
        if self.url:
            return f"the response of {self.host} to {self.url}"
        return f"the content of scikit-learn's download cache in {self.data_home}"

    def listen(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Update the state for an audit event."""
        if event == "urllib.Request":
            if not self.url or is_small(self.url) != is_small(arguments[0]):
                self.since = time.monotonic()
            self.url, self.is_waiting = arguments[0], True
        elif event == "http.client.send":
            self.is_connected = True
        elif event == "tempfile.mkdtemp":
            self.folder = Path(arguments[0])
            report("made", arguments[0])
        elif event == "os.rename" and self.folder in Path(os.fsdecode(arguments[0])).parents:
            self.is_waiting = False
            report("made", arguments[1])
            if not is_small(self.url):
                report("parsing", arguments[1])

    def watch(self) -> None:
        """End the process when a wait takes too long, or when the parent has ended."""
        try:
            while not (reason := self.overdue()):
                report("bytes", self.bytes())
                time.sleep(POLL)
            report("failed", reason)
        except OSError:  # the parent has ended
            if self.folder:
                shutil.rmtree(self.folder, ignore_errors=True)
        os._exit(1)

    def overdue(self) -> str:
        """Return what has not arrived in time, or "". Parsing has no time limit."""
        waited = time.monotonic() - self.since
        limit = ANSWERS if is_small(self.url) else DOWNLOAD
        if self.is_waiting and not self.is_connected and waited > CONNECT:
            return f"{self.host} could not be reached within {CONNECT:g} s"
        if self.is_waiting and waited > limit:
            return f"{self.host} did not send all of {self.url} within {limit:g} s"
        return ""

    def bytes(self) -> int:
        """Return how many bytes of the data have arrived."""
        if self.is_waiting and self.folder and not is_small(self.url):
            with suppress(OSError):
                return sum(file.stat().st_size for file in self.folder.iterdir())
        return 0


def is_small(url: str) -> bool:
    """Return whether this is the URL of one of the small responses before the data."""
    return "/api/" in url


def as_bytes(pixels: Any, labels: Any) -> bytes:
    """Turn scikit-learn's floats (N, 784) and strings (N,) into bytes.

    Raises:
        ValueError: the conversion would change a value.
    """
    numbers = np.asarray(labels).astype(np.int64)
    if not isinstance(pixels, np.ndarray) or pixels.shape != (len(numbers), SIDE * SIDE):
        raise ValueError(f"there are pixels of shape {pixels.shape} for {len(numbers)} labels")
    with np.errstate(invalid="ignore"):
        images = pixels.astype(np.uint8)
    if not np.array_equal(images, pixels):
        raise ValueError("not every pixel is an integer in 0..255")
    if not np.array_equal(numbers.astype(np.uint8), numbers):
        raise ValueError(f"labels lie in {numbers.min()}..{numbers.max()}")
    return images.tobytes() + numbers.astype(np.uint8).tobytes()


def explain(error: Exception, title: str, wait: Wait) -> tuple[str, str]:
    """Return "failed" or "unusable", and a sentence that explains the error."""
    match error:
        case HTTPError():
            return "failed", f"{wait.host} answered {error.code} {error.reason} to {wait.url}"
        case URLError():
            reason = getattr(error.reason, "strerror", None) or error.reason
            return "failed", f"{wait.host} could not be reached ({reason})"
        case TimeoutError():
            return "failed", f"{wait.host} sent nothing for {SILENCE:g} s while sending {wait.url}"
        case ConnectionError() | HTTPException():
            return "failed", f"{wait.host} closed the connection for {wait.url}"
        case MemoryError():
            return "failed", f"there is too little memory to parse {title}, which takes about 1 GB"
        case gzip.BadGzipFile() | EOFError() | zlib.error():
            fault = "is incomplete or damaged"
        case json.JSONDecodeError():
            fault = "is not JSON (a log-in page, perhaps?)"
        case OSError():
            place, reason = error.filename or wait.data_home, error.strerror or error
            return "failed", f"scikit-learn's download folder cannot be used: {place}: {reason}"
        case ValueError() if "md5" in str(error):
            fault = "is damaged: its MD5 is not the one that OpenML gives for it"
        case _:
            text = str(error).partition("\n")[0]
            fault = f"is not {title} as OpenML sends it ({type(error).__name__}: {text})"
    return "unusable", f"{wait.source} {fault}"


if __name__ == "__main__":
    main(*sys.argv[1:])
