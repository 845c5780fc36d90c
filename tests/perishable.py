"""A network whose making is fatal to one process: it ends in the middle of a grid's work.

A file of its own, since the workers of a cluster import it.
"""

import os
import signal
from itertools import count
from pathlib import Path
from typing import Any

from handcnn import Network, documented_network

FATAL = 3


def make(folder: Path, rate: float, **arguments: Any) -> Network:
    """Make a network. The third process to do so, of all that share this folder, is killed."""
    if turn(folder) == FATAL:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    return documented_network(rate, **arguments)


def turn(folder: Path) -> int:
    """Return how many came before, and this one: each leaves a file."""
    for number in count(1):
        try:
            (folder / str(number)).touch(exist_ok=False)
        except FileExistsError:
            continue
        return number
    raise AssertionError
