"""Atomic writes: files are complete or absent.

Oracles: the file system itself, with plain reads and listings, during a write and after interrupted
writes. Processes killed during a write, full disks and locks are tested in test_reliability.py.
"""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import refused

from handcnn import HandcnnError
from handcnn.storage.files import atomic_write, remove_temporary_files

posix = pytest.mark.skipif(os.name != "posix", reason="needs the files and signals of POSIX")


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def former(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file that holds `former`, alone in the current folder."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"former")
    monkeypatch.chdir(tmp_path)
    return path


def assert_unharmed(former: Path) -> None:
    assert former.read_bytes() == b"former"
    assert listing(former.parent) == ["a.bin"]


def write(path: str | Path, content: bytes = b"new") -> None:
    with atomic_write(path) as file:
        file.write(content)


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("convert", [str, Path, os.path.relpath])
def test_the_content_appears_at_the_end(former: Path, convert: type, is_new: bool) -> None:
    if is_new:
        former.unlink()
    with atomic_write(convert(former)) as file:
        file.write(b"new")
        file.flush()
        assert not former.exists() if is_new else former.read_bytes() == b"former"
    assert former.read_bytes() == b"new"
    assert listing(former.parent) == ["a.bin"]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_a_write_that_fails_changes_nothing(former: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with atomic_write(former) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert_unharmed(former)


@posix
def test_the_path_that_was_given_is_told(former: Path) -> None:
    """Not the temporary name, which means nothing to users. A loop of links is not changed."""
    for name, target in (("one", "two"), ("two", "one")):
        (former.parent / name).symlink_to(target)
    for path in (former.parent / "none" / "a.bin", former.parent / "one"):
        with pytest.raises(OSError, match=r"No such file|symbolic links") as caught:
            write(path)
        assert caught.value.filename == str(path)
    assert listing(former.parent) == ["a.bin", "one", "two"]
    assert (former.parent / "one").is_symlink()


def test_a_symlink_stays_and_its_target_is_replaced(former: Path) -> None:
    links = former.parent / "links"
    links.mkdir()
    for name, target in (("relative", "../a.bin"), ("chain", links / "relative")):
        (links / name).symlink_to(target)
        write(links / name, name.encode())
        assert (links / name).is_symlink()
        assert former.read_bytes() == name.encode()
    (links / "dangling").symlink_to("new.bin")
    write(links / "dangling")
    assert (links / "new.bin").read_bytes() == b"new"
    assert listing(links) == ["chain", "dangling", "new.bin", "relative"]


def test_of_writes_at_a_time_each_is_whole_and_the_last_to_end_wins(former: Path) -> None:
    """Regression: both wrote into one temporary file, and the second found none to rename."""
    with atomic_write(former) as first:
        first.write(b"first, and longer")
        with atomic_write(former) as second:
            second.write(b"second")
        assert former.read_bytes() == b"second"
    assert former.read_bytes() == b"first, and longer"
    assert listing(former.parent) == ["a.bin"]


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    """Regression: it failed at 250 letters, because the temporary name was longer."""
    write(tmp_path / ("n" * 255))
    assert (tmp_path / ("n" * 255)).read_bytes() == b"new"


@posix
@pytest.mark.parametrize("permissions", [0o600, 0o664, 0o755])
def test_the_permissions_of_a_file_outlive_its_content(former: Path, permissions: int) -> None:
    former.chmod(permissions)
    write(former)
    assert former.read_bytes() == b"new"
    assert former.stat().st_mode & 0o7777 == permissions


@posix
def test_a_new_file_has_the_permissions_that_the_user_wants(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "a.bin")
    finally:
        os.umask(before)
    assert (tmp_path / "a.bin").stat().st_mode & 0o7777 == 0o640


def test_a_folder_that_cannot_be_opened_may_still_be_written_to(
    former: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mode 0333; root could open it. Regression: the file was written, but an error reported."""
    original = os.open

    def no_folders(path: str | Path, *args: int, **kwargs: int) -> int:
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", no_folders)
    write(former)
    assert former.read_bytes() == b"new"


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path.name)  # socket paths must be short


NOT_REGULAR = "not a regular file; choose another name"
PROTECTED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder": (Path.mkdir, NOT_REGULAR),
    "a FIFO": (lambda path: os.mkfifo(path), NOT_REGULAR),
    "a socket": (bind, NOT_REGULAR),
    "a link to a device": (lambda path: path.symlink_to(os.devnull), NOT_REGULAR),
    "a read-only file": (
        lambda path: path.touch(0o444),
        "read-only; choose another name, or make it writable",
    ),
}


@posix
@pytest.mark.parametrize(("make", "fault"), PROTECTED.values(), ids=PROTECTED)
def test_what_must_not_be_replaced_never_is(
    former: Path, make: Callable[[Path], object], fault: str
) -> None:
    former.unlink()
    make(former)
    before = former.lstat()
    message = refused(lambda: write("a.bin"), HandcnnError)
    assert message == f"a.bin cannot be written: it is {fault}"
    assert former.lstat() == before
    assert listing(former.parent) == ["a.bin"]


@posix
def test_the_bytes_are_on_the_disk_before_the_name_is_and_then_the_name(
    former: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut, the new name must not refer to an empty file."""
    flush, rename, flushed = os.fsync, os.replace, set[int]()  # inodes since their last change

    def flushing(file: int) -> None:
        flush(file)
        flushed.add(os.fstat(file).st_ino)

    def renaming(source: str | Path, target: str | Path) -> None:
        assert Path(source).read_bytes() == b"new"
        assert Path(source).stat().st_ino in flushed
        rename(source, target)
        flushed.discard(former.parent.stat().st_ino)

    monkeypatch.setattr(os, "fsync", flushing)
    monkeypatch.setattr(os, "replace", renaming)
    write(former)
    assert former.parent.stat().st_ino in flushed


def test_what_a_killed_process_left_is_removed_and_nothing_else(former: Path) -> None:
    for name in (".handcnn-123-4.tmp", ".mine.tmp", "b.tmp"):
        (former.parent / name).touch()
    remove_temporary_files(former.parent)
    assert listing(former.parent) == [".mine.tmp", "a.bin", "b.tmp"]


@posix
@pytest.mark.parametrize("ours", [False, True])
def test_the_temporary_file_of_a_living_process_stays_unless_that_is_about_to_end(
    former: Path, ours: bool
) -> None:
    try:
        with atomic_write(former) as file:
            file.write(b"new")
            remove_temporary_files(former.parent, ours=ours)
            assert len(listing(former.parent)) == 2 - ours
    except FileNotFoundError:
        assert ours
    assert former.read_bytes() == (b"former" if ours else b"new")
