"""The description of an index, and an opened index file.

Shapes: N codes, B bytes per code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brcd_lightning.errors import InputError

_BLOCK = 1 << 24
EXACT_KINDS = ("flat", "sharded")
FAISS_KINDS = ("ivf", "hnsw", "multi_hash")


@dataclass(frozen=True)
class IndexDescription:
    """All properties of an index except its codes and ids; part of its file."""

    bits: int
    """Code length."""
    kind: str
    """``flat``, ``sharded``, ``ivf``, ``hnsw`` or ``multi_hash``."""
    fingerprint: str
    """Fingerprint of the model that computed the codes."""
    options: dict[str, int | None]
    """Options of the kind, with defaults filled in and probes as tuned."""
    recall: float | None
    """1 for an exact index; otherwise the recall measured at build time, or None after its codes have changed."""

    @property
    def code_bytes(self) -> int:
        """Bytes of a packed code."""
        return (self.bits + 7) // 8

    @classmethod
    def from_stored(cls, values: Mapping[str, Any]) -> IndexDescription:
        """Creates a description from the values in a file; other keys are ignored."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    def of_other_codes(self) -> IndexDescription:
        """The description after a change of the codes, which invalidates the recall of an approximate index."""
        return self if self.kind in EXACT_KINDS else replace(self, recall=None)

    def problem(self) -> str:
        """Description of the first invalid value; empty if all are valid."""
        if not is_count(self.bits) or self.bits == 0:
            return f"{self.bits!r} bits"
        if self.kind not in (*EXACT_KINDS, *FAISS_KINDS):
            return f"kind {self.kind!r}"
        if not isinstance(self.fingerprint, str) or not isinstance(self.options, dict):
            return "no fingerprint or options"
        known = self.recall is None or (isinstance(self.recall, int | float) and 0 <= self.recall <= 1)
        return "" if known else f"recall {self.recall!r}"


def is_count(value: object) -> bool:
    """True for an integer of at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


class StoredArray(NamedTuple):
    """Location and type of an array in a file."""

    dtype: str
    """NumPy type string."""
    shape: tuple[int, ...]
    start: int
    """Offset of the first byte from the start of the file."""

    @property
    def end(self) -> int:
        """Offset of the first byte after the array."""
        return self.start + int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class StoredIndex:
    """An index file whose header has been read and checked."""

    path: Path
    description: IndexDescription
    arrays: Mapping[str, StoredArray]
    """``codes``: (N, B) uint8 for an exact kind, otherwise the serialization of faiss, (bytes,) uint8. ``ids``: id of
    each position, int64, -1 for removed positions; absent if positions are ids."""
    content_start: int
    """Offset of the first byte after the header."""
    checksum: str
    """Hex SHA-256 of all bytes after the header."""
    count: int
    """N."""

    @property
    def exact(self) -> bool:
        """True if `arrays` hold the codes themselves."""
        return self.description.kind in EXACT_KINDS

    def check_header(self) -> None:
        """Checks that the header's description, count and arrays are valid and consistent.

        Raises:
            InputError: for an invalid or inconsistent header.
        """
        if problem := self.description.problem() or self._problem_of_arrays():
            raise InputError(f"index {self.path} is damaged: its header says {problem}; build it again.")

    def _problem_of_arrays(self) -> str:
        if not isinstance(self.checksum, str) or not is_count(self.count):
            return f"{self.count!r} codes, or no checksum"
        codes, ids = self.arrays.get("codes"), self.arrays.get("ids")
        if codes is None:
            return "that it has no codes"
        for array in filter(None, (codes, ids)):
            if not all(map(is_count, (*array.shape, array.start - self.content_start))):
                return f"{array.shape} values at byte {array.start}"
        shape = (self.count, self.description.code_bytes) if self.exact else codes.shape[:1]
        if codes.dtype != "|u1" or codes.shape != shape:
            return f"codes of shape {codes.shape} for {self.count} of {self.description.code_bytes} bytes"
        # Approximate kinds keep the positions of removed codes.
        fits = ids is None or (len(ids.shape) == 1 and (ids.shape[0] == self.count or not self.exact))
        return "" if fits and (ids is None or ids.dtype == "<i8") else "ids that do not belong to its codes"

    def check_content(self) -> None:
        """Verifies the checksum, reading all bytes after the header once.

        Raises:
            InputError: if the content does not match the checksum.
        """
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            file.seek(self.content_start)
            while block := file.read(_BLOCK):
                digest.update(block)
        if digest.hexdigest() != self.checksum:
            raise InputError(f"index {self.path} is damaged: its content does not match its checksum; build it again.")

    def array(self, name: str, *, mmap: bool) -> np.ndarray:
        """Reads an array, or memory-maps it read-only and shared between processes."""
        dtype, shape, start = self.arrays[name]
        if 0 in shape:  # nothing to map
            return np.empty(shape, dtype=dtype)
        mapped = np.memmap(self.path, dtype=dtype, mode="r", offset=start, shape=shape)
        return mapped if mmap else np.array(mapped)
