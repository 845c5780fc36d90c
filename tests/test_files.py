"""Files that are complete or not there.

Oracles: the file system itself, looked at with plain reads and listings, in the middle of a
write and after writes that were broken off in different ways, one of them by SIGKILL.
"""

import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from handcnn import HandcnnError
from handcnn.storage.files import atomic_write, lock_file, remove_temporary_files

posix = pytest.mark.skipif(os.name != "posix", reason="needs the files and signals of POSIX")


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def former(tmp_path: Path) -> Path:
    """Return a file that holds `former`, alone in its folder."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"former")
    return path


def assert_unharmed(former: Path) -> None:
    assert former.read_bytes() == b"former"
    assert listing(former.parent) == ["a.bin"]


def write(path: str | Path, content: bytes = b"new") -> None:
    with atomic_write(path) as file:
        file.write(content)


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("convert", [str, Path, os.path.relpath])
def test_the_content_appears_at_the_end(
    former: Path, monkeypatch: pytest.MonkeyPatch, convert: type, is_new: bool
) -> None:
    monkeypatch.chdir(former.parent)  # where the relative path has no folder
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


def test_a_missing_folder_is_told_by_the_path_that_was_given(tmp_path: Path) -> None:
    path = tmp_path / "none" / "a.bin"
    with pytest.raises(FileNotFoundError) as caught:
        write(path)
    assert caught.value.filename == str(path)  # the temporary name means nothing to users
    assert listing(tmp_path) == []


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
    """Seen to fail: both wrote into one temporary file, and the second to end found none."""
    with atomic_write(former) as first:
        first.write(b"first, and longer")
        with atomic_write(former) as second:
            second.write(b"second")
        assert former.read_bytes() == b"second"
    assert former.read_bytes() == b"first, and longer"
    assert listing(former.parent) == ["a.bin"]


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    """Seen to fail at 250 letters: the temporary name was longer."""
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
    """A drop box of mode 0333, which root would open; the file was written, then a failure told."""
    original = os.open

    def no_folders(path: str | Path, *args: int, **kwargs: int) -> int:
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", no_folders)
    write(former)
    assert former.read_bytes() == b"new"


@posix
@pytest.mark.parametrize(
    "kind", ["a folder", "a FIFO", "a socket", "a link to a device", "a read-only file"]
)
def test_what_must_not_be_replaced_never_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    path = Path("a.bin")
    match kind:
        case "a folder":
            path.mkdir()
        case "a FIFO":
            os.mkfifo(path)
        case "a socket":
            with socket.socket(socket.AF_UNIX) as unix:
                unix.bind(str(path))
        case "a link to a device":
            path.symlink_to(os.devnull)
        case "a read-only file":
            path.touch(0o444)
    before = path.lstat()
    with pytest.raises(HandcnnError) as caught:
        write(path)
    fault = "not a regular file; choose another name"
    if path.is_file():
        fault = "read-only; choose another name, or make it writable"
    assert str(caught.value) == f"a.bin cannot be written: it is {fault}"
    assert path.lstat() == before
    assert listing(tmp_path) == ["a.bin"]


@posix
def test_a_circle_of_links_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links") as caught:
        write(tmp_path / "a")
    assert caught.value.filename == str(tmp_path / "a")
    assert all((tmp_path / name).is_symlink() for name in listing(tmp_path))


def test_the_bytes_are_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut after the rename must not find an empty file under the name."""
    calls = []

    def recorded(name: str, *args: object) -> None:
        calls.append(name)
        originals[name](*args)

    originals = {name: getattr(os, name) for name in ("fsync", "replace")}
    for name in originals:
        monkeypatch.setattr(os, name, partial(recorded, name))
    write(tmp_path / "a.bin")
    assert calls[:2] == ["fsync", "replace"]


def write_in_a_process(path: Path, middle: str) -> subprocess.CompletedProcess[str]:
    """Write 100,000 bytes to `path` in another process, with `middle` happening on the way."""
    program = f"""
import os, resource, signal, sys
from handcnn.storage.files import atomic_write
with atomic_write({str(path)!r}) as file:
    file.write(b"half" * 12_500)
    file.flush()
    {middle}
    file.write(b"rest" * 12_500)
"""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


@posix
def test_a_process_that_is_killed_leaves_the_former_file(former: Path) -> None:
    process = write_in_a_process(former, "os.kill(os.getpid(), signal.SIGKILL)")
    assert process.returncode == -signal.SIGKILL
    assert former.read_bytes() == b"former"

    (former.parent / ".mine.tmp").write_bytes(b"mine")
    assert len(listing(former.parent)) == 3
    remove_temporary_files(former.parent)
    assert listing(former.parent) == [".mine.tmp", "a.bin"]


@posix
@pytest.mark.parametrize("own", [False, True])
def test_the_temporary_file_of_a_living_process_stays_unless_that_is_about_to_end(
    former: Path, own: bool
) -> None:
    try:
        with atomic_write(former) as file:
            file.write(b"new")
            remove_temporary_files(former.parent, own=own)
            assert len(listing(former.parent)) == 2 - own
    except FileNotFoundError:
        assert own
    assert former.read_bytes() == (b"former" if own else b"new")


@posix
def test_a_full_disk_leaves_the_former_file_and_no_litter(former: Path) -> None:
    """A limit on the size of files stands in for a full disk: the write fails half-way."""
    process = write_in_a_process(
        former,
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))",
    )
    assert process.returncode == 1
    assert "OSError: [Errno 27] File too large" in process.stderr
    assert_unharmed(former)


@posix
def test_a_lock_keeps_others_out_until_its_process_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    program = f"""
import sys
from handcnn.storage.files import lock_file
file = open({str(path)!r}, "wb")
lock_file(file)
print("locked", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with path.open("ab") as file, pytest.raises(OSError, match="unavailable"):
            lock_file(file)
        process.kill()
    with path.open("ab") as file:
        lock_file(file)
