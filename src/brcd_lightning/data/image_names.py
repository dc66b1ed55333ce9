"""Names of images without labels: of a folder, or of a list as text, CSV or Parquet."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from brcd_lightning.data.image_folder import IMAGE_SUFFIXES
from brcd_lightning.data.label_lists import check_names, read_names
from brcd_lightning.errors import InputError


class ImageNames(NamedTuple):
    """Images on disk."""

    root: Path
    """Folder that the names are relative to."""
    names: list[str]
    """Paths with forward slashes, in order."""


def image_names(source: Path, column: str = "path") -> ImageNames:
    """Lists images.

    Args:
        source: a folder, whose images are found at any depth and come sorted (hidden files and folders are left out);
            an image; or a list, whose paths are absolute or relative to its folder: ``.csv``, ``.parquet``, or text
            with one path a line.
        column: of paths in a table.

    Raises:
        InputError: if there are no images, or a list is malformed.
    """
    if source.is_dir():
        names = sorted(_walk(str(source)))
        if not names:
            raise InputError(f"{source} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
        strange = next((name for name in names if not _is_text(name)), None)
        if strange is not None:
            raise InputError(f"{source} holds a file whose name is no UTF-8, {strange!r}; rename it.")
        return ImageNames(source, names)
    if not source.is_file():
        raise InputError(f"{source} is no folder, no image and no list of images.")
    if source.suffix.lower() in IMAGE_SUFFIXES:
        return ImageNames(source.parent, [source.name])
    readers = {".csv": _csv_column, ".parquet": _parquet_column}
    read = readers.get(source.suffix.lower())
    names = read_names(source) if read is None else read(source, column)
    if not names:
        raise InputError(f"{source} names no images.")
    check_names(source, names)
    return ImageNames(source.parent, names)


def _walk(root: str, below: str = "") -> Iterator[str]:
    """Names below a folder, without a path object for each of many files."""
    with os.scandir(f"{root}/{below}") as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = f"{below}{entry.name}"
            if entry.is_dir():
                yield from _walk(root, f"{name}/")
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES and entry.is_file():
                yield name


def _is_text(name: str) -> bool:
    """False where the operating system gave bytes that are no UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _csv_column(path: Path, column: str) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if column not in (rows.fieldnames or ()):
                raise InputError(f"{path} needs a column {column!r}, got {', '.join(rows.fieldnames or ()) or 'none'}.")
            return [(row[column] or "").replace("\\", "/") for row in rows]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV file in UTF-8 ({error}).") from error


def _parquet_column(path: Path, column: str) -> list[str]:
    from pyarrow import parquet  # noqa: PLC0415 (slow import)

    try:
        found = parquet.ParquetFile(path)
        if column not in found.schema_arrow.names:
            raise InputError(f"{path} needs a column {column!r}, got {', '.join(found.schema_arrow.names)}.")
        return [str(name) for name in found.read([column]).column(0).to_pylist()]
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a Parquet file, or a damaged one ({' '.join(str(error).split())}).") from error
