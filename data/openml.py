"""MNIST from OpenML by scikit-learn, made safe to wait for.

`sklearn.datasets.fetch_openml` fetches, caches and parses. This file adds what a user with a bad
connection or a damaged download needs: an end to every wait (`data.download`), one sentence for
every fault instead of a traceback or a warning, and a download cache that a fault leaves as it was.

The parser is scikit-learn's own ("liac-arff"). Its default one needs pandas, which handcnn does not
depend on, and was seen to fail on this data and then to delete the cached file.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import numpy as np
import numpy.typing as npt

from data.download import Download, TimedOutError, Timeouts
from handcnn.errors import HandcnnError

UInt8 = npt.NDArray[np.uint8]
Say = Callable[[str], None]
Check = Callable[[UInt8, UInt8], None]

SIDE = 28
NAME, VERSION, DATA_ID = "mnist_784", 1, 554
# What scikit-learn keeps of this data set, below <data home>/openml/openml.org, and the key that
# each description must hold.
ARFF_FILES = f"data/v1/download/*/{NAME}.arff.gz"
JSON_FILES = {
    f"api/v1/json/data/list/data_name/{NAME}/limit/2/data_version/{VERSION}.gz": "data",
    f"api/v1/json/data/{DATA_ID}.gz": "data_set_description",
    f"api/v1/json/data/features/{DATA_ID}.gz": "data_features",
    f"api/v1/json/data/qualities/{DATA_ID}.gz": "data_qualities",
}


TIMEOUTS = Timeouts()


class _UnreachableError(HandcnnError):
    """The network or this machine is at fault: other data would not help."""


def fetch_mnist(
    data_home: Path | None, check: Check, say: Say, timeouts: Timeouts = TIMEOUTS
) -> tuple[UInt8, UInt8]:
    """Return images (N, 28, 28) and labels (N,) from scikit-learn's download cache or OpenML.

    Args:
        data_home: the folder of scikit-learn's downloads; None for scikit-learn's own choice.
        check: raises a HandcnnError when images and labels are not what they should be.
        say: receives the messages.
        timeouts: when to give up.

    Raises:
        HandcnnError: why it did not work, in one sentence, naming host, file or folder.
    """
    folder = _download_folder(data_home)
    _quarantine(_damaged(folder), say)
    while True:
        found = _files(folder)
        try:
            return _fetch(folder, check, say, timeouts)
        except BaseException as error:
            for file in _files(folder) - found:  # a fault leaves nothing of its own behind
                with suppress(OSError):
                    file.unlink()
            outside = not isinstance(error, HandcnnError) or isinstance(error, _UnreachableError)
            if outside or not found:
                raise
            _quarantine({file: str(error) for file in sorted(found)}, say)


def _download_folder(data_home: Path | None) -> Path:
    from sklearn.datasets import get_data_home

    try:
        return Path(get_data_home(data_home)) / "openml" / "openml.org"
    except OSError as error:
        raise _UnreachableError(
            _cannot_use(error, data_home or "scikit-learn's data home")
        ) from error


def _cannot_use(error: OSError, place: object) -> str:
    place = error.filename or place
    return f"scikit-learn's download folder cannot be used: {place}: {error.strerror or error}"


def _files(folder: Path) -> set[Path]:
    """Return the files of MNIST in scikit-learn's cache, whole or not."""
    return {file for pattern in (*JSON_FILES, ARFF_FILES) for file in folder.glob(pattern)}


def _damaged(folder: Path) -> dict[Path, str]:
    """Return the cached files that scikit-learn would stumble on, each with its fault.

    It would delete them, even on a machine that has no way to get them again.
    """
    faults: dict[Path, str] = {}
    answers: dict[str, Any] = {}
    for name, key in JSON_FILES.items():
        file = folder / name
        try:
            answers[key] = json.loads(gzip.decompress(file.read_bytes()))[key]
        except FileNotFoundError:
            continue
        except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError):
            faults[file] = "it is incomplete or not what OpenML answers"
    description = answers.get("data_set_description")
    md5 = description.get("md5_checksum") if isinstance(description, dict) else None
    for file in folder.glob(ARFF_FILES):
        try:
            with gzip.open(file) as content:
                found = hashlib.file_digest(content, "md5").hexdigest()
        except (OSError, EOFError, zlib.error) as error:
            faults[file] = f"it is incomplete or damaged ({error})"
        else:
            if found != (md5 or found):
                faults[file] = "its md5 is not the one that OpenML names for it"
    return faults


