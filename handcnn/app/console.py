"""What a training shows: lines, and on a terminal or in a notebook a bar."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from handcnn.training import Batch, Score

BAR = "{desc} |{bar}| {percentage:3.0f} %{postfix}"  # fits a terminal of 80 columns
HEADING = "   epoch  train loss  train acc    val loss    val acc  seconds  images/s"


class Screen:
    """The screen of one training; a quiet one shows warnings and the result only."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        terminal = sys.stderr is not None and sys.stderr.isatty()
        self.shows_bars = not quiet and (terminal or "ipykernel" in sys.modules)

    def say(self, line: str) -> None:
        """Print a line, unless everything but warnings and the result is unwanted."""
        if not self.quiet:
            print(line, flush=True)

    @contextmanager
    def bar(
        self, batches: Iterable[Batch], title: str
    ) -> Iterator[tuple[Iterable[Batch], Callable[[Score], None]]]:
        """Yield the batches, shown as a bar where one can be shown, and a way to show a score."""
        if not self.shows_bars:
            yield batches, lambda score: None
            return
        from tqdm.auto import tqdm

        with tqdm(batches, title, leave=False, bar_format=BAR) as bar:

            def show(score: Score) -> None:
                text = f"loss {score.loss:.4f}, accuracy {100 * score.accuracy:5.2f} %"
                bar.set_postfix_str(text, refresh=False)

            yield bar, show


def epoch_line(row: Mapping[str, float], epochs: int, is_best: bool) -> str:
    """Return the line under `HEADING` for one row of the history."""
    return (
        f"{row['epoch']:4.0f}/{epochs:<4} {row['loss']:9.4f}  {100 * row['accuracy']:7.2f} %"
        f"  {row['val_loss']:10.4f}  {100 * row['val_accuracy']:7.2f} %"
        f"  {row['seconds']:7.2f}  {row['images_per_second']:8,.0f}{'  best' if is_best else ''}"
    )
