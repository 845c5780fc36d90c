"""Fetch a data set from OpenML with scikit-learn and parse it: the work of a child process.

A process can be killed at any time, and when it ends, the gigabyte that the parser needs is
returned to the system. `data.openml` starts `run`, which sends these messages through a pipe:

    ("request", URL)            scikit-learn asks for something
    ("connected",)              the server has accepted the connection
    ("parsed", IMAGES, LABELS)  (N, 28, 28) and (N,), both uint8
    ("failed", REASON)          a fault of the network or of this machine
    ("unusable", REASON)        a fault of the response or of the cache

The parser is scikit-learn's own ("liac-arff"). Its default parser needs pandas, on which handcnn
does not depend. It was also seen to fail on this data and then delete the cached file.
"""

import gzip
import json
import os
import shutil
import signal
import socket
import warnings
import zlib
from contextlib import suppress
from http.client import HTTPException
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, Request, build_opener, install_opener

import numpy as np

from data.catalogue import SIDE, Known
from handcnn.types import UInt8

SILENCE_SECONDS = 30.0  # seconds to wait between two packets


def run(parent: Connection, known: Known, home: Path) -> None:
    """Fetch and parse a data set, and tell the parent process everything.

    Args:
        parent: the pipe to the parent process.
        known: which data set; it has an address at OpenML.
        home: scikit-learn's download folder. If the parent process is killed, it is deleted.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    Thread(target=_end_with_the_parent, args=(home,), daemon=True).start()
    warnings.simplefilter("ignore")
    socket.setdefaulttimeout(SILENCE_SECONDS)
    handler = ReportingHandler(parent)
    install_opener(build_opener(handler))
    with suppress(BrokenPipeError):  # the parent was killed
        try:
            parent.send(("parsed", *_fetch(known, home)))
        except BrokenPipeError:
            raise
        except Exception as error:
            parent.send(explain(error, known.title, handler.url, home))


def _end_with_the_parent(home: Path) -> None:
    parent = parent_process()
    assert parent
    parent.join()
    shutil.rmtree(home, ignore_errors=True)
    os._exit(1)


def _fetch(known: Known, home: Path) -> tuple[UInt8, UInt8]:
    from sklearn.datasets import fetch_openml

    assert known.openml
    bunch = fetch_openml(
        known.openml.name,
        version=known.openml.version,
        data_home=home,
        as_frame=False,
        parser="liac-arff",
        n_retries=1,
    )
    return as_bytes(bunch.data, bunch.target)


class ReportingHandler(HTTPHandler, HTTPSHandler):
    """Opens URLs as usual, and tells the parent process of every request and connection."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self.pipe = pipe
        self.url = ""  # of the last request

    def do_open(self, http_class: Any, req: Request, **options: Any) -> Any:
        """Send a request and return the response."""
        if not req.unverifiable:  # false for a redirect, which belongs to the request before it
            self.url = req.full_url
            self.pipe.send(("request", self.url))
        pipe = self.pipe

        class ReportingConnection(http_class):  # type: ignore[misc]
            def connect(self) -> None:
                super().connect()
                pipe.send(("connected",))

        return super().do_open(ReportingConnection, req, **options)


def as_bytes(pixels: Any, labels: Any) -> tuple[UInt8, UInt8]:
    """Turn scikit-learn's floats (N, 784) and strings (N,) into images (N, 28, 28) and labels (N,).

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
    return images.reshape(-1, SIDE, SIDE), numbers.astype(np.uint8)


def explain(error: Exception, title: str, url: str, home: Path) -> tuple[str, str]:
    """Return "failed" and a sentence, or "unusable" and the rest of a sentence about the data."""
    host = urlsplit(url).netloc
    match error:
        case HTTPError():
            return "failed", f"{host} answered {error.code} {error.reason} to {url}"
        case URLError():
            reason = getattr(error.reason, "strerror", None) or error.reason
            return "failed", f"{host} could not be reached ({reason})"
        case TimeoutError():
            return "failed", f"{host} sent nothing for {SILENCE_SECONDS:g} s while sending {url}"
        case ConnectionError() | HTTPException():
            return "failed", f"{host} closed the connection for {url}"
        case MemoryError():
            return "failed", f"there is too little memory to parse {title}, which takes about 1 GB"
        case gzip.BadGzipFile() | EOFError() | zlib.error():
            fault = "is incomplete or damaged"
        case json.JSONDecodeError():
            fault = "is not JSON (a log-in page, perhaps?)"
        case OSError():
            place, reason = home.parent, error.strerror or error
            return "failed", f"{title} cannot be downloaded to {place}: {reason}"
        case ValueError() if "md5" in str(error):
            fault = "is damaged: its MD5 is not the one that OpenML gives for it"
        case _:
            text = str(error).partition("\n")[0]
            fault = f"is not {title} as OpenML sends it ({type(error).__name__}: {text})"
    return "unusable", fault
