"""The commands that the programs print, for the user to copy."""

import shlex
import shutil
import sys
from pathlib import Path


def resume_command(folder: Path) -> str:
    """Return the command that resumes the run in `folder`."""
    return f"{python_command()} train.py --resume {shlex.quote(str(folder))}"


def predict_command(weights: Path) -> str:
    """Return the command that reads the example picture with `weights`."""
    return f"{python_command()} predict.py --weights {weights} docs/seven.jpg"


def python_command() -> str:
    """Return the command for this Python, which need not be the one on the PATH."""
    if shutil.which("python") == sys.executable:
        return "python"
    path = Path(sys.executable)
    return shlex.quote(
        str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    )
