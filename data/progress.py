"""A progress bar for slow tasks, on a terminal only."""

import sys
from typing import Any

from handcnn.progress import load_tqdm


def progress_bar(title: str, total: int, *, shown: bool = True, **options: Any) -> Any:
    """Return a tqdm bar, which shows nothing if stderr is not a terminal."""
    tqdm = load_tqdm()
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    disable = not (shown and is_terminal)
    return tqdm(desc=title, total=total, leave=False, miniters=1, disable=disable, **options)
