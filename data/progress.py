"""A progress bar for slow tasks, on a terminal only."""

import sys
from typing import Any

from handcnn.errors import HandcnnError
from handcnn.text import one_line


def progress_bar(title: str, total: int, *, shown: bool = True, **options: Any) -> Any:
    """Return a tqdm bar, which shows nothing if stderr is not a terminal."""
    try:
        from tqdm.auto import tqdm
    except ValueError as error:  # tqdm reads its settings when it is imported
        raise HandcnnError(
            f"the progress bar cannot be loaded: {one_line(error)}; "
            "check the TQDM_ variables in the environment"
        ) from error

    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    disable = not (shown and is_terminal)
    return tqdm(desc=title, total=total, leave=False, miniters=1, disable=disable, **options)