def _quarantine(faults: dict[Path, str], say: Say) -> None:
    """Rename each file to `<name>.bad`, where scikit-learn does not look for it."""
    for file, fault in faults.items():
        try:
            file.replace(file.with_name(file.name + ".bad"))
        except OSError as error:
            raise _UnreachableError(
                f"{file} in scikit-learn's download cache cannot be used ({fault}) and could not "
                f"be quarantined ({error.strerror}); delete it and start again"
            ) from error
        say(f"{file} cannot be used: {fault}; it is quarantined as {file.name}.bad")


def _fetch(folder: Path, check: Check, say: Say, timeouts: Timeouts) -> tuple[UInt8, UInt8]:
    from sklearn.datasets import fetch_openml

    def work() -> Any:
        return fetch_openml(
            NAME,
            version=VERSION,
            data_home=folder.parent.parent,
            as_frame=False,
            parser="liac-arff",
            n_retries=1,
        )

    cached = next(folder.glob(ARFF_FILES), None)
    if cached:
        say(f"MNIST: parsing {cached}; this takes about 20 s, once")
    else:
        say(
            "MNIST: fetching 15 MB or more from openml.org and parsing them; a minute or more, once"
        )
    download = Download(timeouts)
    try:
        bunch = download.run(work)
        images, labels = _as_bytes(bunch.data, bunch.target)
        check(images, labels)
        return images, labels
    except Exception as error:
        raise _explain(error, download, folder) from error


def _as_bytes(pixels: Any, digits: Any) -> tuple[UInt8, UInt8]:
    """Turn scikit-learn's floats (N, 784) and strings (N,) into bytes, nothing lost on the way."""
    labels = np.asarray(digits).astype(np.int64)
    if not isinstance(pixels, np.ndarray) or pixels.shape != (len(labels), SIDE * SIDE):
        raise ValueError(f"there are pixels of shape {pixels.shape} for {len(labels)} labels")
    with np.errstate(invalid="ignore"):
        images = pixels.astype(np.uint8, order="C")  # they come column by column
    if not np.array_equal(images, pixels):
        raise ValueError("not every pixel is an integer in 0..255")
    if not np.array_equal(labels.astype(np.uint8), labels):
        raise ValueError(f"labels lie in {labels.min()}..{labels.max()}")
    return images.reshape(-1, SIDE, SIDE), labels.astype(np.uint8)


def _explain(error: Exception, download: Download, folder: Path) -> HandcnnError:
    """Return the sentence for what went wrong: who was asked, and what came."""
    match error:
        case TimedOutError():
            return _UnreachableError(str(error))
        case HTTPError():
            error.close()
            return _UnreachableError(
                f"{download.host} answered {error.code} {error.reason} to {download.url}"
            )
        case URLError():
            reason = getattr(error.reason, "strerror", None) or error.reason
            return _UnreachableError(f"{download.host} could not be reached ({reason})")
        case TimeoutError():
            silence = download.timeouts.silence
            return _UnreachableError(
                f"{download.host} fell silent for {silence:g} s while sending {download.url}"
            )
        case ConnectionError() | HTTPException():
            return _UnreachableError(f"{download.host} broke off the connection for {download.url}")
        case MemoryError():
            return _UnreachableError(
                "there is too little memory to parse MNIST, which takes about 1 GB"
            )
        case gzip.BadGzipFile() | EOFError() | zlib.error():
            fault = "is incomplete or damaged"
        case json.JSONDecodeError():
            fault = "is no JSON (a log-in page, perhaps?)"
        case OSError():
            return _UnreachableError(_cannot_use(error, folder))
        case HandcnnError():
            fault = f"is not MNIST: {error}"
        case ValueError() if "md5" in str(error):
            fault = "is damaged: its md5 is not the one that OpenML names for it"
        case _:
            text = str(error).partition("\n")[0]
            fault = f"is not MNIST as OpenML sends it ({type(error).__name__}: {text})"
    if download.url:
        return HandcnnError(f"what {download.host} sent for {download.url} {fault}")
    return HandcnnError(f"what scikit-learn's download cache {folder} holds {fault}")
