"""The file format: an .npz of plain arrays and one JSON text, checked in full before it is used.

`numpy.load(path)` alone reads such a file. The entry `metadata` holds the JSON text, every other
entry an array of numbers. Nothing is compressed, so a file cannot grow while it is read. Before
memory is taken for an array, its shape and dtype are compared with what the metadata promises, and
its size with the bytes that the file holds.
"""

import errno
import json
import os
import stat
import zipfile
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy

from handcnn.errors import HandcnnError
from handcnn.storage.files import atomic_write
from handcnn.text import one_line
from handcnn.types import Array, Shape

FORMAT = "handcnn"
VERSION = 1
MAX_METADATA_BYTES = 16_000_000  # about 15,000 epochs of history
MAX_HEADER_BYTES = 1_000  # of an array; much longer ones drive Python's parser out of memory

Layout = Mapping[str, tuple[Shape, np.dtype[Any]]]  # shape and dtype of every array by name


class UnreadableError(HandcnnError):
    """A file that the system does not let us read; nothing is known of its content."""


def write_archive(
    path: str | os.PathLike[str],
    kind: str,
    arrays: Mapping[str, Array],
    metadata: Mapping[str, object],
) -> None:
    """Write `arrays` and `metadata` to `path`, completely or not at all.

    Args:
        path: the file; an existing one is replaced in one step.
        kind: what the file holds (`weights`, `checkpoint`, ...). Readers ask for a kind.
        arrays: named arrays of numbers, of any shape.
        metadata: anything else to keep with them, as JSON can hold it.

    Raises:
        HandcnnError: an array holds NaN or infinity, or the metadata is too long. A former file
            stays as it is.
        OSError: the file cannot be written.
    """
    complete = {**metadata, "format": FORMAT, "version": VERSION, "kind": kind}
    text = np.array(json.dumps(complete, default=_plain))
    if text.nbytes > MAX_METADATA_BYTES:
        raise HandcnnError(f"{one_line(path)} was not written: its metadata is too long")
    for name, array in arrays.items():
        _check_numbers(f"{one_line(path)} was not written: the array {name!r}", array)
    # numpy.savez would do, but NumPy 2.0's leaves the archive open where the disk is full.
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
        kind: the kind that it must be of.
        layout: returns the shape and dtype of every array for given metadata.

    Raises:
        UnreadableError: the file is missing, or the system does not let us read it.
        HandcnnError: it is damaged, of another kind or version, or does not hold exactly the arrays
            of `layout`, all finite. The message is one line.
        MemoryError: it may be whole, but does not fit in memory now.
    """
    with _open(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                _check_entries(archive, os.fstat(file.fileno()).st_size)
                metadata = _read_metadata(archive, kind)
                return _read_arrays(archive, layout(metadata)), metadata
        except HandcnnError as error:
            raise unusable(path, error) from error
        except MemoryError:
            raise
        except Exception as error:  # damaged bytes make zipfile and NumPy raise almost any class
            # EINVAL among them, for a seek to before the start; other OSErrors tell of the system.
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise unreadable(path, error) from error
            fault = f"is not a complete .npz file of handcnn: {one_line(error)}"
            raise HandcnnError(f"{one_line(path)} {fault}") from error


def unusable(path: str | os.PathLike[str], fault: object) -> HandcnnError:
    """Return the error for a file that was read but must not be used."""
    return HandcnnError(f"{one_line(path)} cannot be used: {one_line(fault)}")


def reason(error: Exception) -> str:
    """Return what an error says; a KeyError by itself says only the key."""
    return f"there is no {error}" if isinstance(error, KeyError) else str(error)


def unreadable(path: str | os.PathLike[str], error: OSError | ValueError) -> UnreadableError:
    """Return the error for a file that the system does not let us read."""
    cause = getattr(error, "strerror", None) or error
    return UnreadableError(f"cannot read {one_line(path)}: {one_line(cause)}")


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        if stat.S_ISREG(Path(path).stat().st_mode):
            return Path(path).open("rb")
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise unreadable(path, error) from error
    raise HandcnnError(f"{one_line(path)} is not a file")  # a pipe or a device may never end


def _check_entries(archive: zipfile.ZipFile, file_size: int) -> None:
    """Refuse entries that could take more memory than the file takes on disk."""
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
    shape, dtype, length = _read_header(archive, "metadata")
    if shape != () or dtype.str[:2] != "<U" or not dtype.itemsize == length <= MAX_METADATA_BYTES:
        raise HandcnnError("its metadata is not a JSON text")
    try:
        metadata = json.loads(_read_data(archive, "metadata").tobytes().decode("utf-32-le"))
    except (ValueError, RecursionError):
        raise HandcnnError("its metadata is not a JSON text") from None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise HandcnnError("it was not written by handcnn")
    found = metadata.get("version")
    if found != VERSION:
        raise HandcnnError(f"it has format version {found!r}, this handcnn reads {VERSION}")
    if metadata.get("kind") != kind:
        raise HandcnnError(f"it holds {metadata.get('kind')!r}, where {kind!r} is needed")
    return metadata


def _read_arrays(archive: zipfile.ZipFile, layout: Layout) -> dict[str, Array]:
    found = set(archive.namelist()) - {"metadata.npy"}
    needed = {f"{name}.npy" for name in layout}
    if missing := needed - found:
        raise HandcnnError(f"the array {min(missing).removesuffix('.npy')!r} is missing")
    if extra := found - needed:
        raise HandcnnError(f"its entry {min(extra)!r} does not belong there")
    return {name: _read_array(archive, name, *expected) for name, expected in layout.items()}


def _read_array(archive: zipfile.ZipFile, name: str, shape: Shape, dtype: np.dtype[Any]) -> Array:
    found_shape, found_dtype, length = _read_header(archive, name)
    if (found_shape, found_dtype) != (shape, dtype):
        raise HandcnnError(
            f"the array {name!r} has shape {found_shape} of {found_dtype}, "
            f"but {shape} of {dtype} is needed"
        )
    if length != (needed := prod(shape) * dtype.itemsize):
        raise HandcnnError(f"the array {name!r} has {length} bytes, {needed} are needed")
    array = _read_data(archive, name)
    _check_numbers(f"the array {name!r}", array)
    return array


def _read_header(archive: zipfile.ZipFile, name: str) -> tuple[Shape, np.dtype[Any], int]:
    """Return the shape and dtype of an array, and the number of bytes behind its header."""
    entry = archive.getinfo(f"{name}.npy")
    with archive.open(entry) as file:
        stream = cast(BinaryIO, file)
        try:
            version = npy.read_magic(stream)
            if version != (1, 0):
                raise ValueError(f".npy version {version} is not (1, 0)")
            shape, _, dtype = npy.read_array_header_1_0(stream, MAX_HEADER_BYTES)
        except (zipfile.BadZipFile, MemoryError):
            raise
        except Exception as error:  # a damaged header makes its parser raise almost any class
            raise HandcnnError(f"the header of the array {name!r} is damaged") from error
        return shape, dtype, entry.file_size - file.tell()


def _read_data(archive: zipfile.ZipFile, name: str) -> Array:
    with archive.open(f"{name}.npy") as file:
        array: Array = npy.read_array(cast(BinaryIO, file), allow_pickle=False)
    return array


def _check_numbers(what: str, array: Array) -> None:
    if array.dtype.kind not in "biuf":
        raise HandcnnError(f"{what} holds {array.dtype}, only numbers are kept")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise HandcnnError(f"{what} holds values that are not finite (NaN or infinity)")


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as the number that JSON knows."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} cannot be kept as JSON")
