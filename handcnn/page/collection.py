"""Keep drawings with their labels: a folder of pictures for each class, which train.py reads.

Nothing outside the folder is written, no file is ever replaced, and only files kept by this process
are removed again.
"""

import io
import os
import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from handcnn.errors import HandcnnError
from handcnn.pictures import load_picture
from handcnn.storage.files import atomic_write
from handcnn.text import one_line

PICTURES = "[!.]*.*"  # the names of pictures in a class folder


class Collection:
    """Drawings in a folder, with a subfolder for each class that has some.

    Several threads may use it concurrently.
    """

    def __init__(self, folder: Path, class_names: Sequence[str], command: str) -> None:
        """Create the folder.

        Args:
            folder: of all drawings.
            class_names: of the network.
            command: what a user types to train on the folder.

        Raises:
            HandcnnError: a class has a name that no folder can have.
            OSError: the folder cannot be created or written.
        """
        for name in class_names:
            if name in ("", ".", "..") or name.startswith(".") or set(name) & set('/\\:*?"<>|'):
                raise HandcnnError(
                    f"--collect makes a folder for each class, and none can be named {name!r}; "
                    "use a network with other names"
                )
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.class_names, self.command = folder, class_names, command
        self._kept: list[Path] = []
        self._lock = threading.Lock()

    def state(self, _: bytes = b"") -> dict[str, Any]:
        """Return what the page shows: the folder, and how many drawings there are of each class."""
        return {
            "folder": str(self.folder),
            "counts": [len(list((self.folder / n).glob(PICTURES))) for n in self.class_names],
            "command": self.command,
            "undoable": len(self._kept),
        }

    def keep(self, k: int, content: bytes) -> dict[str, Any]:
        """Keep a picture file as a drawing of class k, in grey, as PNG.

        Raises:
            HandcnnError: it is not a picture, or it cannot be written.
        """
        grey = np.rint(load_picture(io.BytesIO(content), "the picture")).astype(np.uint8)
        place = self.folder / self.class_names[k]
        path = place / f"{datetime.now():%Y%m%d-%H%M%S}-{os.urandom(4).hex()}.png"
        try:
            place.mkdir(exist_ok=True)
            with atomic_write(path) as file:
                Image.fromarray(grey).save(file, "PNG")
        except OSError as error:
            raise _failed("kept", path, error) from error
        with self._lock:
            self._kept.append(path)
        return self.state()

    def undo(self, _: bytes = b"") -> dict[str, Any]:
        """Remove the drawing that was kept last.

        Raises:
            HandcnnError: it cannot be removed.
        """
        with self._lock:
            path = self._kept.pop() if self._kept else None
        try:
            if path is not None:
                path.unlink(missing_ok=True)
                if not any(path.parent.iterdir()):
                    path.parent.rmdir()  # train.py refuses a class without pictures
        except OSError as error:
            raise _failed("removed", path, error) from error
        return self.state()


def _failed(done: str, path: Path | None, error: OSError) -> HandcnnError:
    return HandcnnError(
        f"the drawing was not {done}: {one_line(path)}: {error.strerror}; free some disk space, "
        "or check the folder's permissions"
    )
