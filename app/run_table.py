"""The table of runs: a line for each on the screen, or a JSON object for each."""

import json
from collections.abc import Sequence
from typing import Any

from app.options import typed
from app.past_runs import PastRun
from handcnn.text import natural_order, one_line

# The columns, those of text and then those of numbers; the long options come last on a line.
TEXT = ("name", "state", "network", "data", "options")
NUMBERS = ("epochs", "validation", "test", "time")
COLUMNS = (*TEXT[:-1], *NUMBERS, TEXT[-1])


def row(run: PastRun) -> dict[str, Any]:
    """Return one run as JSON values; None stands for what is not known."""
    options, best = run.options, run.best
    return {
        "name": run.folder.name,
        "state": run.state,
        "network": options and options.network,
        "data": run.data or None,
        "options": run.changes,
        "epochs": len(run.history),
        "of_epochs": options and options.epochs,
        "best_epoch": best and int(best["epoch"]),
        "validation": best and best["val_accuracy"],
        "validation_loss": best and best["val_loss"],
        "test": run.test,
        "seconds": round(run.seconds, 2),
        "error": run.fault or None,
    }


def sorted_runs(runs: Sequence[PastRun], column: str) -> list[PastRun]:
    """Return the runs ordered by a column: text from A to Z, numbers from the largest; gaps last.

    Runs with the same value keep their order.
    """
    if column in TEXT:
        return sorted(runs, key=lambda run: _text_key(_cells(run)[column]))
    name = "seconds" if column == "time" else column
    return sorted(runs, key=lambda run: -(row(run)[name] or 0))


def _text_key(text: str) -> tuple[bool, list[str | int]]:
    return not text, natural_order(text)


def json_lines(runs: Sequence[PastRun]) -> list[str]:
    """Return a JSON object for each run."""
    return [json.dumps(row(run)) for run in runs]


def table_lines(runs: Sequence[PastRun]) -> list[str]:
    """Return the table, a heading and a line for each run; reasons of unreadable ones below it."""
    rows = [dict(zip(COLUMNS, COLUMNS, strict=True)), *map(_cells, runs)]
    widths = {name: max(len(cells[name]) for cells in rows) for name in COLUMNS}
    lines = [
        "  ".join(
            f"{cells[name]:{'<' if name in TEXT else '>'}{widths[name]}}" for name in COLUMNS
        ).rstrip()
        for cells in rows
    ]
    return lines + [f"unreadable: {run.fault}" for run in runs if run.fault]


def _cells(run: PastRun) -> dict[str, str]:
    """Return the text in each column."""
    values = row(run)
    shown = {name: "" if values.get(name) is None else one_line(values[name]) for name in TEXT}
    return shown | {
        "options": " ".join(typed(name, value) for name, value in values["options"].items()),
        "epochs": f"{values['epochs']}/{values['of_epochs']}" if run.options else "",
        "validation": _percent(values["validation"]),
        "test": _percent(values["test"]),
        "time": clock(run.seconds) if run.history else "",
    }


def _percent(accuracy: float | None) -> str:
    return "" if accuracy is None else f"{100 * accuracy:.2f} %"


def clock(seconds: float) -> str:
    """Return a time as 0:31, 11:04 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
