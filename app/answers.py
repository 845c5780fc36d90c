"""The answers of a network in a table: a row for each image."""

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path

from handcnn.commands import command_line as cli
from handcnn.storage.files import atomic_write
from handcnn.types import Array

COLUMNS = ("number", "answer", "probability")  # the number counts from 0, as in mistakes.png
SUBMISSION = ("ImageId", "Label")  # what Kaggle expects; the number counts from 1


def answers_file(text: str) -> Path:
    """Accept the path of a table of answers to write. A file that is there must be one, or empty.

    So a typing error does not overwrite a table of images.
    """
    target = cli.file(text)
    if target.is_file():
        ours = [",".join(header).encode() for header in (COLUMNS, SUBMISSION)]
        try:
            with target.open("rb") as former:
                start = former.readline(len(max(ours, key=len)) + 2)
        except OSError as error:
            raise argparse.ArgumentTypeError(
                f"{text!r} cannot be used as a path: {error.strerror}"
            ) from None
        if start.rstrip() not in (*ours, b""):
            raise argparse.ArgumentTypeError(f"{text!r} is a file that is not a table of answers")
    return target


def write_answers(
    path: Path, probabilities: Array, names: Sequence[str], *, have_labels: bool
) -> None:
    """Write the answer for each image, completely or not at all.

    Args:
        path: the file.
        probabilities: (N, K).
        names: the names of the classes.
        have_labels: whether the images have labels; if not, the table is a submission for Kaggle.

    Raises:
        OSError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS if have_labels else SUBMISSION)
    for i, (row, best) in enumerate(zip(probabilities, probabilities.argmax(axis=1), strict=True)):
        writer.writerow((i, names[best], row[best]) if have_labels else (i + 1, names[best]))
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
