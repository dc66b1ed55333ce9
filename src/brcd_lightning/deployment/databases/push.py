"""Upload of a folder of codes to a database: part by part, all or nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brcd_lightning.deployment.databases.database import TABLE, Rows, TableDescription
from brcd_lightning.deployment.databases.opener import backend_of
from brcd_lightning.deployment.encoding.parts import OK, count_readable, read_description, read_parts
from brcd_lightning.errors import InputError, require_choice

BATCH = 16_384
"""Rows per block sent to a database."""


class Pushed(NamedTuple):
    """Outcome of a push."""

    description: TableDescription
    left_out: int
    """Images that could not be read during encoding."""
    seconds: float
    """Time for reading, writing and building the index."""


def push_codes(
    codes: Path, address: str, *, table: str = TABLE, kind: str | None = None, replace: bool = False
) -> Pushed:
    """Writes the codes of all images that could be read into a table.

    Args:
        codes: folder written by `encode_corpus`.
        address: of the database.
        table: name of the table.
        kind: of index; the exact one when None.
        replace: replace an earlier push of that name.

    Raises:
        InputError: if the encoding is unfinished, the table already exists, or the database cannot be reached.
    """
    backend, told = backend_of(address), read_description(codes)
    kind = backend.KINDS[0] if kind is None else kind
    require_choice("--kind", kind, backend.KINDS)
    started = time.perf_counter()
    backend.require_free(address, table, replace)
    count = count_readable(codes)
    if not count:
        raise InputError(f"{codes} holds no image that could be read; encode other images.")
    description = TableDescription(told.bits, told.role, told.encoder, told.teacher, told.root, kind, count)
    backend.write_table(address, table, description, rows_of(codes), replace)
    return Pushed(description, told.count - count, time.perf_counter() - started)


def rows_of(codes: Path, batch: int = BATCH) -> Iterator[Rows]:
    """Yields the rows of all images that could be read, numbered from 0 in the order of the parts.

    Args:
        codes: folder of codes.
        batch: maximum number of rows per block.
    """
    first = 0
    for part in read_parts(codes):
        good = np.flatnonzero([status == OK for status in part.status])
        for start in range(0, len(good), batch):
            places = good[start : start + batch]
            ids = np.arange(first, first + len(places))
            first += len(places)
            yield Rows(ids, [part.paths[place] for place in places], part.codes[places])
