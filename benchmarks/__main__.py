"""Compare the speed of handcnn with PyTorch and with plain loops, in one process.

    python -m benchmarks                            everything, in about five minutes
    python -m benchmarks --quick                    a short test; do not quote its figures
    python -m benchmarks --only predict "step d"    only cases whose names start with one of these
    python -m benchmarks --threads 1 4              with these thread counts

All entries are checked to compute the same, then timed in turns. Use an idle machine; the last line
warns if it was busy.
"""

import argparse
import sys
from statistics import median
from typing import Any

from benchmarks import machine
from benchmarks.cases import TOLERANCES, Case, all_cases, checked_runs
from benchmarks.timing import take_turns, thread_count
from handcnn.commands import command_line as cli
from handcnn.kernels.threads import cores

SECONDS, ROUNDS = 9, 3  # the minimum of each for a case and a thread count
COLUMNS = "{:20}{:24}{:>8}{:>11}{:>11}{:>9}"
EXACT, ROUNDED = TOLERANCES.values()
LEGEND = f"""
three calls  handcnn's forward, backward and update_params instead of train_step;
             for predictions, forward in batches
loops        handcnn with the convolution as plain loops
ratio        the median divided by handcnn's, with the same number of threads
Before the timing, all entries were checked to compute the same outputs and gradients from the same
weights: to {EXACT:.0e} of their norm in float64, to {ROUNDED:.0e} in float32, the timed dtype."""


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and return its exit code."""
    parser = cli.Parser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, few repetitions")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="only cases whose names start with NAME"
    )
    parser.add_argument(
        "--threads",
        nargs="+",
        type=cli.whole_number(1, 256),
        default=[1, min(2, cores()), cores()],
        metavar="N",
        help="thread counts (default: 1, 2 and all cores, if there are that many)",
    )
    options = parser.parse_args(arguments)
    cases = all_cases(options.quick)
    for only in options.only or ():
        if not any(case.name.startswith(only) for case in cases):
            names = ", ".join(case.name for case in cases)
            parser.error(f"--only {only}: no case starts with this name; there are {names}")
    chosen = [case for case in cases if case.name.startswith(tuple(options.only or [""]))]
    return cli.run("benchmarks", lambda: benchmark(chosen, options))


def benchmark(cases: list[Case], options: argparse.Namespace) -> int:
    """Measure the cases, print the figures and save them."""
    with machine.figures("quick" if options.quick else "bench") as figures:
        print("\n" + COLUMNS.format("milliseconds", "", "threads", "minimum", "median", "ratio"))
        for case in cases:
            figures += measure(case, sorted(set(options.threads)), options.quick)
        print(LEGEND)
    return 0


def measure(case: Case, counts: list[int], quick: bool) -> list[dict[str, Any]]:
    """Check and time a case; print and return the figures of each entry."""
    with thread_count(max(counts)):
        runs = checked_runs(case)
    entries = {(form, count): run for count in counts for form, run in runs.items()}
    times = take_turns(entries, *((0, 1) if quick else (SECONDS, ROUNDS)))
    records = []
    for (form, count), calls in times.items():
        minimum, middle = min(calls), median(calls)
        ratio = middle / median(times["handcnn", count])
        texts = f"{1e3 * minimum:.2f}", f"{1e3 * middle:.2f}", f"{ratio:.2f}"
        print(COLUMNS.format(case.name, form, count, *texts), flush=True)
        record = {"case": case.name, "entry": form, "threads": count, "minimum": minimum}
        records.append(record | {"median": middle, "ratio": ratio, "seconds": calls})
    return records


if __name__ == "__main__":
    sys.exit(main())
