"""Measure handcnn against PyTorch and against the documented loops, in this one process.

    python -m benchmarks                     everything, in less than four minutes
    python -m benchmarks --quick             does it run? some seconds, no figure to quote
    python -m benchmarks --only step         the cases whose names begin so
    python -m benchmarks --threads 1 4       with these numbers of threads

Before anything is timed, all contestants have to compute the same. They take turns. A quiet
machine is needed; where it was not quiet, the last line says so.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.cases import TOLERANCE, Case, Setting, all_cases
from benchmarks.measure import (
    INSTALL,
    Contestant,
    Neighbours,
    Threads,
    Times,
    cores,
    load_average,
    machine,
    paired_ratio,
    ratio,
    show_load,
    statistics,
    take_turns,
    torch_is_there,
)
from handcnn.app import command_line as cli
from handcnn.storage import runs
from handcnn.storage.files import atomic_write

PAIR = f"{'minimum':>10}{'median':>10}"
COLUMNS = (
    f"{'':45}{'handcnn':>20}{'unfolded':>20}{'rival':>20}{'rival / handcnn':>27}\n"
    f"{'milliseconds a call':37}{'threads':>8}{PAIR}{PAIR}{PAIR}"
    f"{'medians':>9}{'paired':>9}{'best':>9}"
)
LEGEND = f"""
medians  the rival's median over handcnn's, both with the same number of threads
paired   the same within each round of turns, then the median over the rounds
best     the median of the rival's best number of threads over that of handcnn in this row
unfolded handcnn with folding switched off; the layers apart are never folded
rival    PyTorch in eager mode, or the documented loops on one thread
All computed the same outputs, gradients and updated weights (float32, differences of at most
{TOLERANCE:.0e} of the largest value) before they were timed."""


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and return its exit code."""
    options = parse_options(arguments)
    return cli.run("benchmarks", lambda: benchmark(options))


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = cli.Parser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, few repetitions")
    parser.add_argument(
        "--threads",
        nargs="+",
        type=cli.whole_number(1, 256),
        metavar="N",
        help="numbers of threads (default: 1, 2 and all cores, as far as there are so many)",
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
    rival = load_rival()
    threads = Threads()
    counts = options.threads or sorted({1, min(2, cores()), cores()})
    setting = Setting(sorted(set(counts)), threads, rival)
    neighbours = Neighbours()
    facts = machine(threads)
    print(describe(facts, neighbours.load))
    if rival is None:
        print(INSTALL)
    print(f"\n{COLUMNS}", flush=True)

    results: list[dict[str, Any]] = []
    for case in all_cases(options.quick):
        if not options.only or case.name.startswith(tuple(options.only)):
            contestants = case.contestants(setting)
            times = take_turns(contestants, threads, case.seconds, case.rounds)
            print(*table_rows(case, contestants, times), sep="\n", flush=True)
            results += records(case, contestants, times)
    print(LEGEND)
    for form in forms(results):
        print(form)

    load = {"start": neighbours.load, "end": load_average(), "others": neighbours.share()}
    path = options.json or runs.OUTPUTS / f"bench-{datetime.now():%Y%m%d-%H%M%S}.json"
    write_json(path, {"machine": facts, "load": load, "quick": options.quick, "results": results})
    print(f"\nload average at the end {show_load(load['end'])}; all figures: {path}")
    if warning := neighbours.warning():
        print(warning)
    return 0


def load_rival() -> ModuleType | None:
    """Return the module `benchmarks.rival`, or None without PyTorch."""
    if not torch_is_there():
        return None
    from benchmarks import rival

    return rival


def describe(facts: dict[str, Any], load: float | None) -> str:
    """Return what the figures hold for."""
    return (
        f"{facts['processor']}, {facts['cores']} cores; load average {show_load(load)}\n"
        f"Python {facts['python']}, NumPy {facts['numpy']} ({facts['blas']}), "
        f"PyTorch {facts['torch'] or 'none'}; float32"
    )


def table_rows(case: Case, contestants: list[Contestant], times: list[Times]) -> Iterator[str]:
    """Yield a line for each number of threads."""
    found = {(who.name, who.threads): t for who, t in zip(contestants, times, strict=True)}
    rivals = {key: t for key, t in found.items() if key[0] not in ("handcnn", "unfolded")}
    best = min((statistics(t).median for t in rivals.values()), default=None)
    for count in sorted({who.threads for who in contestants}):
        ours = found["handcnn", count]
        theirs = next((t for (_, threads), t in rivals.items() if threads == count), None)
        line = f"{case.title:37}{count:8}"
        for column in (ours, found.get(("unfolded", count)), theirs):
            figures = ("-", "-") if column is None else statistics(column)
            line += "".join(f"{show(figure, 1e3, 3):>10}" for figure in figures)
        if theirs is not None:
            ratios = ratio(theirs, ours), paired_ratio(theirs, ours), best / statistics(ours).median
            line += "".join(f"{show(figure, 1, 2):>9}" for figure in ratios)
        yield line


def show(figure: float | str, factor: float, decimals: int) -> str:
    """Return a figure with so many decimals, or two fewer from 100 on."""
    if isinstance(figure, str):
        return figure
    return f"{factor * figure:,.{decimals if factor * figure < 100 else decimals - 2}f}"


def records(
    case: Case, contestants: list[Contestant], times: list[Times]
) -> Iterator[dict[str, Any]]:
    """Yield everything that is known, as JSON can say it."""
    found = {(who.name, who.threads): t for who, t in zip(contestants, times, strict=True)}
    for who, t in zip(contestants, times, strict=True):
        ours = found["handcnn", who.threads]
        yield {
            "case": case.name,
            "title": case.title,
            "contestant": who.name,
            "threads": who.threads,
            "note": who.note,
            "scale": who.scale,
            **statistics(t)._asdict(),
            "ratio": ratio(t, ours),
            "paired_ratio": paired_ratio(t, ours),
            "seconds": [[round(call, 9) for call in turn] for turn in t],
        }


def forms(results: list[dict[str, Any]]) -> Iterator[str]:
    """Yield which forms of PyTorch's code won the trial before they were timed."""
    for case in dict.fromkeys(row["case"] for row in results if row["note"]):
        rows = [row for row in results if row["case"] == case and row["note"]]
        notes = ", ".join(f"{row['note']} (threads: {row['threads']})" for row in rows)
        yield f"PyTorch's fastest form of {case}: {notes}"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content`, completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write((json.dumps(content) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
