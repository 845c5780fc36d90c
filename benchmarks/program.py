"""Time train.py and predict.py as whole processes, from the shell to the last file written.

    python -m benchmarks.program                train.py --epochs 3 against the same job in PyTorch
    python -m benchmarks.program --quick        on a few of the small digits: does it run?

The programs take turns, each in its own process and with its own default thread count unless
--threads is given. MNIST must already be in the fast cache, since bringing it there is not timed.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.machine import INSTALL, Neighbours, has_pytorch
from data.dataset import CACHE
from handcnn import HandcnnError
from handcnn.app import command_line as cli

ROOT = Path(__file__).parents[1]


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and return its exit code."""
    count = cli.whole_number(1, 1000)
    parser = cli.Parser(prog="python -m benchmarks.program", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one epoch of 200 small digits, once")
    parser.add_argument("--epochs", type=count, metavar="N", help="of training (default: 3)")
    parser.add_argument("--repeat", type=count, metavar="N", help="runs of each (default: 3)")
    parser.add_argument("--threads", type=count, metavar="N", help="for both sides")
    options = parser.parse_args(arguments)
    options.epochs = options.epochs or (1 if options.quick else 3)
    options.repeat = options.repeat or (1 if options.quick else 3)
    return cli.run("benchmarks.program", lambda: benchmark(options))


def benchmark(options: argparse.Namespace) -> int:
    """Time all programs in turns and print the results."""
    if not options.quick and not (CACHE / "mnist.npz").exists():
        raise HandcnnError("MNIST is not in the fast cache; train once first with: python train.py")
    neighbours = Neighbours()
    programs = commands(options)
    figures: dict[str, list[tuple[float, float]]] = {program: [] for program in programs}
    with TemporaryDirectory() as folder:
        for _ in range(options.repeat):
            for program, command in programs.items():
                figures[program].append(run(command, Path(folder)))
                print(f"{figures[program][-1][0]:10.2f} s  {program}", file=sys.stderr, flush=True)
    print(f"{'seconds from the shell, whole processes':46}{'minimum':>9}{'median':>9}{'MB':>7}")
    for program, runs in figures.items():
        seconds, megabytes = zip(*runs, strict=True)
        print(f"{program:46}{min(seconds):9.2f}{median(seconds):9.2f}{max(megabytes):7.0f}")
    if has_pytorch():
        ours, theirs, *_ = (median(seconds for seconds, _ in runs) for runs in figures.values())
        print(f"\nPyTorch / handcnn: {theirs / ours:.2f}")
    else:
        print(f"\n{INSTALL}")
    print(neighbours.warning())
    return 0


def commands(options: argparse.Namespace) -> dict[str, list[str]]:
    """Return the arguments to Python of every program that is timed."""
    train, predict = str(ROOT / "train.py"), str(ROOT / "predict.py")
    data = ["--dataset", "digits", "--limit", "200"] if options.quick else ["--dataset", "mnist"]
    job = ["--epochs", str(options.epochs), *data]
    job += ["--threads", str(options.threads)] if options.threads else []
    programs = {f"train.py --epochs {options.epochs}": [train, *job]}
    if has_pytorch():
        programs["the same job in PyTorch"] = ["-m", "benchmarks.torch_train", *job]
        programs["  of which import torch"] = ["-c", "import torch"]
    programs["train.py --help"] = [train, "--help"]
    programs["predict.py seven.jpg"] = [predict, str(ROOT / "docs" / "seven.jpg")]
    return programs


def run(command: list[str], folder: Path) -> tuple[float, float]:
    """Run Python in `folder`; return its seconds and, except on Windows, its peak megabytes.

    Raises:
        HandcnnError: the program failed.
    """
    paths = os.environ | {"PYTHONPATH": str(ROOT)}
    with (folder / "output.txt").open("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *command], cwd=folder, env=paths, stdout=output, stderr=output
        )
        megabytes = float("nan")
        if hasattr(os, "wait4"):
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            megabytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
        process.wait()
        seconds = time.perf_counter() - start
        output.seek(0)
        if process.returncode:
            said = output.read().strip().splitlines() or ["nothing"]
            raise HandcnnError(f"{' '.join(command)} failed and said: {said[-1]}")
    return seconds, megabytes


if __name__ == "__main__":
    sys.exit(main())
