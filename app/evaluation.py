"""How good is a network on labelled images? The same code answers for train.py and evaluate.py."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite, sqrt
from typing import TYPE_CHECKING

import numpy as np

from data import Part
from handcnn.errors import HandcnnError
from handcnn.network import Network
from handcnn.text import exact_percent, one_line
from handcnn.training import Batch, Metrics, evaluate
from handcnn.types import Array

if TYPE_CHECKING:
    from handcnn import plots

EVALUATION_BATCH = 1000  # images
Z = 1.959963984540054  # a normal variable lies within Z standard deviations with 95 % probability
HEADING = ("class", "images", "recall", "precision", "most often taken for")


def evaluated(
    net: Network, batches: Iterable[Batch], weights: object, advice: str
) -> tuple[Metrics, Array]:
    """Return the metrics of `net` on `batches` and its probabilities (N, K).

    Raises:
        HandcnnError: they are not finite. The message names `weights` and ends with `advice`.
    """
    metrics, probabilities = evaluate(net, batches)
    if not isfinite(metrics.loss):
        raise HandcnnError(
            f"{one_line(weights)} gives no test result: its numbers are too large to compute "
            f"with; {advice}"
        )
    return metrics, probabilities


def result_line(metrics: Metrics, images: int, title: str, what: str = "test ") -> str:
    """Return loss and accuracy on one line; `what` comes before each of the two words."""
    return (
        f"{what}loss {metrics.loss:.4f}, {what}accuracy {100 * metrics.accuracy:.2f} % "
        f"({round(metrics.accuracy * images):,} of {images:,} images), {title}"
    )


def result_lines(metrics: Metrics, counts: Array, title: str, part: str) -> list[str]:
    """Return the result on the part `test` or `all`, and how sure its number of images makes it."""
    images = int(counts.sum())
    low, high = confidence_interval(int(np.trace(counts)), images)
    return [
        result_line(metrics, images, title, "test " if part == "test" else ""),
        f"95 % confidence interval of the accuracy: {100 * low:.2f} to {100 * high:.2f} %",
    ]


def confidence_interval(right: int, images: int) -> tuple[float, float]:
    """Return the 95 % interval for the accuracy on all such images (Wilson, 1927).

    Args:
        right: how many of the images were right.
        images: how many there were, at least one.
    """
    centre = right + Z * Z / 2
    spread = Z * sqrt(right * (images - right) / images + Z * Z / 4)
    low, high = ((centre + sign * spread) / (images + Z * Z) for sign in (-1, 1))
    return max(low, 0.0), min(high, 1.0)  # rounding may pass 0 and 1


def class_lines(counts: Array, names: Sequence[str]) -> list[str]:
    """Return a table with a line for each class: its recall, precision and main confusion.

    Args:
        counts: the confusion matrix (K, K), a row for each true class.
        names: the names of the classes.
    """
    rows = [HEADING]
    errors = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    for k, name in enumerate(names):
        right, images, answers = counts[k, k], counts[k].sum(), counts[:, k].sum()
        worst = int(errors[k].argmax())
        confusion = f"{names[worst]} ({errors[k, worst]:,})" if errors[k, worst] else ""
        rows.append((name, f"{images:,}", share(right, images), share(right, answers), confusion))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return [
        f"{row[0]:<{widths[0]}}"
        + "".join(f"  {row[i]:>{widths[i]}}" for i in (1, 2, 3))
        + f"  {row[4]}".rstrip()
        for row in rows
    ]


def share(part: int, whole: int) -> str:
    """Return part / whole in per cent, or a dash if the whole is 0."""
    return exact_percent(part / whole) if whole else "-"


def figures(
    part: Part, counts: Array, probabilities: Array, title: str, names: list[str], run: str
) -> "Iterator[tuple[str, plots.Figure]]":
    """Yield the file name and the figure of the confusion matrix and of the mistakes."""
    from handcnn import plots  # matplotlib takes half a second to import

    yield "confusion_matrix.png", plots.plot_confusion_matrix(counts, title, names, run=run)
    yield "mistakes.png", plots.plot_mistakes(*part, probabilities, title, names, run=run)


@contextmanager
def explained_drawing(advice: str) -> Iterator[None]:
    """Turn a failure of matplotlib into a sentence with this advice; let the system's pass."""
    try:
        yield
    except (HandcnnError, OSError, MemoryError):
        raise
    except Exception as error:  # matplotlib reads the user's settings, which may be invalid
        raise HandcnnError(f"the plots cannot be made: {one_line(error)}; {advice}") from error
