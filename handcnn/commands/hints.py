"""Hints: commands that are printed for users to copy into a shell.

train.py exists only in the project's folder. An installed package has the command `handcnn` alone.
"""

import shlex
import shutil
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
HAS_PROGRAMS = (PROJECT / "train.py").is_file()
PACKAGES = {"PIL": "pillow", "sklearn": "scikit-learn"}  # not installed under the imported name


def missing_library(error: ModuleNotFoundError) -> str:
    """Return which library is missing, and how to install it."""
    library = (error.name or str(error)).partition(".")[0]
    advice = "use make, or see README.md"
    if not HAS_PROGRAMS:
        advice = f"install it with: python -m pip install {PACKAGES.get(library, library)}"
    return f"{library} is not installed in this Python; {advice}"


def train_command() -> str:
    """Return the command that starts a training."""
    return _command("train.py")


def resume_command(folder: Path) -> str:
    """Return the command that resumes the run in `folder`."""
    return _command("train.py", "--resume", folder)


def predict_command(weights: Path, picture: Path = PROJECT / "docs" / "seven.jpg") -> str:
    """Return the command that reads a picture, by default the example, with `weights`."""
    return _command("predict.py", _from_here(picture), "--weights", weights)


def fine_tune_command(weights: Path, dataset: Path) -> str:
    """Return the command that trains the network in `weights` further on a data set."""
    return _command("train.py", "--start-from", weights, "--dataset", dataset)


def _command(program: str, *arguments: str | Path) -> str:
    """Return the command that runs one of the project's programs with this Python."""
    # The Python that `make` uses is not on the PATH.
    on_path = shutil.which("python") == sys.executable
    python = "python" if on_path else _from_here(Path(sys.executable))
    words = (python, _from_here(PROJECT / program), *arguments)
    return shlex.join(_path(word) if isinstance(word, Path) else word for word in words)


def _path(path: Path) -> str:
    """Return a path as an argument that cannot be taken for an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def _from_here(path: Path) -> Path:
    """Return `path` relative to the current folder, or unchanged if it is not inside it."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # the current folder was deleted
        return path
    return path.relative_to(here) if path.is_relative_to(here) else path
