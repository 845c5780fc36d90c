"""A progress bar for what takes long, on a terminal only."""

import sys
from typing import Any


def progress_bar(title: str, total: int, *, shown: bool = True, **options: Any) -> Any:
    """Return a tqdm bar; it shows nothing where stderr is no terminal."""
    from tqdm.auto import tqdm

    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    disable = not (shown and is_terminal)
    return tqdm(desc=title, total=total, leave=False, miniters=1, disable=disable, **options)
