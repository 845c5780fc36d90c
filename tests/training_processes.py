"""Training processes that start in milliseconds, for tests that kill, limit and signal many.

A short training spends its time importing libraries, enlarging scikit-learn's digits, and drawing.
A server process does the first two once, then forks for every training. Each fork runs train.main
like `python train.py`, with its own files, locks, signals and limits. Its plots are drawn by stubs,
and its clock advances by one at every call, so that the history is always the same.
"""

import functools
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Self

ROOT = Path(__file__).parent.parent
# Large steps, so that the network learns something in a few steps. The third of the four epochs is
# the best, so that the best weights are not the last ones.
OPTIONS = [
    *("--dataset", "digits", "--limit", "160", "--batch-size", "32", "--epochs", "4"),
    *("--learning-rate", "0.012", "--seed", "1"),
]
PLOTS = {"accuracy.png", "confusion_matrix.png", "filters.png", "loss.png", "mistakes.png"}
RESULTS = {"checkpoint.npz", "history.csv", "losses.csv", "mistakes.npz", "run.json", "weights.npz"}
FILES = PLOTS | RESULTS


class Result(NamedTuple):
    """The exit code of a training (-9: SIGKILL), its output, and its duration."""

    code: int
    out: str
    err: str
    seconds: float = 0.0


class Forks:
    """The client side of the server, for tests."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def train(self, *options: str, setup: str = "", kill_after: float | None = None) -> Result:
        """Run train.main(options) in a new process, after the Python code `setup`."""
        task = json.dumps({"options": options, "setup": setup, "kill_after": kill_after})
        assert self.process.stdin
        assert self.process.stdout
        print(task, file=self.process.stdin, flush=True)
        return Result(*json.loads(self.process.stdout.readline()))


def serve() -> None:
    import handcnn.plots  # noqa: F401
    import train  # noqa: F401
    from data import load_dataset

    # Import and compute now what the first training would.
    replace("data.loading.load_digits_like_mnist", functools.cache)
    load_dataset("digits")
    for name in PLOTS:
        replace(f"handcnn.plots.plot_{Path(name).stem}", lambda _: draw)
    draw().savefig(os.devnull, format="png")
    ticks = SimpleNamespace(perf_counter=itertools.count().__next__)
    replace("handcnn.training.time", lambda _: ticks)
    for line in sys.stdin:
        task = json.loads(line)
        start = time.perf_counter()
        # A pipe is large enough for all output of a training, and file size limits do not apply.
        (out, out_of_child), (err, err_of_child) = os.pipe(), os.pipe()
        if not (pid := os.fork()):
            os.dup2(out_of_child, 1)
            os.dup2(err_of_child, 2)
            os._exit(train_here(task))
        os.close(out_of_child)
        os.close(err_of_child)
        if task["kill_after"] is not None:
            time.sleep(task["kill_after"])
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        seconds = time.perf_counter() - start
        texts = [os.fdopen(file).read() for file in (out, err)]
        print(json.dumps([code, *texts, seconds]), flush=True)


def train_here(task: dict[str, Any]) -> int:
    import train

    try:
        exec(task["setup"], globals())
        code = train.main(task["options"])
    except BaseException:
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    return code


def draw(*shown: Any, **more: Any) -> Any:
    """Return a figure that differs whenever the arguments differ."""
    import numpy as np
    from matplotlib.figure import Figure

    digest = hashlib.sha256()
    for part in (*shown, *more.values()):
        arrays = part.parameters().values() if hasattr(part, "parameters") else [part]
        for array in arrays:
            digest.update(
                array.tobytes() if isinstance(array, np.ndarray) else repr(array).encode()
            )
    figure = Figure(figsize=(1, 1))
    figure.figimage(np.frombuffer(digest.digest(), np.uint8).reshape(4, 8))
    return figure


def at_call(number: int, target: str, action: Callable[[], object]) -> None:
    """Call `action` at the given call (1, 2, ...) of the function with the full name `target`."""
    calls = itertools.count(1)

    def acting(original: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == number:
                action()
            return original(*args, **kwargs)

        return replacement

    replace(target, acting)


def replace(target: str, change: Callable[[Any], Any]) -> None:
    """Replace the object with the full name `target` by `change(original)`."""
    module, name = target.rsplit(".", 1)
    setattr(sys.modules[module], name, change(getattr(sys.modules[module], name)))


def send(*signals: int) -> None:
    """Send these signals to this process."""
    for number in signals:
        os.kill(os.getpid(), number)


def limit_files(size: int) -> None:
    """Limit every file to `size` bytes from now on, as on a full disk."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


if __name__ == "__main__":
    serve()
