"""Make the class kit: a folder and a zip to carry to a room without a network.

    python -m app.kit [FOLDER]        make kit

The folder holds the programs, MNIST, and the libraries as wheels for every system and Python in
TARGETS, with a start script for each system. pip chooses the wheels as if it ran there, except for
requirements that only another system has: these are found in what the wheels say about themselves.
"""

import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from email.parser import BytesParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from data import load_dataset
from data.loading import CACHE
from handcnn.commands import command_line as cli
from handcnn.commands.hints import PROJECT
from handcnn.errors import HandcnnError
from handcnn.text import one_line

PROGRAM = (
    *("train.py", "evaluate.py", "predict.py", "draw.py", "runs.py", "app", "data", "handcnn"),
    *("examples", "docs", "README.md", "LICENSE", "pyproject.toml", "constraints.txt"),
)
KIT, ZIP = "handcnn", "handcnn-kit.zip"
HERE = Path(__file__).parent
SCRIPTS = {  # in the kit: where it comes from
    "start.sh": "start.sh",
    "start.command": "start.sh",
    "start.bat": "start.bat",
    "INSTRUCTIONS.txt": "INSTRUCTIONS.txt",
}


class Target(NamedTuple):
    """A system with a Python: how markers name it, and the platforms of wheels that it takes."""

    name: str
    python: tuple[int, int]
    system: str
    sys_platform: str
    os_name: str
    platforms: Sequence[str]

    def __str__(self) -> str:
        return "{}, Python {}.{}".format(self.name, *self.python)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of markers, as in `colorama; platform_system == "Windows"`."""
        version = "{}.{}".format(*self.python)
        return {
            "platform_system": self.system,
            "sys_platform": self.sys_platform,
            "os_name": self.os_name,
            "python_version": version,
            "python_full_version": f"{version}.0",
            "extra": "",
        }

    @property
    def tags(self) -> set[Tag]:
        """The tags of the wheels that it takes."""
        abi = "cp{}{}".format(*self.python)
        own = cpython_tags(self.python, [abi], self.platforms)
        return {*own, *compatible_tags(self.python, abi, self.platforms)}


class Wheel(NamedTuple):
    """A wheel file and its version."""

    version: Version
    path: Path


MACOS = (12, 0)  # the oldest that the libraries support
GLIBC = ["manylinux2014_x86_64", *(f"manylinux_2_{n}_x86_64" for n in range(17, 29))]
SYSTEMS: tuple[tuple[str, str, str, str, Sequence[str]], ...] = (
    ("Windows", "Windows", "win32", "nt", ["win_amd64"]),
    ("macOS", "Darwin", "darwin", "posix", list(mac_platforms(MACOS, "arm64"))),
    ("macOS on Intel", "Darwin", "darwin", "posix", list(mac_platforms(MACOS, "x86_64"))),
    ("Linux", "Linux", "linux", "posix", GLIBC),
)
TARGETS = [Target(system[0], (3, n), *system[1:]) for system in SYSTEMS for n in (12, 13)]


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    parser = cli.Parser(prog="python -m app.kit", description=__doc__)
    parser.add_argument(
        "folder", nargs="?", type=cli.folder, default=PROJECT / "build" / "kit", metavar="FOLDER"
    )
    options = parser.parse(arguments)
    return cli.run("app.kit", lambda: make(options.folder))


def make(folder: Path) -> int:
    """Make the kit and its zip in a folder, both or neither; print how large they are."""
    start, names = time.perf_counter(), (KIT, ZIP)
    if there := [folder / name for name in names if (folder / name).exists()]:
        raise HandcnnError(f"{one_line(there[0])} exists; remove it, or name another folder")
    load_dataset("mnist")  # fills the cache, or says why there is no MNIST
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as place:
        kit = Path(place, KIT)
        copy_program(kit)
        requirements = needed()
        (kit / "requirements.txt").write_text("".join(f"{one}\n" for one in requirements))
        (kit / "wheels").mkdir()
        for target in TARGETS:
            print(f"wheels for {target}", flush=True)
            fetch(kit / "wheels", target, requirements)
        pack(kit, Path(place, ZIP))
        for name in names:
            Path(place, name).rename(folder / name)
    megabytes, seconds = (folder / ZIP).stat().st_size / 1e6, time.perf_counter() - start
    print(f"{one_line(folder / KIT)} and {ZIP}: {megabytes:.0f} MB in {seconds:.0f} s")
    return 0


def needed() -> list[Requirement]:
    """Return what the programs need, from pyproject.toml: with the page, but without tools."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    lines = (*project["dependencies"], *project["optional-dependencies"]["draw"])
    return [Requirement(line) for line in lines]


