"""Files that are complete or not there.

Oracles: the file system itself, looked at with plain reads and listings, in the middle of a
write and after writes that were broken off in different ways, one of them by SIGKILL.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from handcnn.storage.files import atomic_write, lock_file, remove_temporary_files


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.bin") as file:
        file.write(b"new")
        assert not (tmp_path / "a.bin").exists()
    assert (tmp_path / "a.bin").read_bytes() == b"new"
    assert listing(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("convert", [str, Path])
def test_an_existing_file_is_replaced_at_the_end(tmp_path: Path, convert: type) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"former")
    with atomic_write(convert(path)) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"former"
    assert path.read_bytes() == b"new"
    assert listing(tmp_path) == ["a.bin"]


def test_a_name_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with atomic_write("a.bin") as file:
        file.write(b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_a_write_that_fails_changes_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"former")

    def fail() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"former"
    assert listing(tmp_path) == ["a.bin"]


def test_a_missing_folder(tmp_path: Path) -> None:
    path = tmp_path / "none" / "a.bin"
    with pytest.raises(FileNotFoundError) as caught, atomic_write(path):
        pass
    assert caught.value.filename == str(
        path
    )  # not the temporary name, which means nothing to users
    assert listing(tmp_path) == []


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.bin").mkdir()
    with pytest.raises(OSError, match=r"a\.bin"), atomic_write(tmp_path / "a.bin") as file:
        file.write(b"new")
    assert listing(tmp_path) == ["a.bin"]


def test_the_bytes_are_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut after the rename must not find an empty file under the name."""
    calls = []

    def record(name: str) -> None:
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args: (calls.append(name), original(*args))[1])

    record("fsync")
    record("replace")
    with atomic_write(tmp_path / "a.bin") as file:
        file.write(b"new")
    assert calls[:2] == ["fsync", "replace"]


posix = pytest.mark.skipif(os.name != "posix", reason="needs the signals and limits of POSIX")


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
def test_a_process_that_is_killed_leaves_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"former")
    process = write_in_a_process(path, "os.kill(os.getpid(), signal.SIGKILL)")
    assert process.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"former"

    (tmp_path / ".hidden").write_bytes(b"mine")
    assert len(listing(tmp_path)) == 3
    remove_temporary_files(tmp_path)
    assert listing(tmp_path) == [".hidden", "a.bin"]


@posix
def test_a_full_disk_leaves_the_former_file_and_no_litter(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: the write fails half-way."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"former")
    process = write_in_a_process(
        path,
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))",
    )
    assert process.returncode == 1
    assert "OSError: [Errno 27] File too large" in process.stderr
    assert path.read_bytes() == b"former"
    assert listing(tmp_path) == ["a.bin"]


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
