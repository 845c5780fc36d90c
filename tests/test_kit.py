"""The class kit: which wheels are missing, and what the folder and its zip hold.

Oracles: wheels written here, whose names and requirements decide by the rules of Python's packages;
a pip that answers from a table; and the start script, run by the shell with Pythons made here.
"""

import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.requirements import Requirement

import app.kit.__main__ as kit
from data import load_dataset
from data.loading import CACHE
from handcnn.commands.hints import PROJECT
from handcnn.errors import HandcnnError

WINDOWS, MAC, INTEL, LINUX = (target for target in kit.TARGETS if target.python == (3, 12))
GREY = 'Requires-Dist: grey>=2\nRequires-Dist: bar; platform_system == "Windows"\n'
GREY += 'Requires-Dist: tests; extra == "dev"\n'


def write_wheel(folder: Path, name: str, requires: str = "") -> None:
    with zipfile.ZipFile(folder / f"{name}.whl", "w") as archive:
        archive.writestr("x.dist-info/METADATA", f"Name: x\n{requires}\nabout x")


@pytest.mark.parametrize(
    ("names", "takers"),
    [
        (["main-1-py3-none-any"], [WINDOWS, LINUX, MAC, INTEL]),
        (["main-1-cp312-cp312-win_amd64"], [WINDOWS]),
        (["main-1-cp312-cp312-win32"], []),
        (["main-1-cp311-cp311-win_amd64"], []),
        (["main-1-cp310-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64"], [LINUX]),
        (["main-1-cp312-cp312-manylinux_2_28_aarch64"], []),
        (["main-1-cp312-cp312-musllinux_1_2_x86_64"], []),
        (["main-1-cp312-cp312-macosx_11_0_arm64"], [MAC]),
        (["main-1-cp312-cp312-macosx_10_9_universal2"], [MAC, INTEL]),
        (["main-1-cp312-cp312-macosx_15_0_arm64"], []),  # newer than the oldest that is promised
        (["main-2-py3-none-any"], []),
        (["other-1-py3-none-any"], []),
    ],
)
def test_a_wheel_counts_where_its_tags_and_version_fit(
    tmp_path: Path, names: list[str], takers: list[kit.Target]
) -> None:
    for name in names:
        write_wheel(tmp_path, name)
    found = [
        target
        for target in (WINDOWS, LINUX, MAC, INTEL)
        if not [*kit.missing(tmp_path, target, [Requirement("main<2")])]
    ]
    assert found == takers


