"""Measure handcnn against PyTorch and against the documented loops, in this one process.

    python -m benchmarks                     everything, in about four minutes
    python -m benchmarks --quick             does it run? some seconds, no figure to quote
    python -m benchmarks --only step         the cases whose names begin so
    python -m benchmarks --threads 1 4       with these thread counts

All entries must compute the same before they are timed, in turns. Use a quiet machine; the last
line warns if it was not.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.cases import TOLERANCE, Case, all_cases, load_pytorch
from benchmarks.timing import enter, statistics, take_turns
from handcnn.app import command_line as cli
from handcnn.kernels.threads import cores

OURS = ("handcnn", "three calls")

HEADING = f"""
{"":45}{"handcnn":>22}{"three calls":>22}{"baseline":>22}
{"milliseconds per call":37}{"threads":>8}{3 * f"{'minimum':>11}{'median':>11}"}{"ratio":>9}"""
LEGEND = f"""
three calls  handcnn's forward, backward and update_params, which train_step does in one;
             for prediction, forward in batches
baseline     PyTorch in eager mode, or the documented loops
ratio        the baseline's median over handcnn's, both with the same number of threads
All computed the same outputs, gradients and updated weights (float32, differences of at most
{TOLERANCE:.0e} of the largest value) before they were timed."""


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and return its exit code."""
    options = parse_options(arguments)
    return cli.run("benchmarks", lambda: benchmark(options))


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options."""
    count = cli.whole_number(1, 256)
    parser = cli.Parser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, few repetitions")
    parser.add_argument(
        "--threads",
        nargs="+",
        type=count,
        default=[1, min(2, cores()), cores()],
        metavar="N",
        help="thread counts (default: 1, 2 and all cores, as far as there are so many)",
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="cases whose names begin so")
    parser.add_argument(
        "--json",
        type=cli.file,
        metavar="FILE",
        help="where all figures go (default: outputs/bench-<date-time>.json)",
    )
    options = parser.parse_args(arguments)
    names = [case.name for case in all_cases(options.quick)]
    for only in options.only or ():
        if not any(name.startswith(only) for name in names):
            parser.error(f"--only {only}: no case begins so; there are {', '.join(names)}")
    return options


def benchmark(options: argparse.Namespace) -> int:
    """Measure, print and write."""
    pytorch = load_pytorch()  # before it is asked for its version
    neighbours = machine.Neighbours()
    facts = machine.describe()
    print(*(f"{name:14}{fact}" for name, fact in facts.items()), sep="\n")
    print(HEADING if pytorch else f"{machine.INSTALL}\n{HEADING}", flush=True)
    records: list[dict[str, Any]] = []
    for case in all_cases(options.quick):
        if not options.only or case.name.startswith(tuple(options.only)):
            found = measure(case, sorted(set(options.threads)))
            print(*rows(found), sep="\n", flush=True)
            records += found
    print(LEGEND)
    for record in records:
        if record["form"]:
            case, threads = record["case"], record["threads"]
            print(f"PyTorch's fastest form of {case}, threads {threads}: {record['form']}")
    path = options.json or Path("outputs") / f"bench-{datetime.now():%Y%m%d-%H%M%S}.json"
    path.parent.mkdir(exist_ok=True)
    facts["cores busy with others"] = neighbours.busy_cores()
    path.write_text(json.dumps({"machine": facts, "quick": options.quick, "results": records}))
    print(f"\nall figures: {path}\n{neighbours.warning()}")
    return 0


def measure(case: Case, counts: list[int]) -> list[dict[str, Any]]:
    """Check and time a case; return all that is known of its entries, as JSON can say it."""
    entries = [
        enter(name, count, side, 1 if name in OURS else case.scale)
        for name, side in case.sides().items()
        for count in counts
    ]
    times = take_turns(entries, case.seconds, case.rounds)
    median = {e[:2]: statistics(turns).median for e, turns in zip(entries, times, strict=True)}
    return [
        {
            "case": case.name,
            "title": case.title,
            "entry": entry.name,
            "threads": entry.threads,
            "form": entry.form,
            "scale": entry.scale,
            **statistics(turns)._asdict(),
            "ratio": median[entry[:2]] / median["handcnn", entry.threads],
            "seconds": [[round(call, 9) for call in turn] for turn in turns],
        }
        for entry, turns in zip(entries, times, strict=True)
    ]


def rows(records: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line of the table for each thread count."""
    for threads in sorted({record["threads"] for record in records}):
        found = {r["entry"]: r for r in records if r["threads"] == threads}
        baseline = next((name for name in found if name not in OURS), "none")
        line = f"{records[0]['title']:37}{threads:8}"
        for name in (*OURS, baseline):
            for figure in ("minimum", "median"):
                line += f"{1e3 * found[name][figure]:11,.3f}" if name in found else f"{'-':>11}"
        yield line + (f"{found[baseline]['ratio']:9,.2f}" if baseline in found else "")


if __name__ == "__main__":
    sys.exit(main())