def copy_program(kit: Path) -> None:
    """Copy the programs, MNIST's cache, the start scripts and the instructions."""
    litter = shutil.ignore_patterns("__pycache__", "cache")
    kit.mkdir(parents=True)
    for name in PROGRAM:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, kit / name, ignore=litter)
        else:
            shutil.copy(PROJECT / name, kit)
    (kit / "data" / "cache").mkdir()
    shutil.copy(CACHE / "mnist.npz", kit / "data" / "cache")
    for name, source in SCRIPTS.items():
        text = (HERE / source).read_text()
        ending = "\r\n" if name.endswith(".bat") else "\n"
        (kit / name).write_text(text, newline=ending)
        if text.startswith("#!"):
            (kit / name).chmod(0o755)


def fetch(wheels: Path, target: Target, requirements: Sequence[Requirement]) -> None:
    """Download the wheels that a target needs, until none is missing.

    Raises:
        HandcnnError: pip cannot get one.
    """
    before: list[str] = []
    # pip obeys the markers of this system, so it is told names without them.
    while lacking := [
        f"{one.name}{one.specifier}" for one in missing(wheels, target, requirements)
    ]:
        platforms = [word for name in target.platforms for word in ("--platform", name)]
        command = [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"),
            *("--only-binary", ":all:", "--constraint", str(PROJECT / "constraints.txt")),
            *("--implementation", "cp", "--python-version", "{}.{}".format(*target.python)),
            *(*platforms, "--dest", str(wheels), *lacking),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or lacking == before:
            reason = (done.stderr.strip().splitlines() or ["it found none"])[-1]
            raise HandcnnError(
                f"pip cannot download {', '.join(lacking)} for {target}: {one_line(reason)}; "
                "connect to the network and try again"
            )
        before = lacking


def missing(
    wheels: Path, target: Target, requirements: Sequence[Requirement]
) -> Iterator[Requirement]:
    """Yield what a target needs, directly or for another wheel, and what no wheel provides."""
    tags, found = target.tags, {}
    for path in wheels.glob("*.whl"):
        name, version, _, its_tags = parse_wheel_filename(path.name)
        if its_tags & tags:
            found[name] = Wheel(version, path)
    waiting, seen = [*requirements], set()
    while waiting:
        one = waiting.pop(0)
        applies = one.marker is None or one.marker.evaluate(target.environment)
        name = canonicalize_name(one.name)
        if not applies or name in seen:
            continue
        seen.add(name)
        wheel = found.get(name)
        if wheel is None or wheel.version not in one.specifier:
            yield one
        else:
            waiting += wheel_requirements(wheel.path)


def wheel_requirements(wheel: Path) -> list[Requirement]:
    """Return the requirements that a wheel declares."""
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = BytesParser().parsebytes(archive.read(entry))
    return [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]


def pack(kit: Path, path: Path) -> None:
    """Write the zip of a kit, with the permissions of its files."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(kit.rglob("*")):
            method = zipfile.ZIP_STORED if file.suffix == ".whl" else zipfile.ZIP_DEFLATED
            archive.write(file, file.relative_to(kit.parent), method)


if __name__ == "__main__":
    sys.exit(main())
