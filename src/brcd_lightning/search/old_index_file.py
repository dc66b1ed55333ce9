"""Reads index files of format version 1, written by the previous release; to be removed in the next release.

Layout: 8 bytes magic, version and length of the header text (uint32 each, little-endian), SHA-256 of the header text,
the header as JSON; at `PAGE` the sections ``codes`` and ``ids``.
"""

from __future__ import annotations

import hashlib
import json
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brcd_lightning.errors import InputError
from brcd_lightning.search.stored import EXACT_KINDS, IndexDescription, StoredArray, StoredIndex

MAGIC = b"BRCDHIDX"
VERSION = 1
PAGE = 4096
_FIXED = struct.Struct("<8sII32s")


def read_header(path: Path) -> StoredIndex:
    """Reads and checks the header of a file that begins with `MAGIC`.

    Raises:
        InputError: if the file has another version or size, or its header is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        page = file.read(PAGE)
    if len(page) < PAGE:
        raise InputError(f"index {path} is truncated: it has {size} bytes, its header alone takes {PAGE}.")
    _, version, length, digest = _FIXED.unpack_from(page)
    if version != VERSION:
        raise InputError(f"index {path} has version {version}, this release reads version {VERSION}; build it again.")
    text = page[_FIXED.size : _FIXED.size + length]
    if hashlib.sha256(text).digest() != digest:
        raise InputError(f"index {path} is damaged: its header does not match its checksum; build it again.")
    try:
        header = json.loads(text)
        stored = _stored(path, header)
        expected = header["size"]
        stored.check_header()
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(f"index {path} is damaged: its header is incomplete or invalid; build it again.") from error
    if size != expected or max(array.end for array in stored.arrays.values()) > size:
        raise InputError(f"index {path} is truncated or was added to: it has {size} bytes, not {expected}.")
    warnings.warn(
        f"index {path} has the format of an earlier release, which the next one will not read; save the loaded "
        "index again.",
        FutureWarning,
        stacklevel=4,
    )
    return stored


def _stored(path: Path, header: Mapping[str, Any]) -> StoredIndex:
    description = IndexDescription.from_stored(header)
    start, length = header["sections"]["codes"]
    exact = description.kind in EXACT_KINDS
    shape = (length // description.code_bytes, description.code_bytes) if exact else (length,)
    arrays = {"codes": StoredArray("|u1", shape, start)}
    if "ids" in header["sections"]:
        start, length = header["sections"]["ids"]
        arrays["ids"] = StoredArray("<i8", (length // 8,), start)
    return StoredIndex(path, description, arrays, PAGE, header["checksum"], header["count"])
