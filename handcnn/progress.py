"""Load tqdm, which draws the progress bars, only where one is drawn."""

from typing import Any

from handcnn.errors import HandcnnError
from handcnn.text import one_line


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
