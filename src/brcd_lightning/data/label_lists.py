"""Lists of images as text, CSV or Parquet, with or without labels: reading, checks, and matching with files."""

from __future__ import annotations

import csv
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor

from brcd_lightning.errors import InputError, did_you_mean

LabelCount = Annotated[int, Interval(ge=1, le=100_000)]
"""Number of labels of a data set."""


class LabelledNames(NamedTuple):
    """Images of a list, in its order."""

    names: list[str]
    """Relative paths with forward slashes."""
    labels: Tensor
    """(n,) int64 class indices, or (n, C) multi-hot."""
    classes: Sequence[str] = ()
    """Names of the C classes; empty if the list has none."""


def read_list(path: Path, num_classes: int | None = None) -> LabelledNames:
    """Reads one list.

    A line of a text file holds a path, then the class index or the labels as zeros and ones, separated by spaces. CSV
    and Parquet files have a column ``path`` and either a column ``label`` (class index) or one column of zeros and ones
    per class.

    Args:
        path: ``.csv`` and ``.parquet`` are tables; all other files are text.
        num_classes: expected number of classes; any if None.

    Raises:
        InputError: naming the file and the line, if it is missing or malformed.
    """
    if not path.is_file():
        raise InputError(f"list {path} does not exist.")
    kind = path.suffix.lower()
    names, labels, classes = _read_columns(path, _TABLES[kind](path)) if kind in _TABLES else (*_read_text(path), ())
    check_names(path, names)
    return LabelledNames(names, check_labels(path, labels, num_classes), classes)


def check_labels(path: Path, labels: np.ndarray, num_classes: int | None) -> Tensor:
    """Converts numbers (n, 1) or (n, C) of a file to a tensor of labels: (n,) class indices or (n, C) multi-hot.

    Raises:
        InputError: for an unexpected number of classes or invalid values.
    """
    if labels.shape[1] == 1:
        labels = labels[:, 0]
        if labels.min() < 0 or (num_classes is not None and labels.max() >= num_classes):
            limit = "" if num_classes is None else f" and below {num_classes}"
            raise InputError(f"{path}: class indices must be at least 0{limit}, got {labels.min()} to {labels.max()}.")
    else:
        if num_classes is not None and labels.shape[1] != num_classes:
            raise InputError(f"{path}: expected {num_classes} labels an image, got {labels.shape[1]}.")
        if not np.isin(labels, (0, 1)).all():
            line = int((~np.isin(labels, (0, 1))).any(axis=1).argmax()) + 1
            raise InputError(f"{path}: labels must be 0 or 1, but those of image {line} are not.")
    return torch.from_numpy(labels.astype(np.int64))


def _read_text(path: Path) -> tuple[list[str], np.ndarray]:
    names, numbers, widths = [], [], []
    for line in _lines(path):
        name, *values = line.split()
        names.append(name)
        numbers.append(" ".join(values))
        widths.append(len(values))
    return names, _matrix(path, numbers, widths)


def read_names(path: Path, column: str = "path") -> list[str]:
    """Names of images, without labels; paths may have backslashes, as on Windows.

    Args:
        path: ``.csv`` and ``.parquet`` are tables; all other files are text with one path per line.
        column: column of the paths in a table.

    Raises:
        InputError: naming the file, if it is missing or malformed, or names an image twice.
    """
    if not path.is_file():
        raise InputError(f"list {path} does not exist.")
    kind = path.suffix.lower()
    if kind in _TABLES:
        columns = _TABLES[kind](path)
        if column not in columns:
            raise InputError(f"{path} has no column {column!r}.{did_you_mean(column, columns)}")
        lines = [str(each) for each in columns[column] if each]
    else:
        lines = _lines(path)
    names = [line.strip().replace("\\", "/") for line in lines]
    if not names:
        raise InputError(f"{path} names no images.")
    check_names(path, names)
    return names


def read_numbers(path: Path) -> np.ndarray:
    """Reads a text file of integers, the same number on every line: (n, width)."""
    if not path.is_file():
        raise InputError(f"{path} does not exist.")
    lines = _lines(path)
    return _matrix(path, lines, [len(line.split()) for line in lines])


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file in UTF-8.") from error


