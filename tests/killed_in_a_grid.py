"""A network function that kills one process in the middle of a grid search.

It has its own file because the workers of a cluster import it.
"""

import os
import signal
from itertools import count
from pathlib import Path
from typing import Any

from handcnn import Network, documented_network

FATAL = 3


def make(folder: Path, rate: float, **arguments: Any) -> Network:
    """Return a network. Of all processes that share this folder, the third caller is killed."""
    if turn(folder) == FATAL:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    return documented_network(rate, **arguments)


def turn(folder: Path) -> int:
    """Return the number of this call, counted by the files that the calls create."""
    for number in count(1):
        try:
            (folder / str(number)).touch(exist_ok=False)
        except FileExistsError:
            continue
        return number
    raise AssertionError
