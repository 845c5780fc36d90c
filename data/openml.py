"""Data sets from OpenML: start the download process, wait for it, and show its progress.

`sklearn.datasets.fetch_openml` fetches, caches and parses, in the process of `data.fetch`. Every
failure becomes one sentence, and what it left in scikit-learn's download cache is removed.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from data import download_cache
from data.catalogue import SIDE, Known
from data.download_cache import OutsideError, Say
from data.progress import progress_bar
from handcnn.errors import HandcnnError
from handcnn.text import escaped, one_line
from handcnn.types import UInt8

Check = Callable[[UInt8, UInt8, Known], None]

PROGRAM = [sys.executable, "-P", str(Path(__file__).with_name("fetch.py"))]


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


def _fetch(known: Known, folder: Path, check: Check, say: Say) -> tuple[UInt8, UInt8]:
    """Run the child process; after a failure, remove what it put into the download cache."""
    assert known.openml
    name, version, _, megabytes = known.openml
    cached = download_cache.data_file(folder, known)
    fetching = f"{known.title}: fetching about {megabytes} MB from openml.org, once"
    say(_parsing(known, cached) if cached else fetching)
    made: list[Path] = []
    command = [*PROGRAM, known.title, name, str(version), str(folder.parents[1])]
    options = {"unit": "B", "unit_scale": True}
    try:
        with progress_bar(known.title, megabytes * 10**6, shown=not cached, **options) as bar:
            images, labels, source = _run(command, known, bar, say, made)
        try:
            check(images, labels, known)
        except HandcnnError as error:
            raise HandcnnError(f"{source} is not {known.title}: {error}") from error
    except BaseException:
        for path in made:
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise
    return images, labels


def _run(
    command: list[str], known: Known, bar: Any, say: Say, made: list[Path]
) -> tuple[UInt8, UInt8, str]:
    """Run a process until its last report, or kill it after an exception."""
    quiet, pipe = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(command, stdin=quiet, stdout=pipe, stderr=quiet) as child:
        assert child.stdout
        try:
            return _follow(child.stdout, known, bar, say, made)
        finally:
            child.kill()
            for line in child.stdout:
                if line.startswith(b'["made"') and line.endswith(b"\n"):
                    made.append(Path(json.loads(line)[1]))


def _follow(
    reports: IO[bytes], known: Known, bar: Any, say: Say, made: list[Path]
) -> tuple[UInt8, UInt8, str]:
    """Show the progress of the child process; return images, labels and their source."""
    for line in reports:
        match json.loads(line):
            case ["bytes", count]:
                bar.update(count - bar.n)
            case ["made", path]:
                made.append(Path(path))
            case ["parsing", file]:
                bar.close()
                say(_parsing(known, file))
            case ["failed", reason]:
                raise OutsideError(escaped(reason))
            case ["unusable", reason]:
                raise HandcnnError(escaped(reason))
            case ["parsed", rows, source]:
                content = np.frombuffer(reports.read(rows * (SIDE * SIDE + 1)), np.uint8)
                if len(content) == rows * (SIDE * SIDE + 1):
                    images, labels = np.split(content, [rows * SIDE * SIDE])
                    return images.reshape(rows, SIDE, SIDE), labels, escaped(source)
    raise OutsideError(
        f"the process that fetches and parses {known.title} was killed, perhaps because memory ran "
        "out: it needs about 1 GB"
    )


def _parsing(known: Known, file: object) -> str:
    return f"{known.title}: parsing {one_line(file)}; this takes about 20 s, once"
