"""A folder of pictures with one subfolder for each class: the layout of PyTorch's ImageFolder.

Each picture is prepared as in predict.py, so that the network is trained on the same kind of images
that it will read.
"""

from pathlib import Path

import numpy as np

from data.catalogue import MOST_CLASSES
from data.download_cache import Say
from data.progress import progress_bar
from handcnn.errors import HandcnnError
from handcnn.text import one_line
from handcnn.types import UInt8


def visible(folder: Path) -> list[Path]:
    """Return the contents of a folder, sorted by name, without hidden files."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def read_pictures(folder: Path, say: Say) -> tuple[UInt8, UInt8, list[str]]:
    """Return images (N, 28, 28), labels (N,) and the names of the classes, in alphabetical order.

    Raises:
        HandcnnError: a class has no pictures, or some cannot be read. `say` is called for each.
    """
    classes = [path for path in visible(folder) if path.is_dir()]
    if not 1 <= len(classes) <= MOST_CLASSES:
        raise HandcnnError(
            f"{one_line(folder)} holds {len(classes)} folders; there must be 1 to {MOST_CLASSES}, "
            "one of pictures for each class"
        )
    files = [visible(path) for path in classes]
    for path, pictures in zip(classes, files, strict=True):
        if not pictures:
            raise HandcnnError(f"{one_line(path)} holds no pictures; add some or remove the folder")
    labelled = [(file, label) for label, pictures in enumerate(files) for file in pictures]
    images, faults = [], []
    with progress_bar(folder.name, len(labelled)) as bar:
        for file, _ in labelled:
            try:
                images.append(_prepared(file))
            except HandcnnError as fault:
                faults.append(str(fault))
            bar.update()
    for message in faults:
        say(message)
    if faults:
        raise HandcnnError(
            f"{len(faults):,} of {len(labelled):,} pictures in {one_line(folder)} cannot be used; "
            "fix or remove them"
        )
    labels = np.array([label for _, label in labelled], np.uint8)
    return np.stack(images), labels, [path.name for path in classes]


def _prepared(file: Path) -> UInt8:
    """Return a picture as the network expects it: uint8 (28, 28)."""
    from handcnn.pictures import load_picture, prepare_picture  # loads Pillow and SciPy

    grey = load_picture(file)
    try:
        return prepare_picture(grey)
    except HandcnnError as fault:
        raise HandcnnError(f"{one_line(file)}: {fault}") from None
