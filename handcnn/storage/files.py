"""Files that are complete or not there, so that no crash costs what was saved before."""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from handcnn.errors import HandcnnError
from handcnn.text import one_line


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary file whose content appears under `path` only when it is complete.

    The bytes go to a hidden temporary file in the same folder. They are flushed to the disk, then
    the file is renamed to `path`. Whenever the process stops, `path` holds its former content or
    the new one. A write that fails removes its temporary file and leaves `path` as it was. A
    symlink stays, and the file that it points to is replaced.

    Raises:
        HandcnnError: `path` is a folder, a device, a pipe or a socket, which nothing may replace.
        OSError: the folder is missing or not writable, or the disk is full; it names `path`.
    """
    _refuse_special(Path(path))
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        flush_folder(target.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _refuse_special(path: Path) -> None:
    """Refuse what is there and is not a regular file; renaming would replace even a device."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise HandcnnError(
            f"{one_line(path)} cannot be written: it is not a regular file; choose another name"
        )


def remove_temporary_files(folder: Path) -> None:
    """Remove the temporary files of writes into `folder` whose process was killed."""
    with suppress(OSError):
        for temporary in folder.glob(".*.tmp"):
            temporary.unlink()


def flush_folder(folder: Path) -> None:
    """Make new names in `folder` survive a power cut, where the system can promise that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # not every file system can
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def lock_file(file: BinaryIO) -> None:
    """Lock an open file until it is closed or this process ends, in whatever way.

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
