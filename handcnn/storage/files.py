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
    the new one. A write that fails removes its temporary file and leaves `path` as it was. Of
    several writes at a time, the last to end wins. A symlink stays, and the file that it points to
    is replaced. The permissions of a former file stay, too.

    Raises:
        HandcnnError: `path` is a folder, a device, a pipe or a socket, which nothing may replace,
            or a file that nobody may write to.
        OSError: the folder is missing or not writable, or the disk is full; it names `path`.
    """
    permissions = _permissions(Path(path))
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f"{_own_names()}{os.urandom(8).hex()}.tmp")
    try:
        with temporary.open("xb") as file:
            with suppress(OSError):  # not every file system knows locks
                lock_file(file)  # it shows that this process lives
            if permissions is not None:
                with suppress(OSError):  # nor permissions
                    temporary.chmod(permissions)
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


def _own_names() -> str:
    """Return how the names of this process's temporary files begin."""
    return f".handcnn-{os.getpid()}-"


def _permissions(path: Path) -> int | None:
    """Return the permission bits of the file at `path`, None if there is nothing.

    Raises:
        HandcnnError: it must not be replaced. Renaming would replace even a device.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        fault = "it is not a regular file; choose another name"
    elif not mode & 0o222:
        fault = "it is read-only; choose another name, or make it writable"
    else:
        return stat.S_IMODE(mode)
    raise HandcnnError(f"{one_line(path)} cannot be written: {fault}")


def remove_temporary_files(folder: Path, *, own: bool = False) -> None:
    """Remove the temporary files of writes into `folder` whose process was killed.

    Args:
        folder: the folder.
        own: remove those of this process as well, which is about to end.
    """
    for temporary in folder.glob(".handcnn-*.tmp"):
        is_own = own and temporary.name.startswith(_own_names())
        if is_own or not _is_locked(temporary):
            with suppress(OSError):
                temporary.unlink()


def _is_locked(path: Path) -> bool:
    try:
        with path.open("r+b") as file:
            lock_file(file)
    except (BlockingIOError, PermissionError):
        return True
    except OSError:  # it has just gone, or the file system knows no locks
        pass
    return False


def flush_folder(folder: Path) -> None:
    """Make new names in `folder` survive a power cut, where the system can promise that."""
    if os.name == "posix":
        with suppress(OSError):  # not every file system can, and not every folder may be opened
            descriptor = os.open(folder, os.O_RDONLY)
            try:
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
