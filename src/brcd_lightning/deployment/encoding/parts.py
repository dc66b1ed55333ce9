"""Codes of an image collection on disk: a folder of Parquet parts, readable by any Parquet tool.

``encoding.json`` describes the codes. ``part-00000.parquet`` and so on hold ``path``, ``code`` (fixed-size binary,
packed as by `codes.pack`; null for an image that could not be read) and ``status`` (``ok``, or the reason).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from brcd_lightning.errors import InputError
from brcd_lightning.options import Role
from brcd_lightning.storage.atomic import atomic_path, write_text

MANIFEST, OK = "encoding.json", "ok"
FORMAT, VERSION = "brcd_lightning.codes", 1


@dataclass(frozen=True)
class CodesDescription:
    """Description of a folder of codes.

    Args:
        bits: code length b.
        encoder: fingerprint of the encoder.
        role: of the encoder, ``student`` or ``teacher``.
        teacher: fingerprint of the teacher whose Hamming space the codes live in.
        root: absolute folder that the paths are relative to.
        names: SHA-256 of all paths in their order.
        count: number of images.
        part_size: images per part.
        runtime: ``torch`` or ``onnx``; bits whose logits are near 0 may differ between them.
        decoding: ``full``, or ``reduced`` for JPEG files decoded at a fraction of their size; about one bit in some
            hundred differs.
    """

    bits: int
    encoder: str
    role: Role
    teacher: str
    root: str
    names: str
    count: int
    part_size: int
    runtime: str = "torch"
    decoding: str = "full"

    @property
    def parts(self) -> int:
        """Number of parts."""
        return -(-self.count // self.part_size)


class CodeRows(NamedTuple):
    """Images of one part, or of all."""

    paths: list[str]
    codes: np.ndarray
    """(n, B) uint8; zeros where `status` is not ``ok``."""
    status: list[str]


def digest_of(names: Sequence[str]) -> str:
    """SHA-256 of paths in their order."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


def begin(folder: Path, description: CodesDescription) -> None:
    """Creates the folder of an encoding, or checks that an existing one was begun with the same description.

    Raises:
        InputError: if the folder holds the codes of another encoding.
    """
    path = folder / MANIFEST
    if path.exists():
        found = read_description(folder)
        changed = [key for key, value in asdict(description).items() if asdict(found)[key] != value]
        if changed:
            raise InputError(
                f"{folder} holds codes of something else ({', '.join(changed)} differ); choose another folder, or "
                "remove that one."
            )
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no codes; choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    content = {"format": FORMAT, "version": VERSION, **asdict(description)}
    write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def read_description(folder: Path) -> CodesDescription:
    """Reads the description of a folder of codes.

    Raises:
        InputError: if it is not a folder of codes.
    """
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT or content.pop("version") != VERSION:
            raise ValueError("another format")
        return CodesDescription(**content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder} is not a folder of codes that brcd encode has written.") from error


def part_path(folder: Path, number: int) -> Path:
    """File of a part."""
    return folder / f"part-{number:05d}.parquet"


def write_part(path: Path, rows: CodeRows) -> None:
    """Writes a part atomically. Equal rows produce equal bytes."""
    codes = [row.tobytes() if status == OK else None for row, status in zip(rows.codes, rows.status, strict=True)]
    columns = {
        "path": pa.array(rows.paths, pa.string()),
        "code": pa.array(codes, pa.binary(rows.codes.shape[1])),
        "status": pa.array(rows.status, pa.string()),
    }
    with atomic_path(path) as temporary:
        parquet.write_table(pa.table(columns), temporary)


def read_part(path: Path) -> CodeRows:
    """Reads a part.

    Raises:
        InputError: if it is damaged.
    """
    with _damage_named(path):
        table = parquet.read_table(path)
        codes = codes_of(table.column("code"))
        return CodeRows(table.column("path").to_pylist(), codes, table.column("status").to_pylist())


def _status(path: Path) -> list[str]:
    """The status of every image of a part."""
    with _damage_named(path):
        found: list[str] = parquet.read_table(path, columns=["status"]).column("status").to_pylist()
        return found


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is not a part of codes, or a damaged one: remove it and encode again.") from error


def codes_of(column: pa.ChunkedArray) -> np.ndarray:
    """Packed codes (n, B) uint8 from a column of fixed-size binary; zeros for nulls."""
    whole = column.combine_chunks()
    width = whole.type.byte_width
    return np.frombuffer(whole.fill_null(bytes(width)).buffers()[1], np.uint8).reshape(-1, width)[: len(whole)]


def read_readable(folder: Path) -> tuple[list[str], np.ndarray]:
    """Paths and codes (n, B) uint8 of the images that could be read, in order; see `read_parts`."""
    parts = list(read_parts(folder))
    good = [status == OK for part in parts for status in part.status]
    paths = [path for part in parts for path in part.paths]
    codes = np.concatenate([part.codes for part in parts])
    return [path for path, fine in zip(paths, good, strict=True) if fine], codes[good]


def count_readable(folder: Path) -> int:
    """Number of images that could be read, from the status column alone; see `read_parts`."""
    return sum(_status(path).count(OK) for path in _finished(folder))


def read_parts(folder: Path) -> Iterator[CodeRows]:
    """Yields all parts in order.

    Raises:
        InputError: if the encoding has not finished.
    """
    for path in _finished(folder):
        yield read_part(path)


def _finished(folder: Path) -> list[Path]:
    """Paths of all parts. Raises `InputError` if one is missing."""
    description = read_description(folder)
    missing = [number for number in range(description.parts) if not part_path(folder, number).is_file()]
    if missing:
        raise InputError(
            f"{folder} lacks {len(missing)} of {description.parts} parts; run brcd encode again with the same options, "
            "which continues."
        )
    return [part_path(folder, number) for number in range(description.parts)]