def _matrix(path: Path, lines: Sequence[str], widths: Sequence[int]) -> np.ndarray:
    """Numbers (n, width) of lines."""
    if not lines:
        raise InputError(f"{path} names no images.")
    if len(set(widths)) > 1 or 0 in widths:
        width = Counter(widths).most_common(1)[0][0]
        wrong = next(number for number, found in enumerate(widths) if found != width or found == 0)
        raise InputError(f"{path}, line {wrong + 1}: expected {max(width, 1)} labels, got {widths[wrong]}.")
    try:
        flat = np.array(" ".join(lines).split(), dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: labels must be whole numbers ({error}).") from error
    return flat.reshape(len(lines), -1)


def _csv_columns(path: Path) -> dict[str, list]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheet programs write a byte order mark
            header, *rows = [row for row in csv.reader(file) if row] or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV file in UTF-8 ({error}).") from error
    if len(set(header)) < len(header):
        raise InputError(f"{path} has two columns {Counter(header).most_common(1)[0][0]!r}.")
    if not rows:
        raise InputError(f"{path} names no images.")
    wrong = next((number for number, row in enumerate(rows) if len(row) != len(header)), None)
    if wrong is not None:
        raise InputError(f"{path}, line {wrong + 2}: expected {len(header)} columns, got {len(rows[wrong])}.")
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    return {name: list(values) for name, values in columns.items()}


def _parquet_columns(path: Path) -> dict[str, list]:
    from pyarrow import parquet  # noqa: PLC0415 (slow import)

    try:
        columns: dict[str, list] = parquet.read_table(path).to_pydict()
    except (OSError, ValueError) as error:  # pyarrow's errors are of these types
        raise InputError(f"{path} is not a Parquet file, or a damaged one ({' '.join(str(error).split())}).") from error
    return columns


_TABLES = {".csv": _csv_columns, ".parquet": _parquet_columns}
"""Readers of tables by suffix; each returns the values of every column by name."""


def _read_columns(path: Path, columns: Mapping[str, list]) -> tuple[list[str], np.ndarray, Sequence[str]]:
    if "path" not in columns:
        raise InputError(f"{path} needs a column 'path', got {', '.join(columns)}.")
    classes = ["label"] if "label" in columns else [name for name in columns if name != "path"]
    if not classes:
        raise InputError(f"{path} needs a column 'label', or one column of zeros and ones for each class.")
    try:
        labels = np.stack([np.array(columns[name], dtype=np.int64) for name in classes], axis=1)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: labels must be whole numbers ({error}).") from error
    return [str(name) for name in columns["path"]], labels, classes if len(classes) > 1 else ()


def check_names(origin: Path, names: Sequence[str]) -> None:
    """Raises `InputError` for duplicate names, also if spelt differently, and for paths that may leave the folder.

    Args:
        origin: the file or folder that contains them, for the message.
        names: relative or absolute paths.
    """
    plain = [posixpath.normpath(name) if "./" in name or "//" in name else name for name in names]
    if len(set(plain)) < len(plain):
        name, count = Counter(plain).most_common(1)[0]
        raise InputError(f"list {origin} names {name} {count} times.")
    if any("\0" in name for name in names):
        raise InputError(f"list {origin} names a path with a zero byte; write the list again.")
    outside = next((name for name in names if ".." in name.split("/")), None)
    if outside is not None:
        raise InputError(f"list {origin} names {outside}, which may lie outside the data set's folder.")


def below(root: Path, names: Sequence[str]) -> list[str]:
    """Makes names relative to `root` if a list has a prefix of its own or of another machine.

    Removes the shortest common prefix whose remainders lie below the root. Without one, keeps the last two parts of
    each name.

    Args:
        root: folder of the images.
        names: paths of a list, either all absolute or all relative.

    Raises:
        InputError: for a mixture of absolute and relative paths, or if the shortened paths are not distinct.
    """
    if len({name.startswith("/") for name in names}) > 1:
        raise InputError(f"paths of a list for {root} must be all relative or all absolute.")
    first = names[0]
    if not first.startswith("/") and (root / first).is_file():
        return list(names)
    parts = first.split("/")
    for place in range(1, len(parts)):
        prefix = "/".join(parts[:place]) + "/"
        if (root / first.removeprefix(prefix)).is_file() and all(name.startswith(prefix) for name in names):
            return [name.removeprefix(prefix) for name in names]
    short = ["/".join(name.split("/")[-2:]) for name in names]
    if not (root / short[0]).is_file() and not first.startswith("/"):
        return list(names)  # the scan will report it as missing
    if len(set(short)) < len(set(names)):
        raise InputError(
            f"{first} of a list does not lie below {root}, and the last two parts of its paths are not distinct; "
            "set dataset.root to the folder that they begin with."
        )
    return short
