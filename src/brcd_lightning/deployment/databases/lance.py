"""Codes in LanceDB, in a folder or in object storage: ``id``, ``path``, and ``code`` as a list of B bytes.

A push writes a new version of the table. As its last step it moves the tag `TAG` to that version, which searches then
use. The description is stored in the metadata of the schema.

Shapes: n rows, B bytes a packed code, b bits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import IvfFlat

from brcd_lightning.deployment.databases.addresses import shown
from brcd_lightning.deployment.databases.database import Nearest, Rows, TableDescription, by_distance
from brcd_lightning.errors import InputError

KINDS = ("flat", "ivf")
TAG = "brcd_push"
METADATA = b"brcd_lightning"
PROBED, LEAST_PROBES = 3, 20
"""A query reads one in `PROBED` partitions of an ``ivf`` table, and at least `LEAST_PROBES` of them."""
_LONGEST_REASON = 300
_NAME = re.compile(r"(?!\.\.?$)[A-Za-z0-9_.-]{1,200}")
_MISSING = "was not found"  # in the message of a ValueError
_SOURCE = re.compile(r", /\S+\.rs:\d+:\d+")  # source location inside LanceDB


class LanceTable:
    """An open table.

    Args:
        place: table and address, for messages.
        table: at the version of `TAG`.
        description: of its codes.
    """

    def __init__(self, place: str, table: Any, description: TableDescription) -> None:
        self.place, self.description = place, description
        self._table = table

    def nearest(self, code: np.ndarray, k: int, *, with_codes: bool = False) -> Nearest:
        """See `CodeDatabase.nearest`. Ids follow the order of writing, so LanceDB too orders ties by id."""
        columns = ["id", "path", "_distance", *(["code"] if with_codes else [])]
        query = self._table.search(code, vector_column_name="code").distance_type("hamming").limit(k).select(columns)
        with _told(self.place):
            if self.description.kind == "flat":
                found = query.bypass_vector_index().to_arrow()
            else:
                partitions = _partitions(self.description.count)
                found = query.nprobes(max(LEAST_PROBES, partitions // PROBED)).to_arrow()
                if len(found) < min(k, self.description.count):  # these partitions hold too few rows
                    found = query.nprobes(partitions).to_arrow()
        codes = _codes_of(found["code"], len(code)) if with_codes else np.empty((0, len(code)), np.uint8)
        distances = np.rint(found["_distance"].to_numpy()).astype(np.int32)
        return by_distance(Nearest(found["id"].to_numpy(), distances, found["path"].to_pylist(), codes))

    def codes(self) -> Iterator[np.ndarray]:
        """See `CodeDatabase.codes`."""
        with _told(self.place):
            for batch in self._table.search().select(["code"]).to_batches():
                yield _codes_of(batch["code"], -(-self.description.bits // 8))

    def close(self) -> None:
        """See `CodeDatabase.close`."""


def open_table(address: str, table: str) -> LanceTable:
    """See `Backend.open_table`."""
    place = f"table {table!r} of {shown(address)}"
    with _told(place):
        found = _newest(address, table)
        if found is None or TAG not in found.tags.list():
            raise InputError(f"{shown(address)} holds no table {table!r}; push codes there by brcd push.")
        found.checkout(TAG)
        return LanceTable(place, found, _described(found, place))


def require_free(address: str, table: str, replace: bool) -> None:
    """See `Backend.require_free`."""
    place = f"table {table!r} of {shown(address)}"
    with _told(place):
        found = _newest(address, table)
        if found is None:
            return
        described = _described(found, place)
        if not replace and TAG in found.tags.list():  # without the tag, the push was interrupted
            raise InputError(
                f"{shown(address)} holds {described.count:,} codes of {described.role} {described.encoder} in table "
                f"{table!r} already; replace them by --replace, or name another --table."
            )


def write_table(address: str, table: str, description: TableDescription, rows: Iterator[Rows], replace: bool) -> None:
    """See `Backend.write_table`."""
    require_free(address, table, replace)
    schema = pa.schema(
        [("id", pa.int64()), ("path", pa.string()), ("code", pa.list_(pa.uint8(), -(-description.bits // 8)))],
        metadata={METADATA: description.as_json().encode()},
    )
    failed: list[BaseException] = []
    reader = pa.RecordBatchReader.from_batches(schema, _batches(rows, schema, failed))
    with _told(f"table {table!r} of {shown(address)}", failed):
        mode = "create" if _newest(address, table) is None else "overwrite"
        new = lancedb.connect(_uri(address)).create_table(table, reader, mode=mode)
        if description.kind == "ivf":
            partitions = IvfFlat(distance_type="hamming", num_partitions=_partitions(description.count))
            new.create_index("code", config=partitions)
        move = new.tags.update if TAG in new.tags.list() else new.tags.create
        move(TAG, new.version)


def _partitions(count: int) -> int:
    """Number of partitions for `count` codes."""
    return max(1, round(count**0.5))


def _uri(address: str) -> str:
    """The URI for LanceDB: a folder or an address of object storage."""
    place = address.partition("://")[2]
    return place if "://" in place else str(Path(place).expanduser())


def _newest(address: str, table: str) -> Any:
    """The newest version of a table, None if there is none. Does not create a folder."""
    uri = _uri(address)
    if _NAME.fullmatch(table) is None:
        raise InputError(
            f"a table of LanceDB is named by letters, digits, underscores, hyphens and periods, got {table!r}; choose "
            "another --table."
        )
    if "://" not in uri and not Path(uri, f"{table}.lance").is_dir():
        return None
    try:
        return lancedb.connect(uri).open_table(table)
    except ValueError as error:
        if _MISSING not in str(error):
            raise
        return None


def _described(table: Any, place: str) -> TableDescription:
    text = (table.schema.metadata or {}).get(METADATA)
    return TableDescription.of_json(None if text is None else text.decode(), place)


def _batches(rows: Iterator[Rows], schema: pa.Schema, failed: list[BaseException]) -> Iterator[pa.RecordBatch]:
    """Rows as Arrow batches. LanceDB would lose the type of an error raised here, so the error is kept in `failed`."""
    try:
        for ids, paths, codes in rows:
            lists = pa.FixedSizeListArray.from_arrays(pa.array(codes.reshape(-1)), codes.shape[1])
            yield pa.RecordBatch.from_arrays([pa.array(ids), pa.array(paths, pa.string()), lists], schema=schema)
    except BaseException as error:
        failed.append(error)
        raise


def _codes_of(column: pa.Array | pa.ChunkedArray, width: int) -> np.ndarray:
    """Codes (n, B) uint8 from a column of lists."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return np.concatenate(
        [np.empty((0, width), np.uint8), *(each.flatten().to_numpy().reshape(-1, width) for each in chunks)]
    )


@contextmanager
def _told(place: str, failed: Sequence[BaseException] = ()) -> Iterator[None]:
    """Converts errors of LanceDB and its storage into `InputError`."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        if failed:
            raise failed[0] from None
        text = " ".join(str(error).split())
        text = _SOURCE.sub("", text)[:_LONGEST_REASON].rstrip(".")
        raise InputError(f"{place}: {text}; try again when that is mended.") from error
