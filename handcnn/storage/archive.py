"""The file format: an .npz of plain arrays and one JSON text, fully checked before it is used.

`numpy.load(path)` reads such a file. The entry `metadata` holds the JSON text, every other entry an
array of numbers. Nothing is compressed, so a file cannot grow when it is read. Before memory is
allocated for an array, its shape and dtype are compared with the metadata, and its size with the
bytes in the file.
"""

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy

from handcnn.errors import HandcnnError
from handcnn.storage.files import atomic_write
from handcnn.storage.npz import open_npz, read_array, read_header
from handcnn.text import one_line
from handcnn.types import Array, Shape

FORMAT = "handcnn"
VERSION = 1
MAX_METADATA_BYTES = 16_000_000  # about 15,000 epochs of history

Layout = Mapping[str, tuple[Shape, np.dtype[Any]]]  # shape and dtype of every array by name


def write_archive(
    path: str | os.PathLike[str],
    kind: str,
    arrays: Mapping[str, Array],
    metadata: Mapping[str, object],
) -> None:
    """Write `arrays` and `metadata` to `path`, completely or not at all.

    Args:
        path: the file; an existing one is replaced in one step.
        kind: what the file holds (`weights`, `checkpoint`, ...). Readers require a kind.
        arrays: named arrays of numbers, of any shape.
        metadata: anything else to save with them, as JSON values.

    Raises:
        HandcnnError: an array holds NaN or infinity, or the metadata is too long. An existing file
            is not changed.
        OSError: the file cannot be written.
    """
    complete = {**metadata, "format": FORMAT, "version": VERSION, "kind": kind}
    text = np.array(json.dumps(complete, default=_plain))
    if text.nbytes > MAX_METADATA_BYTES:
        raise HandcnnError(f"{one_line(path)} was not written: its metadata is too long")
    for name, array in arrays.items():
        _check_numbers(f"{one_line(path)} was not written: the array {name!r}", array)
    # Not numpy.savez: in NumPy 2.0 it leaves the archive open if the disk is full.
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in {"metadata": text, **arrays}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                npy.write_array(cast(BinaryIO, entry), array, allow_pickle=False)


def read_archive(
    path: str | os.PathLike[str], kind: str, layout: Callable[[dict[str, Any]], Layout]
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays and the metadata that `write_archive` wrote to `path`.

    Args:
        path: the file.
        kind: the kind of file that is required.
        layout: returns the shape and dtype of every array for given metadata.

    Raises:
        UnreadableError: the file is missing or cannot be read.
        HandcnnError: it is damaged, of another kind or version, or does not hold exactly the arrays
            of `layout`, all finite. The message is one line.
        MemoryError: there is too little memory to read it; it may be intact.
    """
    with open_npz(path) as archive:
        _check_entries(archive, Path(path).stat().st_size)
        metadata = _read_metadata(archive, kind)
        return _read_arrays(archive, layout(metadata)), metadata


def reason(error: Exception) -> str:
    """Return the message of an error. That of a KeyError is only the key, so words are added."""
    return f"there is no {error}" if isinstance(error, KeyError) else str(error)


def _check_entries(archive: zipfile.ZipFile, file_size: int) -> None:
    """Refuse entries that could need more memory than the file has bytes."""
    entries = archive.infolist()
    if len(set(archive.namelist())) != len(entries):
        raise HandcnnError("it holds two entries of the same name")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 0x1:
            raise HandcnnError(f"its entry {entry.filename!r} is compressed or encrypted")
    if sum(entry.file_size for entry in entries) > file_size:
        raise HandcnnError("its entries claim more bytes than the file has")


def _read_metadata(archive: zipfile.ZipFile, kind: str) -> dict[str, Any]:
    if "metadata.npy" not in archive.namelist():
        raise HandcnnError("it was not written by handcnn (there is no entry 'metadata')")
    shape, dtype, length = read_header(archive, "metadata")
    if shape != () or dtype.str[:2] != "<U" or not dtype.itemsize == length <= MAX_METADATA_BYTES:
        raise HandcnnError("its metadata is not a JSON text")
    try:
        metadata = json.loads(read_array(archive, "metadata").tobytes().decode("utf-32-le"))
    except (ValueError, RecursionError):
        raise HandcnnError("its metadata is not a JSON text") from None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise HandcnnError("it was not written by handcnn")
    found = metadata.get("version")
    if found != VERSION:
        raise HandcnnError(f"it has format version {found!r}, this handcnn reads {VERSION}")
    if metadata.get("kind") != kind:
        raise HandcnnError(f"it holds {metadata.get('kind')!r}, but {kind!r} is needed")
    return metadata


def _read_arrays(archive: zipfile.ZipFile, layout: Layout) -> dict[str, Array]:
    found = set(archive.namelist()) - {"metadata.npy"}
    needed = {f"{name}.npy" for name in layout}
    if missing := needed - found:
        raise HandcnnError(f"the array {min(missing).removesuffix('.npy')!r} is missing")
    if extra := found - needed:
        raise HandcnnError(f"it has an unexpected entry {min(extra)!r}")
    return {name: _read_array(archive, name, *expected) for name, expected in layout.items()}


def _read_array(archive: zipfile.ZipFile, name: str, shape: Shape, dtype: np.dtype[Any]) -> Array:
    header = read_header(archive, name)
    if (header.shape, header.dtype) != (shape, dtype):
        raise HandcnnError(
            f"the array {name!r} has shape {header.shape} of {header.dtype}, "
            f"but {shape} of {dtype} is needed"
        )
    if header.length != header.size:
        raise HandcnnError(
            f"the array {name!r} has {header.length} bytes, but {header.size} are needed"
        )
    array = read_array(archive, name)
    _check_numbers(f"the array {name!r}", array)
    return array


def _check_numbers(what: str, array: Array) -> None:
    if array.dtype.kind not in "biuf":
        raise HandcnnError(f"{what} holds {array.dtype}, but only real numbers can be saved")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise HandcnnError(f"{what} holds values that are not finite (NaN or infinity)")


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as a Python number, which JSON can hold."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} cannot be saved as JSON")
