"""Files that are either complete or not there, so that no crash costs what was saved before."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary file whose content appears under `path` only when it is complete.

    The bytes go to a hidden temporary file in the same folder, are flushed to the disk, and the
    file is then renamed to `path`. Whenever the process stops, `path` holds its former content or
    the new one; a write that fails removes its temporary file and leaves `path` as it was.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full; it names `path`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        flush_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def remove_temporary_files(folder: Path) -> None:
    """Remove what writes into `folder` left behind when their process was killed."""
    with suppress(OSError):
        for temporary in folder.glob(".*.tmp"):
            temporary.unlink()


def flush_folder(folder: Path) -> None:
    """Make new names inside `folder` survive a power cut, where the system can promise that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # not every file system can
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def lock_file(file: BinaryIO) -> None:
    """Lock an open file until it is closed or this process ends, however it ends.

    Raises:
        BlockingIOError, PermissionError: another process holds the lock.
        OSError: the file system knows no locks.
    """
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
