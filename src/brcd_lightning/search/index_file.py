"""The file of a `HammingIndex`: safetensors with the tensors ``ids`` and ``codes``, described in its metadata.

``codes`` is (N, B) uint8 for an exact kind, otherwise the serialization of faiss, (bytes,) uint8. ``ids`` is int64, one
per position, and absent if positions are ids. Metadata:

- ``hamming_index``: JSON of the `IndexDescription`, with ``version`` of the format, ``count`` of codes and
  ``checksum``, the SHA-256 of all tensors.
- ``header_sha256``: SHA-256 of the header with 64 zeros as this value.

The header is padded with spaces to a page, and ids come first, so that they are aligned when the file is mapped. Codes
need no alignment, since faiss scans them from any row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from brcd_lightning.errors import InputError
from brcd_lightning.search import old_index_file
from brcd_lightning.search.stored import IndexDescription, StoredArray, StoredIndex
from brcd_lightning.storage.atomic import atomic_path

VERSION = 2
PAGE = 4096
"""Bytes of the header together with the length field before it."""
_LENGTH = 8  # bytes of the length field
_LONGEST_HEADER = 100_000_000  # limit of safetensors
_DESCRIPTION, _DIGEST = "hamming_index", "header_sha256"
_DTYPES = {"U8": "|u1", "I64": "<i8"}


class Codes(Protocol):
    """Codes of an exact index, or an index of faiss."""

    exact: bool

    def __len__(self) -> int: ...

    def write(self, write: Callable[[Any], object], /) -> None:
        """Passes its bytes to `write`, block by block."""


def write_index(path: Path, description: IndexDescription, codes: Codes, ids: np.ndarray | None) -> None:
    """Writes an index file atomically: a failure or a kill leaves an existing file unchanged.

    Args:
        path: path of the file.
        description: description of the index.
        codes: codes, written block by block without a second copy in memory.
        ids: int64, one per position; None if positions are ids.

    Raises:
        InputError: if the file cannot be written, or the description does not fit its page.
    """
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            _write(file, description, codes, ids)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"index {str(path)!r} cannot be written: {reason}.") from error


def _write(file: BinaryIO, description: IndexDescription, codes: Codes, ids: np.ndarray | None) -> None:
    """Writes the content first, then the header that describes it.

    ``safetensors.numpy.save_file`` needs every tensor in memory as a whole, and the checksum before anything is
    written. A serialization of faiss in memory would be a second copy of the index.
    """
    digest = hashlib.sha256()
    file.seek(PAGE)

    def write(block: Any) -> None:
        file.write(block)
        digest.update(block)

    tensors: dict[str, Any] = {}
    if ids is not None:
        write(np.ascontiguousarray(ids, dtype="<i8").view(np.uint8).data)
        tensors["ids"] = _tensor("I64", [len(ids)], 0, file.tell() - PAGE)
    start = file.tell() - PAGE
    codes.write(write)
    end = file.tell() - PAGE
    shape = [len(codes), description.code_bytes] if codes.exact else [end - start]
    tensors["codes"] = _tensor("U8", shape, start, end)
    values = {**asdict(description), "version": VERSION, "count": len(codes), "checksum": digest.hexdigest()}
    header = _header(values, tensors)
    file.truncate(PAGE + end)  # without content, nothing has been written after the page
    file.seek(0)
    file.write(len(header).to_bytes(_LENGTH, "little") + header)
    file.flush()


def _tensor(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def _header(values: dict[str, Any], tensors: dict[str, Any]) -> bytes:
    zeros = "0" * 64
    metadata = {_DESCRIPTION: json.dumps(values, sort_keys=True), _DIGEST: zeros}
    text = json.dumps({"__metadata__": metadata, **tensors}).encode().ljust(PAGE - _LENGTH)
    if len(text) > PAGE - _LENGTH:
        raise InputError(f"the description of an index must fit {PAGE} bytes, got {len(text) + _LENGTH}.")
    return _with_digest(text, zeros, hashlib.sha256(text).hexdigest())


def _with_digest(header: bytes, old: str, new: str) -> bytes:
    # Quotes inside a value are escaped, so only the entry itself matches.
    return header.replace(f'"{_DIGEST}": "{old}"'.encode(), f'"{_DIGEST}": "{new}"'.encode())


def read_header(path: Path) -> StoredIndex:
    """Reads and checks the header of an index file, of this or the previous release.

    Raises:
        InputError: if the file is missing or foreign, has another version or size, or its header is damaged.
    """
    try:
        size = path.stat().st_size
        if not path.is_file() and not path.is_dir():  # reading from a pipe would block
            raise InputError(f"index {path} cannot be read: it is a pipe or a device, not a file.")
        with path.open("rb") as file:
            start = file.read(_LENGTH)
            if start == old_index_file.MAGIC:
                return old_index_file.read_header(path)
            length = int.from_bytes(start, "little")
            if len(start) < _LENGTH or length > _LONGEST_HEADER:
                raise InputError(_foreign(path))
            header = file.read(length)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"index {str(path)!r} cannot be read: {reason}.") from error
    content_start = _LENGTH + length
    if size < content_start:
        raise InputError(f"index {path} is truncated: it has {size} bytes, its header alone takes {content_start}.")
    tensors, values = _checked(path, header)
    try:
        arrays = {name: _array(tensor, content_start) for name, tensor in tensors.items()}
        described = IndexDescription.from_stored(values)
        stored = StoredIndex(path, described, arrays, content_start, values["checksum"], values["count"])
        stored.check_header()
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(f"index {path} is damaged: its header is incomplete or invalid; build it again.") from error
    expected = max(array.end for array in arrays.values())
    if size != expected:
        raise InputError(f"index {path} is truncated or was added to: it has {size} bytes, not {expected}.")
    return stored


def _array(tensor: Mapping[str, Any], content_start: int) -> StoredArray:
    """Location of a safetensors tensor in the file.

    Raises:
        ValueError: if its end does not match its shape.
    """
    start, end = tensor["data_offsets"]
    array = StoredArray(_DTYPES[tensor["dtype"]], tuple(tensor["shape"]), content_start + start)
    if array.end != content_start + end:
        raise ValueError("shape and offsets differ")
    return array


def _checked(path: Path, header: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors and description of a header, after verifying its checksum."""
    try:
        tensors = json.loads(header)
        metadata = tensors.pop("__metadata__")
        values = json.loads(metadata[_DESCRIPTION])
        version, digest = values["version"], metadata[_DIGEST]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(_foreign(path)) from error
    if version != VERSION:
        raise InputError(
            f"index {path} has version {version}, this release reads versions {old_index_file.VERSION} and {VERSION}; "
            "build it again."
        )
    if hashlib.sha256(_with_digest(header, digest, "0" * 64)).hexdigest() != digest:
        raise InputError(f"index {path} is damaged: its header does not match its checksum; build it again.")
    return tensors, values


def _foreign(path: Path) -> str:
    return f"{path} is not an index file, or its header is damaged; write one with HammingIndex.save."
