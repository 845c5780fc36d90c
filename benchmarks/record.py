"""Train whole networks with train.py and in PyTorch: test accuracy, seconds, memory.

    python -m benchmarks.record                 lenet with five seeds, deep with three
    python -m benchmarks.record --network documented --epochs 3 --threads 1
    python -m benchmarks.record --seeds 10 --skip-pytorch
    python -m benchmarks.record --quick         a short test: one epoch of 1,000 images

Each training is a separate process, timed from start to exit. PyTorch does the same job
(benchmarks/torch_train.py), and the two take turns. Options that are not listed below are passed to
both.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, median, stdev
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import machine
from handcnn import HandcnnError
from handcnn.commands import command_line as cli
from handcnn.models import NETWORKS

ROOT = Path(__file__).parents[1]
PROGRAMS = {"train.py": [str(ROOT / "train.py")], "PyTorch": ["-m", "benchmarks.torch_train"]}
COLUMNS = "{:12}{:10}{:>5}{:>17}{:>9}{:>10}{:>6}"
HEADING = COLUMNS.format("network", "program", "seed", "test accuracy", "seconds", "an epoch", "MB")


def main(arguments: list[str] | None = None) -> int:
    """Run the trainings and return the exit code."""
    count = cli.whole_number(1, 1000)
    parser = cli.Parser(prog="python -m benchmarks.record", description=__doc__)
    parser.add_argument("--network", nargs="+", type=cli.one_of(*NETWORKS), metavar="NAME")
    parser.add_argument("--seeds", type=count, metavar="N", help="how many (default: 5, deep 3)")
    parser.add_argument("--skip-pytorch", action="store_true", help="train.py alone")
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch, 1,000 images")
    options, job = parser.parse_known_args(arguments)
    return cli.run("benchmarks.record", lambda: record(options, job))


def record(options: argparse.Namespace, job: list[str]) -> int:
    """Run the trainings, print the figures and save them."""
    short = ["--epochs", "1", "--limit", "1000"]
    if options.quick:
        job = [*job, *short]
    else:
        job = ["--dataset", "mnist", *job]
        train("train.py", "documented", 0, [*job, *short])  # fills the caches with data and code
    has_rival = machine.has_pytorch() and not options.skip_pytorch
    programs = ["train.py", "PyTorch"] if has_rival else ["train.py"]
    with machine.figures("quick" if options.quick else "record") as figures:
        print(f"\n{HEADING}")
        for network in options.network or ("lenet", "deep"):
            seeds = 1 if options.quick else options.seeds or (3 if network == "deep" else 5)
            trained: list[dict[str, Any]] = []
            for seed in range(seeds):
                for program in programs:
                    trained.append(train(program, network, seed, job))
                    print(line(trained[-1:]), flush=True)
            for program in programs if seeds > 1 else ():
                print(line([one for one in trained if one["program"] == program]))
            figures += trained
    return 0


def train(program: str, network: str, seed: int, job: list[str]) -> dict[str, Any]:
    """Train one network in a new process; return its figures."""
    facts = {"network": network, "program": program, "seed": seed}
    command = [*PROGRAMS[program], "--network", network, "--seed", str(seed), *job]
    with TemporaryDirectory() as name:
        folder = Path(name)
        seconds, megabytes = time_process(command, folder)
        (file,) = folder.glob("outputs/*/run.json")
        accuracy = 100 * json.loads(file.read_text())["test"]["accuracy"]
        with file.with_name("history.csv").open() as history:
            epochs = [float(row["seconds"]) for row in csv.DictReader(history)]
    return facts | {
        "accuracy": accuracy,
        "seconds": seconds,
        "epochs": epochs,
        "megabytes": megabytes,
    }


def time_process(command: list[str], folder: Path) -> tuple[float, float]:
    """Run Python in `folder`; return its seconds and, except on Windows, its peak megabytes.

    Raises:
        HandcnnError: the program failed.
    """
    command, megabytes = [sys.executable, *command], float("nan")
    paths = os.environ | {"PYTHONPATH": str(ROOT)}
    with (folder / "output.txt").open("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=paths, stdout=output, stderr=output)
        if hasattr(os, "wait4"):
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            megabytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
        failed = process.wait() != 0
        seconds = time.perf_counter() - start
        output.seek(0)
        if failed:
            said = output.read().strip().splitlines() or ["nothing"]
            raise HandcnnError(f"the training failed and said: {said[-1]}")
    return seconds, megabytes


def line(trained: list[dict[str, Any]]) -> str:
    """Return a line of the table: one training, or means and medians of several."""
    accuracies = [one["accuracy"] for one in trained]
    spread = f" ± {stdev(accuracies):.2f}" if len(trained) > 1 else ""
    epochs = [seconds for one in trained for seconds in one["epochs"]]
    return COLUMNS.format(
        trained[0]["network"],
        trained[0]["program"],
        "all" if spread else trained[0]["seed"],
        f"{mean(accuracies):.2f}{spread} %",
        f"{median(one['seconds'] for one in trained):.1f}",
        f"{median(epochs):.2f}",
        f"{max(one['megabytes'] for one in trained):.0f}",
    )


if __name__ == "__main__":
    sys.exit(main())
