"""MNIST from OpenML by scikit-learn, whose download cache a fault leaves as it was.

`sklearn.datasets.fetch_openml` fetches, caches and parses. This file adds what a user with a
damaged download needs: a look at the cached files first, because scikit-learn deletes those that it
cannot read, and one sentence for every fault instead of a traceback or a warning.
"""

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from handcnn.errors import HandcnnError

UInt8 = npt.NDArray[np.uint8]
Say = Callable[[str], None]
Check = Callable[[UInt8, UInt8], None]

TITLE, NAME, VERSION, DATA_ID, MEGABYTES = "MNIST", "mnist_784", 1, 554, 15
# What scikit-learn keeps of a data set, below <data home>/openml/openml.org, and the key that each
# description must hold.
JSON_FILES = {
    f"api/v1/json/data/list/data_name/{NAME}/limit/2/data_version/{VERSION}.gz": "data",
    f"api/v1/json/data/{DATA_ID}.gz": "data_set_description",
    f"api/v1/json/data/features/{DATA_ID}.gz": "data_features",
    f"api/v1/json/data/qualities/{DATA_ID}.gz": "data_qualities",
}
ARFF_FILES = f"data/v1/download/*/{NAME}.arff.gz"
SIDE = 28
PROGRAM = [sys.executable, "-P", str(Path(__file__).with_name("fetch.py"))]


class OutsideError(HandcnnError):
    """The network or this machine is at fault: other data would not help."""


def fetch_mnist(data_home: Path | None, check: Check, say: Say) -> tuple[UInt8, UInt8]:
    """Return images (N, 28, 28) and labels (N,) from scikit-learn's download cache or OpenML.

    Args:
        data_home: the folder of scikit-learn's downloads; None for scikit-learn's own choice.
        check: raises a HandcnnError when images and labels are not what they should be.
        say: receives the messages.

    Raises:
        HandcnnError: why it did not work, in one sentence, naming host, file or folder.
    """
    folder = _download_folder(data_home)
    _quarantine(_damaged(folder), say)
    found = _files(folder)
    try:
        return _fetch(folder, check, say)
    except OutsideError:
        raise
    except HandcnnError as error:
        if not found:
            raise
        _quarantine(dict.fromkeys(found, str(error)), say)
        return _fetch(folder, check, say)


def _fetch(folder: Path, check: Check, say: Say) -> tuple[UInt8, UInt8]:
    """Run the child process; after a fault, remove what it put into the download cache."""
    cached = next(folder.glob(ARFF_FILES), None)
    fetching = f"{TITLE}: fetching about {MEGABYTES} MB from openml.org, once"
    say(_parsing(cached) if cached else fetching)
    made: list[Path] = []
    command = [*PROGRAM, TITLE, NAME, str(VERSION), str(folder.parents[1])]
    quiet, pipe = subprocess.DEVNULL, subprocess.PIPE
    try:
        with (
            _bar(shown=cached is None) as bar,
            subprocess.Popen(command, stdin=quiet, stdout=pipe, stderr=quiet) as child,
        ):
            assert child.stdout
            try:
                images, labels, source = _follow(child.stdout, bar, say, made)
            finally:
                child.kill()
                last = [line for line in child.stdout if line.endswith(b"\n")]
                made += [Path(json.loads(line)[1]) for line in last if line[:7] == b'["made"']
        try:
            check(images, labels)
        except HandcnnError as error:
            raise HandcnnError(f"{source} is not {TITLE}: {error}") from error
    except BaseException:
        for path in made:
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise
    return images, labels


def _follow(reports: IO[bytes], bar: Any, say: Say, made: list[Path]) -> tuple[UInt8, UInt8, str]:
    """Return images, labels and who gave them; meanwhile, show how the child process gets on."""
    for line in reports:
        match json.loads(line):
            case ["bytes", count]:
                bar.update(count - bar.n)
            case ["made", path]:
                made.append(Path(path))
            case ["parsing", file]:
                bar.close()
                say(_parsing(file))
            case ["failed", reason]:
                raise OutsideError(reason)
            case ["unusable", reason]:
                raise HandcnnError(reason)
            case ["parsed", rows, source]:
                content = np.frombuffer(reports.read(rows * (SIDE * SIDE + 1)), np.uint8)
                if len(content) == rows * (SIDE * SIDE + 1):
                    images, labels = np.split(content, [-rows])
                    return images.reshape(rows, SIDE, SIDE), labels, source
    raise OutsideError(
        f"the process that fetches and parses {TITLE} was ended, perhaps for lack of memory: "
        "it takes about 1 GB"
    )


def _parsing(file: object) -> str:
    return f"{TITLE}: parsing {file}; this takes about 20 s, once"


def _bar(shown: bool) -> Any:
    """Return a progress bar, which shows itself on a terminal only."""
    from tqdm.auto import tqdm

    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    return tqdm(
        desc=TITLE,
        total=MEGABYTES * 1_000_000,
        unit="B",
        unit_scale=True,
        miniters=1,
        leave=False,
        disable=not (shown and is_terminal),
    )


def _download_folder(data_home: Path | None) -> Path:
    from sklearn.datasets import get_data_home

    try:
        return Path(get_data_home(data_home)) / "openml" / "openml.org"
    except OSError as error:
        place = error.filename or data_home or "scikit-learn's data home"
        raise OutsideError(
            f"scikit-learn's download folder cannot be used: {place}: {error.strerror or error}"
        ) from error


def _files(folder: Path) -> list[Path]:
    """Return the files of MNIST in scikit-learn's cache."""
    return [file for pattern in (*JSON_FILES, ARFF_FILES) for file in folder.glob(pattern)]


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
            raise OutsideError(
                f"{file} in scikit-learn's download cache cannot be used ({fault}) and could not "
                f"be quarantined ({error.strerror}); delete it and start again"
            ) from error
        say(f"{file} cannot be used: {fault}; it is quarantined as {file.name}.bad")
