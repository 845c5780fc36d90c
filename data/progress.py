"""What a user sees while data are fetched or read: messages, and a bar on a terminal."""

import sys
from collections.abc import Callable
from typing import Any

from handcnn.errors import HandcnnError
from handcnn.text import one_line

Say = Callable[[str], None]  # shows a message


def progress_bar(title: str, total: int, *, shown: bool = True, **options: Any) -> Any:
    """Return a tqdm bar, which shows nothing if stderr is not a terminal."""
    tqdm = load_tqdm()
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    disable = not (shown and is_terminal)
    return tqdm(desc=title, total=total, leave=False, miniters=1, disable=disable, **options)


def load_tqdm(alternative: str = "") -> Any:
    """Return tqdm's class of progress bars, for a terminal or a notebook.

    Args:
        alternative: what else the user can do, at the end of the message.

    Raises:
        HandcnnError: tqdm cannot use its settings, which it reads when it is imported.
    """
    try:
        from tqdm.auto import tqdm
    except ValueError as error:
        raise HandcnnError(
            f"the progress bar cannot be loaded: {one_line(error)}; "
            f"check the TQDM_ variables in the environment{alternative}"
        ) from error
    return tqdm
