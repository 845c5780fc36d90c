"""Files read and written safely: only regular files are opened, and writes are atomic.

A written file is complete or absent, so no crash destroys what was saved before. Opening a pipe
would wait for ever, and reading a device might never end.
"""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from handcnn.errors import HandcnnError
from handcnn.text import one_line


class UnreadableError(HandcnnError):
    """A file that cannot be opened or read, so that its content is unknown."""


def open_file(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file to read its bytes.

    Raises:
        UnreadableError: the file is missing or cannot be opened.
        HandcnnError: it is a folder, a pipe or a device.
    """
    try:
        if stat.S_ISREG(Path(path).stat().st_mode):
            return Path(path).open("rb")
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise unreadable(path, error) from error
    raise HandcnnError(f"{one_line(path)} is not a file")


def unreadable(path: str | os.PathLike[str], error: OSError | ValueError) -> UnreadableError:
    """Return the error for a file that cannot be opened or read."""
    cause = getattr(error, "strerror", None) or error
    return UnreadableError(f"cannot read {one_line(path)}: {one_line(cause)}")


def unusable(path: str | os.PathLike[str], fault: object) -> HandcnnError:
    """Return the error for a file that was read but must not be used."""
    return HandcnnError(f"{one_line(path)} cannot be used: {one_line(fault)}")


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary file whose content appears under `path` only when it is complete.

    The bytes go to a hidden temporary file in the same folder. They are flushed to the disk, then
    the file is renamed to `path`. Whenever the process stops, `path` holds its old or its new
    content. A write that fails removes its temporary file and does not change `path`. Of several
    simultaneous writes, the last to finish wins. A symlink stays, and the file that it points to is
    replaced. The file keeps its permissions.

    Raises:
        HandcnnError: `path` is a folder, a device, a pipe or a socket, which must not be replaced,
            or a read-only file.
        OSError: the folder is missing or not writable, or the disk is full. The error names `path`.
    """
    permissions = _permissions(Path(path))
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f"{_our_prefix()}{os.urandom(8).hex()}.tmp")
    try:
        with temporary.open("xb") as file:
            with suppress(OSError):  # not every file system has locks
                lock_file(file)  # shows that this process is running
            if permissions is not None:
                with suppress(OSError):  # not every file system has permissions
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


def _our_prefix() -> str:
    """Return the prefix of the names of this process's temporary files."""
    return f".handcnn-{os.getpid()}-"


def _permissions(path: Path) -> int | None:
    """Return the permission bits of the file at `path`, or None if there is no file.

    Raises:
        HandcnnError: the file must not be replaced. Renaming would replace even a device.
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


def remove_temporary_files(folder: Path, *, ours: bool = False) -> None:
    """Remove temporary files in `folder` whose process was killed.

    Args:
        folder: the folder.
        ours: also remove those of this process, because it is about to end.
    """
    for temporary in folder.glob(".handcnn-*.tmp"):
        is_ours = ours and temporary.name.startswith(_our_prefix())
        if is_ours or not _is_locked(temporary):
            with suppress(OSError):
                temporary.unlink()


def _is_locked(path: Path) -> bool:
    try:
        with path.open("r+b") as file:
            lock_file(file)
    except (BlockingIOError, PermissionError):
        return True
    except OSError:  # the file has just been removed, or the file system has no locks
        pass
    return False


def flush_folder(folder: Path) -> None:
    """Make new names in `folder` survive a power cut, if the system supports that."""
    with opened_folder(folder) as descriptor, suppress(OSError):  # some file systems cannot
        if descriptor is not None:
            os.fsync(descriptor)


@contextmanager
def opened_folder(folder: Path) -> Iterator[int | None]:
    """Open a folder and yield its descriptor, or None if that is not possible here."""
    descriptor = None
    if os.name == "posix":
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def lock_file(file: BinaryIO | int) -> None:
    """Lock an open file, or the descriptor of a folder, until it is closed or this process dies.

    Raises:
        BlockingIOError, PermissionError: another process holds the lock.
        OSError: the file system has no locks.
    """
    if sys.platform == "win32":
        import msvcrt

        descriptor = file if isinstance(file, int) else file.fileno()
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
