"""Images and labels in .npz files: those of Keras, MedMNIST and others, told by the arrays' names.

A file holds all parts, as x_train, y_train, x_test, y_test or train_images, train_labels,
val_images and so on. Or each file holds one array, as in Kannada-MNIST, and the files' names say
which. The files may come from anywhere.
"""

from functools import partial
from pathlib import Path

from data.stored_arrays import MAX_EXPANSION, Arrays, StoredArray, by_role, kind_in
from handcnn.errors import HandcnnError
from handcnn.storage.npz import open_npz, read_array, read_header
from handcnn.text import one_line
from handcnn.types import Array


def arrays_in_npz(path: Path) -> Arrays:
    """Return the images and labels in an .npz file by part and kind.

    Raises:
        HandcnnError: the file cannot be read, or claims an array that it cannot hold.
    """
    named = ((name, _stored(path, name)) for name in _names(path) if kind_in(name))
    return by_role(one_line(path), named)


def arrays_in_npz_files(paths: list[Path]) -> Arrays:
    """Return the images and labels in files of one array each; others are ignored.

    Raises:
        HandcnnError: a file cannot be read, or claims an array that it cannot hold.
    """
    named = (
        (path.stem, _stored(path, name))
        for path in paths
        if kind_in(path.stem)
        for name in _names(path)[:1]
    )
    return by_role(one_line(paths[0].parent) if paths else "", named)


def _names(path: Path) -> list[str]:
    with open_npz(path) as archive:
        return [name[:-4] for name in archive.namelist() if name.endswith(".npy")]


def _stored(path: Path, name: str) -> StoredArray:
    with open_npz(path) as archive:
        header = read_header(archive, name)
        if header.dtype.hasobject:
            raise HandcnnError(f"{name} is pickled, which is never loaded; save plain numbers")
        if header.size != header.length or header.size > MAX_EXPANSION * path.stat().st_size:
            raise HandcnnError(
                f"the header of {name} claims an array of shape {header.shape}, which the file "
                "does not hold; save it again"
            )
    return StoredArray(
        what=f"{one_line(path)}: {one_line(name)}",
        shape=header.shape,
        dtype=header.dtype,
        read=partial(_read, path, name),
    )


def _read(path: Path, name: str) -> Array:
    with open_npz(path) as archive:
        return read_array(archive, name)
