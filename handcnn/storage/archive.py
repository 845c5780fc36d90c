"""The file format: an .npz of plain arrays and one JSON text, trusted only after every check.

`numpy.load(path)` alone reads such a file. The entry `metadata` is the JSON text; the others are
arrays of numbers, stored without compression, so that no file can grow while it is read: what an
array claims to be is compared with what the architecture says and with the bytes that are there
before any memory is taken for it.
"""

import json
import os
import textwrap
import warnings
import zipfile
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy

from handcnn.errors import HandcnnError
from handcnn.storage.files import atomic_write
from handcnn.types import Array

FORMAT = "handcnn"
VERSION = 1
MAX_METADATA_BYTES = 16_000_000  # some 15,000 epochs of history

Layout = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]


def write_archive(
    path: str | os.PathLike[str],
    kind: str,
    arrays: Mapping[str, Array],
    metadata: Mapping[str, object],
) -> None:
    """Write `arrays` and `metadata` to `path`, completely or not at all.

    Args:
        path: the file; an existing one is replaced in one step.
        kind: what the file is for (`weights`, `checkpoint`, ...); reading asks for the same.
        arrays: named arrays of numbers of any shape.
        metadata: whatever else belongs to them, as JSON can say it.

    Raises:
        HandcnnError: `read_archive` would refuse the file; what is under `path` stays.
        OSError: the file cannot be written.
    """
    complete = {**metadata, "format": FORMAT, "version": VERSION, "kind": kind}
    text = np.array(json.dumps(complete, default=_plain))
    if text.nbytes > MAX_METADATA_BYTES:
        raise HandcnnError(f"{path} was not written: its metadata is too long")
    for name, array in arrays.items():
        _check_finite(f"{path} was not written: the array {name!r}", array)
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in {"metadata": text, **arrays}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                npy.write_array(cast(BinaryIO, entry), array, version=(1, 0), allow_pickle=False)


def read_archive(
    path: str | os.PathLike[str], kind: str, layout: Callable[[dict[str, Any]], Layout]
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read what `write_archive` wrote, or say in one sentence why it cannot be used.

    Args:
        path: the file.
        kind: the kind it must be of.
        layout: given the metadata, the name, shape and dtype of every array that must be there.

    Returns:
        The arrays by name, and the metadata.

    Raises:
        HandcnnError: the file is missing, damaged, of another kind or version, or does not hold
            exactly the arrays that `layout` asks for, all finite.
    """
    if Path(path).exists() and not Path(path).is_file():  # a pipe or a device may never end
        raise HandcnnError(f"{path} is not a file")
    try:
        with (
            Path(path).open("rb") as file,
            zipfile.ZipFile(file) as archive,
            warnings.catch_warnings(action="ignore"),  # of headers as Python 2 wrote them
        ):
            _check_container(archive, os.fstat(file.fileno()).st_size)
            metadata = _read_metadata(archive, kind)
            return _read_arrays(archive, layout(metadata)), metadata
    except OSError as error:
        raise HandcnnError(f"cannot read {path}: {error.strerror or error}") from error
    except HandcnnError as error:
        raise HandcnnError(f"{path} cannot be used: {_one_line(error)}") from error
    except Exception as error:  # damaged bytes make zipfile and NumPy raise almost any class
        message = f"{path} is not a complete .npz file of handcnn: {_one_line(error)}"
        raise HandcnnError(message) from error


def _one_line(error: Exception) -> str:
    """Return the message on one line of bearable length, whatever a damaged file put into it."""
    return textwrap.shorten(str(error), 300, placeholder=" ...")


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as the number that JSON knows."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} cannot be kept as JSON")


def _check_container(archive: zipfile.ZipFile, file_size: int) -> None:
    """Refuse what could grow on reading: compressed, encrypted, doubled or overlapping entries."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        raise HandcnnError("it holds two entries of the same name")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 0x1:
            raise HandcnnError(f"its entry {entry.filename!r} is compressed or encrypted")
    if sum(entry.file_size for entry in entries) > file_size:
        raise HandcnnError("its entries claim more bytes than the file has")


def _read_metadata(archive: zipfile.ZipFile, kind: str) -> dict[str, Any]:
    if "metadata.npy" not in archive.namelist():
        raise HandcnnError("it was not written by handcnn (there is no entry 'metadata')")
    with archive.open("metadata.npy") as entry:
        shape, dtype, _ = _read_header(cast(BinaryIO, entry))
        if shape != () or dtype.kind != "U" or dtype.itemsize > MAX_METADATA_BYTES:
            raise HandcnnError("its metadata is not a JSON text")
        entry.seek(0)
        text = str(npy.read_array(cast(BinaryIO, entry), allow_pickle=False))
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):
        raise HandcnnError("its metadata is not a JSON text") from None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise HandcnnError("it was not written by handcnn")
    if metadata.get("version") != VERSION:
        given = metadata.get("version")
        raise HandcnnError(f"it has format version {given!r}, this handcnn reads {VERSION}")
    if metadata.get("kind") != kind:
        raise HandcnnError(f"it holds {metadata.get('kind')!r}, where {kind!r} is needed")
    return metadata


def _read_arrays(archive: zipfile.ZipFile, layout: Layout) -> dict[str, Array]:
    found = set(archive.namelist()) - {"metadata.npy"}
    needed = {f"{name}.npy" for name in layout}
    if missing := needed - found:
        raise HandcnnError(f"the array {min(missing).removesuffix('.npy')!r} is missing")
    if extra := found - needed:
        raise HandcnnError(f"there is an array too many, {min(extra).removesuffix('.npy')!r}")
    return {
        name: _read_array(archive, name, shape, dtype) for name, (shape, dtype) in layout.items()
    }


def _read_array(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as entry:
        found_shape, found_dtype, data_starts = _read_header(cast(BinaryIO, entry))
        if (found_shape, found_dtype) != (shape, dtype):
            raise HandcnnError(
                f"the array {name!r} has shape {found_shape} of {found_dtype}, "
                f"but {shape} of {dtype} is needed"
            )
        length, needed = info.file_size - data_starts, prod(shape) * dtype.itemsize
        if length != needed:
            raise HandcnnError(f"the array {name!r} has {length} bytes, {needed} are needed")
        entry.seek(0)
        array = npy.read_array(cast(BinaryIO, entry), allow_pickle=False)
    _check_finite(f"the array {name!r}", array)
    return array


def _check_finite(what: str, array: Array) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise HandcnnError(f"{what} holds values that are not finite (NaN or infinity)")


def _read_header(entry: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return the shape, the dtype and the length of an .npy header, leaving the data unread."""
    try:
        version = npy.read_magic(entry)
        if version != (1, 0):
            raise HandcnnError(f"an array has .npy version {version}, plain arrays have (1, 0)")
        shape, _, dtype = npy.read_array_header_1_0(entry)
    except (HandcnnError, zipfile.BadZipFile):
        raise
    except Exception as error:  # a damaged header makes its parser raise almost any class
        raise HandcnnError("the header of an array is damaged") from error
    return shape, dtype, entry.tell()
