"""The output of a training: lines, and a progress bar on a terminal or in a notebook."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from handcnn.progress import load_tqdm
from handcnn.training import Batch, Metrics

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
    def progress(
        self, batches: Iterable[Batch], title: str
    ) -> Iterator[tuple[Iterable[Batch], Callable[[Metrics], None]]]:
        """Yield the batches with a progress bar, and a function that shows metrics on the bar."""
        if not self.shows_bars:
            yield batches, lambda metrics: None
            return
        tqdm = load_tqdm(", or use --quiet")
        with tqdm(batches, title, leave=False, bar_format=BAR) as bar:

            def show(metrics: Metrics) -> None:
                text = f"loss {metrics.loss:.4f}, accuracy {100 * metrics.accuracy:5.2f} %"
                bar.set_postfix_str(text, refresh=False)

            yield bar, show


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
