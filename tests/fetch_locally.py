"""The child process of `data.openml`, with the server of `openml_server` instead of OpenML."""

import os
import re
from multiprocessing.connection import Connection
from pathlib import Path

from data import fetch
from data.catalogue import Known


class NoWaiting:
    """Replaces the module `time` in scikit-learn: no pause before a retry."""

    sleep = staticmethod(lambda seconds: None)


def run_locally(url: str, setup: str, pipe: Connection, known: Known, home: Path) -> None:
    """Run `setup`, code such as `fetch.SILENCE_SECONDS = 0.3`; then fetch from the server at `url`.

    A `functools.partial` of this function replaces `data.openml.run`.
    """
    from sklearn.datasets import _openml

    os.environ["no_proxy"] = "*"
    for name, value in list(vars(_openml).items()):
        if isinstance(value, str) and (found := re.match(r"https://\w+\.openml\.org(?=/)", value)):
            setattr(_openml, name, url + value[found.end() :])
    _openml.time = NoWaiting
    exec(setup, {"fetch": fetch})
    fetch.run(pipe, known, home)
