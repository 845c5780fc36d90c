"""scikit-learn's cache of downloads from OpenML, checked before scikit-learn uses it.

scikit-learn deletes cached files that it cannot read, even if it cannot download them again. So the
files are checked first, and unusable ones are renamed.
"""

import gzip
import hashlib
import json
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data.catalogue import Known
from data.progress import Say
from handcnn.errors import HandcnnError
from handcnn.storage.files import atomic_write
from handcnn.text import one_line

MAX_JSON_BYTES = 10_000_000  # OpenML's responses about a data set of 785 columns have 200 kB
MAX_DATA_BYTES = 1_000_000_000  # MNIST as text has 128 MB

BROKEN = (gzip.BadGzipFile, EOFError, zlib.error)
NO_JSON = (json.JSONDecodeError, UnicodeDecodeError, RecursionError)


class OutsideError(HandcnnError):
    """A fault of the network or of this machine, which other data would not solve."""


def find(data_home: Path | None) -> Path:
    """Return the folder `openml/openml.org` in scikit-learn's download folder.

    Raises:
        OutsideError: the download folder cannot be made.
    """
    from sklearn.datasets import get_data_home

    try:
        return Path(get_data_home(data_home)) / "openml" / "openml.org"
    except OSError as error:
        place = error.filename or data_home or "scikit-learn's data home"
        raise OutsideError(
            f"scikit-learn's download folder cannot be used: {one_line(place)}: "
            f"{error.strerror or error}"
        ) from error


def _answers(known: Known) -> dict[str, str]:
    """Return the cached JSON responses of a data set, each with a key that it must contain."""
    assert known.openml
    name, version, data_id, _ = known.openml
    return {
        f"api/v1/json/data/list/data_name/{name.lower()}/limit/2/data_version/{version}.gz": "data",
        f"api/v1/json/data/{data_id}.gz": "data_set_description",
        f"api/v1/json/data/features/{data_id}.gz": "data_features",
        f"api/v1/json/data/qualities/{data_id}.gz": "data_qualities",
    }


def data_file(folder: Path, known: Known) -> Path | None:
    """Return the cached file of images and labels, if there is one."""
    assert known.openml
    return next(folder.glob(f"data/v1/download/*/{known.openml.name}.arff.gz"), None)


def files(folder: Path, known: Known) -> list[Path]:
    """Return all cached files of a data set."""
    answers = [folder / name for name in _answers(known)]
    return [file for file in (*answers, data_file(folder, known)) if file and file.exists()]


def copy(files: Iterable[Path], folder: Path, target: Path) -> None:
    """Copy files of one download cache to another one, if they are not there yet.

    Raises:
        OSError: a file cannot be written. The others and half a file never are.
    """
    for file in files:
        place = target / file.relative_to(folder)
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as source, atomic_write(place) as new:
                shutil.copyfileobj(source, new)


def damaged(folder: Path, known: Known) -> dict[Path, str]:
    """Return the damaged cached files, each with its fault.

    Raises:
        OutsideError: a file cannot be read now; it may be intact.
    """
    faults: dict[Path, str] = {}
    answers: dict[str, Any] = {}
    for name, key in _answers(known).items():
        file = folder / name
        try:
            with _opened(file) as content:
                answers[key] = json.loads(content.read(MAX_JSON_BYTES))[key]
        except FileNotFoundError:
            continue
        except (*BROKEN, *NO_JSON, LookupError, TypeError):
            faults[file] = "it is incomplete or not a response of OpenML"
    description = answers.get("data_set_description")
    md5 = description.get("md5_checksum") if isinstance(description, dict) else None
    if data := data_file(folder, known):
        try:
            with _opened(data) as content:
                found = _md5(content)
            if found != (md5 or found):
                faults[data] = "its MD5 is not the one that OpenML gives for it"
        except BROKEN as error:
            faults[data] = f"it is incomplete or damaged ({error})"
    return faults


def _md5(content: gzip.GzipFile) -> str:
    """Return the MD5 of a file, or of its first gigabyte if it is larger than any data set."""
    digest, rest = hashlib.md5(usedforsecurity=False), MAX_DATA_BYTES
    while rest > 0 and (piece := content.read(1_000_000)):
        digest.update(piece)
        rest -= len(piece)
    return digest.hexdigest()


@contextmanager
def _opened(file: Path) -> Iterator[gzip.GzipFile]:
    """Open a gzipped file.

    Raises:
        OutsideError: it cannot be opened or read, which does not mean that it is damaged.
    """
    try:
        if file.exists() and not file.is_file():  # opening a pipe would wait for ever
            raise OSError(None, "it is not a file")
        with gzip.open(file) as content:
            yield content
    except (FileNotFoundError, *BROKEN):
        raise
    except OSError as error:
        raise OutsideError(
            f"{one_line(file)} in scikit-learn's download cache cannot be read: "
            f"{error.strerror or error}"
        ) from error


def quarantine(faults: Mapping[Path, str], say: Say) -> None:
    """Rename each file to `<name>.bad`, so that scikit-learn does not find it.

    Raises:
        OutsideError: a file cannot be renamed.
    """
    for file, fault in faults.items():
        try:
            file.replace(file.with_name(file.name + ".bad"))
        except OSError as error:
            raise OutsideError(
                f"{one_line(file)} in scikit-learn's download cache cannot be used ({fault}) and "
                f"could not be quarantined ({error.strerror}); delete it and start again"
            ) from error
        bad = one_line(f"{file.name}.bad")
        say(f"{one_line(file)} cannot be used: {fault}; it is quarantined as {bad}")