def test_what_a_wheel_needs_is_needed_too_if_it_is_for_that_system(tmp_path: Path) -> None:
    write_wheel(tmp_path, "main-1-py3-none-any", GREY)
    write_wheel(tmp_path, "grey-1-py3-none-any", "Requires-Dist: main\n")

    def names(target: kit.Target) -> list[str]:
        return [one.name for one in kit.missing(tmp_path, target, [Requirement("main")])]

    assert names(WINDOWS) == ["grey", "bar"]  # the version of grey is too low
    write_wheel(tmp_path, "grey-2-py3-none-any", "Requires-Dist: main\n")
    (tmp_path / "grey-1-py3-none-any.whl").unlink()
    assert (names(WINDOWS), names(LINUX)) == (["bar"], [])


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """Replace pip and the data by stand-ins; return the commands that pip will get."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        calls.append(command)
        folder = Path(command[command.index("--dest") + 1])
        if "main" in command:
            write_wheel(folder, "main-1-py3-none-any", GREY)
            write_wheel(folder, "grey-2-py3-none-any")
        if "bar" in command:
            write_wheel(folder, "bar-1-py3-none-any")
        fault = "" if "nowhere" not in command else "ERROR: one\nERROR: no nowhere found\n"
        return SimpleNamespace(returncode=int(bool(fault)), stderr=fault)

    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "mnist.npz").write_bytes(b"images")
    monkeypatch.setattr(kit, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(kit, "load_dataset", lambda name: None)
    monkeypatch.setattr(kit, "needed", lambda: [Requirement("main")])
    monkeypatch.setattr("app.kit.__main__.subprocess.run", run)
    return calls


def test_the_kit_holds_the_program_the_data_and_the_wheels(
    tmp_path: Path, pip: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert kit.main([str(tmp_path / "kit")]) == 0
    made = tmp_path / "kit" / "handcnn"
    assert sorted(path.name for path in (made / "wheels").iterdir()) == [
        *("bar-1-py3-none-any.whl", "grey-2-py3-none-any.whl", "main-1-py3-none-any.whl")
    ]
    assert [command[-1] for command in pip] == ["main", "bar"]
    assert (made / "data" / "cache" / "mnist.npz").read_bytes() == b"images"
    assert (made / "requirements.txt").read_text() == "main\n"
    for name in ("train.py", "handcnn/weights/reader.npz", "handcnn/page/draw.js"):
        assert (made / name).read_bytes() == (PROJECT / name).read_bytes()
    assert not [*made.rglob("__pycache__")]
    with zipfile.ZipFile(tmp_path / "kit" / "handcnn-kit.zip") as archive:
        inside = {entry.filename for entry in archive.infolist() if not entry.is_dir()}
        starts = [archive.getinfo(f"handcnn/start.{kind}") for kind in ("sh", "command")]
    files = {path for path in made.rglob("*") if path.is_file()}
    assert inside == {path.relative_to(tmp_path / "kit").as_posix() for path in files}
    assert [entry.external_attr >> 16 & 0o777 for entry in starts] == [0o755, 0o755]
    assert b"\r\n" in (made / "start.bat").read_bytes()
    assert b"\r\n" not in (made / "start.sh").read_bytes()
    assert f"{made} and handcnn-kit.zip: " in capsys.readouterr().out


def test_a_kit_that_cannot_be_made_leaves_nothing(
    tmp_path: Path,
    pip: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "kit"
    monkeypatch.setattr(kit, "needed", lambda: [Requirement("nowhere")])
    assert kit.main([str(folder)]) == 1
    assert capsys.readouterr().err == (
        "app.kit: pip cannot download nowhere for Windows, Python 3.12: ERROR: no nowhere found; "
        "connect to the network and try again\n"
    )
    monkeypatch.setattr(kit, "needed", lambda: [Requirement("silence")])
    assert kit.main([str(folder)]) == 1
    assert "silence for Windows, Python 3.12: it found none" in capsys.readouterr().err
    assert [*folder.iterdir()] == []

    def no_data(name: str) -> None:
        raise HandcnnError(f"{name} is not available")

    monkeypatch.setattr(kit, "load_dataset", no_data)
    assert kit.main([str(folder)]) == 1
    assert capsys.readouterr().err == "app.kit: mnist is not available\n"
    (folder / "handcnn").mkdir()
    assert kit.main([str(folder)]) == 1
    assert capsys.readouterr().err == (
        f"app.kit: {folder}/handcnn exists; remove it, or name another folder\n"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="start.sh is for macOS and Linux")
def test_the_start_script_chooses_a_python_and_sets_up_once(tmp_path: Path) -> None:
    """A stand-in for Python 3.12 makes an environment whose Python prints its arguments."""
    (tmp_path / "bin").mkdir()
    for name, code in (("python3.13", 1), ("python3.12", 0)):
        script = tmp_path / "bin" / name
        script.write_text(
            f'#!/bin/sh\n[ "$1" = -c ] && exit {code}\n'
            "mkdir -p .venv/bin; printf '#!/bin/sh\\necho \"$@\"\\n' > .venv/bin/python\n"
            "chmod +x .venv/bin/python; echo made\n"
        )
        script.chmod(0o755)
    start = tmp_path / "start.sh"
    start.write_bytes((kit.HERE / "start.sh").read_bytes())

    def run(*arguments: str) -> tuple[int, list[str]]:
        done = subprocess.run(
            ["/bin/sh", start, *arguments],
            env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()

    code, lines = run("train.py", "--name", "two words")
    assert (code, lines[0], lines[1]) == (0, "Setting handcnn up, once:", "made")
    assert "--no-index --find-links wheels --requirement requirements.txt" in lines[2]
    assert lines[3] == "train.py --name two words"
    assert run() == (0, ["draw.py"])


def test_the_real_requirements_are_those_of_the_programs() -> None:
    names = {one.name for one in kit.needed()}
    assert {"numpy", "scikit-learn", "tqdm", "matplotlib", "waitress"} <= names
    assert "pytest" not in names


@pytest.mark.mnist
def test_the_cache_that_is_copied_is_the_one_that_programs_use() -> None:
    load_dataset("mnist")
    assert (CACHE / "mnist.npz").is_file()
