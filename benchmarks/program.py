"""Time train.py and predict.py as whole processes, from the shell to the last file written.

    python -m benchmarks.program                train.py --epochs 3 against the same job in PyTorch
    python -m benchmarks.program --quick        on a few of the small digits: does it run?

The programs take turns, each in a process of its own with the threads that it chooses by itself
unless --threads says otherwise. MNIST must be in the fast cache, or the first run would be charged
for bringing it there. Without PyTorch only handcnn's programs are timed.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.measure import INSTALL, Neighbours, load_average, show_load, torch_is_there
from data.dataset import CACHE
from data.mnist import FILE
from handcnn import HandcnnError
from handcnn.app import command_line as cli
from handcnn.storage import runs

ROOT = Path(__file__).parents[1]
QUICK = ("--dataset", "digits", "--limit", "200")
MNIST = ("--dataset", "mnist")


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
    """Time all programs in turns and print what came out."""
    if not options.quick and not (CACHE / FILE).exists():
        raise HandcnnError("MNIST is not in the fast cache; train once first with: python train.py")
    neighbours = Neighbours()
    with TemporaryDirectory() as name:
        programs = commands(options, Path(name))
        taken: dict[str, list[float]] = {program: [] for program in programs}
        memory = dict.fromkeys(programs, 0.0)
        for _ in range(options.repeat):
            for program, command in programs.items():
                seconds, megabytes = run(command, Path(name))
                taken[program].append(seconds)
                memory[program] = max(memory[program], megabytes)
                print(f"  {seconds:8.2f} s  {program}", file=sys.stderr, flush=True)
    print(f"{'seconds from the shell, whole processes':46}{'minimum':>9}{'median':>9}{'MB':>7}")
    for program, times in taken.items():
        print(f"{program:46}{min(times):9.2f}{median(times):9.2f}{memory[program]:7.0f}")
    if torch_is_there():
        ours, theirs = list(taken.values())[:2]
        paired = median(b / a for a, b in zip(ours, theirs, strict=True))
        print(
            f"\nPyTorch / handcnn: medians {median(theirs) / median(ours):.2f}, paired {paired:.2f}"
        )
    else:
        print(f"\n{INSTALL}")
    start, end = show_load(neighbours.load), show_load(load_average())
    print(f"load average {start} at the start, {end} at the end")
    if warning := neighbours.warning():
        print(warning)
    return 0


def commands(options: argparse.Namespace, folder: Path) -> dict[str, list[str]]:
    """Return what is timed, by name; what is written goes to `folder`."""
    job = ["--epochs", str(options.epochs), *(QUICK if options.quick else MNIST)]
    if options.threads:
        job += ["--threads", str(options.threads)]
    picture = folder / "picture.png"
    draw_picture(picture)
    programs = {f"train.py --epochs {options.epochs}": ["train.py", *job]}
    if torch_is_there():
        programs |= {
            "the same job in PyTorch (no pictures drawn)": ["-m", "benchmarks.torch_train", *job],
            "  of which import torch": ["-c", "import torch"],
        }
    for names in programs.values():
        if "--epochs" in names:
            names += ["--output-dir", str(folder / ("runs" if names[0] == "train.py" else "torch"))]
    return programs | {
        "train.py --help": ["train.py", "--help"],
        "predict.py picture.png": ["predict.py", str(picture)],
    }


def run(command: list[str], folder: Path) -> tuple[float, float]:
    """Run Python with these arguments; return seconds and, where it is known, peak megabytes.

    Raises:
        HandcnnError: the program failed.
    """
    if command[0] == "predict.py":
        weights = runs.newest_run(folder / "runs", runs.WEIGHTS) / runs.WEIGHTS
        command = [*command, "--weights", str(weights)]
    with (folder / "output.txt").open("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, stdout=output, stderr=output
        )
        megabytes = wait(process)
        seconds = time.perf_counter() - start
        output.seek(0)
        if process.returncode:
            said = output.read().strip().splitlines() or ["nothing"]
            raise HandcnnError(f"{' '.join(command)} failed and said: {said[-1]}")
    return seconds, megabytes


def wait(process: subprocess.Popen[bytes]) -> float:
    """Wait for the end of a process and return its peak memory in megabytes, or NaN (Windows)."""
    if not hasattr(os, "wait4"):
        process.wait()
        return float("nan")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def draw_picture(path: Path) -> None:
    """Draw a seven, dark on light, as somebody might photograph it."""
    from PIL import Image, ImageDraw

    picture = Image.new("L", (200, 200), 230)
    ImageDraw.Draw(picture).line([(60, 50), (140, 50), (90, 150)], fill=30, width=16)
    picture.save(path)


if __name__ == "__main__":
    sys.exit(main())
