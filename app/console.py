"""The output of a training: lines, and a progress bar on a terminal or in a notebook."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from data.progress import load_tqdm
from handcnn.training import Step

BAR = "{desc} |{bar}| {percentage:3.0f} %{postfix}"  # fits a terminal of 80 columns
HEADING = "   epoch  train loss  train acc    val loss    val acc  seconds  images/s"


class Console:
    """The output of a training; if quiet, only warnings and the result are printed."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        terminal = sys.stderr is not None and sys.stderr.isatty()
        self.shows_bars = not quiet and (terminal or "ipykernel" in sys.modules)

    def print(self, line: str) -> None:
        """Print a line, unless the console is quiet."""
        if not self.quiet:
            print(line, flush=True)

    @contextmanager
    def progress(self, epochs: int) -> Iterator[Callable[[Step], None]]:
        """Yield a function that shows each step on a progress bar, a new one for every epoch."""
        if not self.shows_bars:
            yield lambda step: None
            return
        tqdm = load_tqdm(", or use --quiet")
        bar: Any = None

        def show(step: Step) -> None:
            nonlocal bar
            if step.number == 1:
                title = f"epoch {step.epoch}/{epochs}"
                bar = tqdm(total=step.steps, desc=title, leave=False, bar_format=BAR)
            loss, accuracy = step.metrics
            text = f"loss {loss:.4f}, accuracy {100 * accuracy:5.2f} %"
            bar.set_postfix_str(text, refresh=False)
            bar.update()
            if step.number == step.steps:
                bar.close()

        try:
            yield show
        finally:
            if bar is not None:
                bar.close()


def epoch_line(row: Mapping[str, float], epochs: int, is_best: bool) -> str:
    """Return the line under `HEADING` for one row of the history."""
    return (
        f"{row['epoch']:4.0f}/{epochs:<4} {row['loss']:9.4f}  {100 * row['accuracy']:7.2f} %"
        f"  {row['val_loss']:10.4f}  {100 * row['val_accuracy']:7.2f} %"
        f"  {row['seconds']:7.2f}  {row['images_per_second']:8,.0f}{'  best' if is_best else ''}"
    )


def plural(count: int, noun: str) -> str:
    """Return `1 epoch` or `2 epochs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
