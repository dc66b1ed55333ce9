"""The file of a `HammingIndex`: one header page that names every byte after it, then ids and codes.

Layout: 8 bytes magic, version and length of the header text (uint32 each, little-endian), SHA-256 of the header text,
the header as JSON; at `PAGE` the sections, each at a multiple of 64 bytes. The header holds the SHA-256 of everything
behind the page.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from brcd_lightning.errors import InputError
from brcd_lightning.files import atomic_path

MAGIC = b"BRCDHIDX"
VERSION = 1
PAGE = 4096
_FIXED = struct.Struct("<8sII32s")
_BLOCK = 1 << 24

Writer = Callable[[Callable[[Any], object]], None]
"""Writes its section through the function that it is given."""


def write_index(path: Path, header: Mapping[str, Any], sections: Mapping[str, Writer]) -> None:
    """Writes an index file atomically: a failure or a kill leaves an older file as it was.

    Args:
        path: of the file.
        header: plain values; ``sections``, ``size`` and ``checksum`` are added.
        sections: writers by name, in file order.

    Raises:
        InputError: if the header does not fit its page.
    """
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            _write(file, header, sections)
    except OSError as error:
        raise InputError(f"index {path} cannot be written: {error.strerror or error}.") from error


def _write(file: BinaryIO, header: Mapping[str, Any], sections: Mapping[str, Writer]) -> None:
    digest = hashlib.sha256()
    file.seek(PAGE)

    def write(block: Any) -> None:
        file.write(block)
        digest.update(block)

    places = {}
    for name, writer in sections.items():
        start = file.tell()
        writer(write)
        places[name] = [start, file.tell() - start]
        write(bytes(-file.tell() % 64))
    complete = {**header, "sections": places, "size": file.tell(), "checksum": digest.hexdigest()}
    text = json.dumps(complete, sort_keys=True).encode()
    if _FIXED.size + len(text) > PAGE:
        raise InputError(f"the description of an index must fit {PAGE} bytes, got {_FIXED.size + len(text)}.")
    file.truncate(complete["size"])  # without content, nothing has been written behind the page yet
    file.seek(0)
    file.write(_FIXED.pack(MAGIC, VERSION, len(text), hashlib.sha256(text).digest()) + text)
    file.flush()


def read_header(path: Path) -> dict[str, Any]:
    """Reads and checks the header.

    Raises:
        InputError: if the file is missing, foreign, of another version, damaged in its header or of another size.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            page = file.read(PAGE)
    except OSError as error:
        raise InputError(f"index {path} cannot be read: {error.strerror or error}.") from error
    if page[: len(MAGIC)] != MAGIC:
        raise InputError(f"{path} is not an index file; write one with HammingIndex.save.")
    if len(page) < PAGE:
        raise InputError(f"index {path} is truncated: it has {size} bytes, its header alone takes {PAGE}.")
    _, version, length, digest = _FIXED.unpack_from(page)
    if version != VERSION:
        raise InputError(f"index {path} has version {version}, this release reads version {VERSION}; build it again.")
    text = page[_FIXED.size : _FIXED.size + length]
    if hashlib.sha256(text).digest() != digest:
        raise InputError(f"index {path} is damaged: its header does not match its checksum; build it again.")
    header = json.loads(text)
    if header["size"] != size:
        raise InputError(f"index {path} is truncated or was added to: it has {size} bytes, not {header['size']}.")
    return header


def check_content(path: Path, header: Mapping[str, Any]) -> None:
    """Reads everything behind the header once.

    Raises:
        InputError: if it does not match the checksum.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(PAGE)
        while block := file.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != header["checksum"]:
        raise InputError(f"index {path} is damaged: its content does not match its checksum; build it again.")


def read_section(path: Path, header: Mapping[str, Any], name: str, *, mmap: bool) -> np.ndarray | None:
    """One section as bytes: mapped and read-only, or a copy in memory. None if the file has none of that name."""
    if name not in header["sections"]:
        return None
    offset, size = header["sections"][name]
    if size == 0:
        return np.empty(0, dtype=np.uint8)
    mapped = np.memmap(path, dtype=np.uint8, mode="r", offset=offset, shape=(size,))
    return mapped if mmap else np.array(mapped)
