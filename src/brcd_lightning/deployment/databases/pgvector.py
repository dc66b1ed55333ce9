"""Codes in PostgreSQL with the extension pgvector: ``id bigint``, ``path text``, ``code bit(b)``.

The description is stored as the comment of the table. Bit i of a code is character i of the bit string, from the left.

Shapes: n rows, B bytes a packed code, b bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from secrets import token_hex
from typing import Any, LiteralString

import numpy as np
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from brcd_lightning.deployment.databases.addresses import shown
from brcd_lightning.deployment.databases.database import Nearest, Rows, TableDescription, by_distance
from brcd_lightning.errors import InputError

KINDS = ("flat", "hnsw")
EF_SEARCH = 400
"""Smallest candidate list of a graph search. pgvector's default is 40, which also limits the rows it returns."""
_EF_LIMIT, _MOST_TUPLES = 1000, 2**31 - 1
"""Limits of pgvector."""
_SCANNED_PER_ROW = 20
_OLDEST = (0, 8)
"""First version of pgvector with iterative scans, which continue when the candidates do not suffice."""
_NAME_BYTES, _LONGEST_REASON = 63, 300
_BLOCK = 65_536
_CONNECT_SECONDS = 10
Connection = psycopg.Connection[tuple[Any, ...]]

_FIND = """
SELECT n.nspname, c.relname, obj_description(c.oid, 'pg_class')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
"""
_VISIBLE = _FIND + "WHERE c.oid = to_regclass(quote_ident(%s))"
_IN_SCHEMA = _FIND + "WHERE n.nspname = current_schema() AND c.relname = %s"
_SEARCH: LiteralString = """
SELECT id, path, {code}, (code <~> {query}::bit({bits}))::int FROM {table} ORDER BY """
_BY_ID: LiteralString = "4, id LIMIT {k}"
_BY_GRAPH: LiteralString = "code <~> {query}::bit({bits}) LIMIT {k}"
_EXTENSION = """
SELECT extversion, nspname, to_regtype('vector') IS NOT NULL
FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'vector'
"""


class PgTable:
    """An open table.

    Args:
        address: of the database.
        connection: to it; closed by `close`.
        name: of the table, with its schema.
        description: of its codes.
    """

    def __init__(
        self, address: str, connection: Connection, name: sql.Identifier, description: TableDescription
    ) -> None:
        self.place, self.description = f"table {name.as_string()} of {shown(address)}", description
        self._address, self._connection = address, connection
        self._search = _SEARCH + (_BY_ID if description.kind == "flat" else _BY_GRAPH)
        self._fields = {"bits": sql.Literal(description.bits), "table": name}

    def nearest(self, code: np.ndarray, k: int, *, with_codes: bool = False) -> Nearest:
        """See `CodeDatabase.nearest`."""
        (query,) = bit_strings(code[None], self.description.bits)
        asked = {"query": sql.Literal(query), "k": sql.Literal(k), "code": sql.SQL("code" if with_codes else "NULL")}
        with _told(self._address), self._connection.transaction():
            if self.description.kind != "flat":
                self._widen(k)
            rows = _execute(self._connection, self._search, {**self._fields, **asked}).fetchall()
        ids, distances = np.array([row[0] for row in rows], np.int64), np.array([row[3] for row in rows], np.int32)
        codes = packed([row[2] for row in rows if with_codes], self.description.bits)
        return by_distance(Nearest(ids, distances, [row[1] for row in rows], codes))

    def _widen(self, k: int) -> None:
        """Configures this transaction so that a graph search can return k rows."""
        settings = {
            "hnsw.ef_search": min(_EF_LIMIT, max(k, EF_SEARCH)),
            "hnsw.iterative_scan": "relaxed_order",
            "hnsw.max_scan_tuples": min(_MOST_TUPLES, max(20_000, _SCANNED_PER_ROW * k)),
        }
        calls = sql.SQL(", ").join(
            sql.SQL("set_config({}, {}, true)").format(*map(str, each)) for each in settings.items()
        )
        self._connection.execute(sql.SQL("SELECT ") + calls)

    def codes(self) -> Iterator[np.ndarray]:
        """See `CodeDatabase.codes`."""
        with (
            _told(self._address),
            self._connection.transaction(),
            self._connection.cursor(f"codes_{token_hex(4)}") as cursor,
        ):
            cursor.execute(sql.SQL("SELECT code FROM {table} ORDER BY id").format(**self._fields))
            while rows := cursor.fetchmany(_BLOCK):
                yield packed([code for (code,) in rows], self.description.bits)

    def close(self) -> None:
        """See `CodeDatabase.close`."""
        self._connection.close()


def open_table(address: str, table: str) -> PgTable:
    """See `Backend.open_table`."""
    connection = _connect(address)
    try:
        with _told(address):
            found = connection.execute(_VISIBLE, [_checked_name(table)]).fetchone()
            if found is None:
                raise InputError(f"{shown(address)} holds no table {table!r}; push codes there by brcd push.")
            description = TableDescription.of_json(found[2], f"table {table!r} of {shown(address)}")
            _require_extension(connection, address)
            return PgTable(address, connection, sql.Identifier(*found[:2]), description)
    except BaseException:
        connection.close()
        raise


def require_free(address: str, table: str, replace: bool) -> None:
    """See `Backend.require_free`."""
    with _connect(address) as connection, _told(address):
        _require_free(connection, address, table, replace)


def write_table(address: str, table: str, description: TableDescription, rows: Iterator[Rows], replace: bool) -> None:
    """See `Backend.write_table`. One transaction, which renames the table to its final name as its last step."""
    with _connect(address) as connection, _told(address):
        if connection.execute(_EXTENSION).fetchone() is None:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        _require_extension(connection, address)
        with connection.transaction():
            _write(connection, address, table, description, rows, replace)


def _write(
    connection: Connection,
    address: str,
    table: str,
    description: TableDescription,
    rows: Iterator[Rows],
    replace: bool,
) -> None:
    temporary = sql.Identifier(f"brcd_push_{token_hex(8)}")
    fields = {"table": temporary, "bits": sql.Literal(description.bits), "told": sql.Literal(description.as_json())}
    _execute(connection, "CREATE TABLE {table} (id bigint, path text NOT NULL, code bit({bits}) NOT NULL)", fields)
    _copy(connection, temporary, description.bits, rows)
    _execute(connection, "ALTER TABLE {table} ADD PRIMARY KEY (id)", fields)
    if description.kind == "hnsw":
        _execute(connection, "CREATE INDEX ON {table} USING hnsw (code bit_hamming_ops)", fields)
    _execute(connection, "COMMENT ON TABLE {table} IS {told}", fields)
    _execute(connection, "ANALYZE {table}", fields)
    old = _require_free(connection, address, table, replace)
    if old is not None:
        _execute(connection, "DROP TABLE {table}", {"table": old})
    _execute(connection, "ALTER TABLE {table} RENAME TO {name}", {**fields, "name": sql.Identifier(table)})


def bit_strings(codes: np.ndarray, bits: int) -> list[str]:
    """Codes (n, B) as strings of b digits, the first bit first."""
    digits = np.unpackbits(codes, axis=1, count=bits, bitorder="little") | ord("0")
    text = digits.tobytes().decode()
    return [text[start : start + bits] for start in range(0, len(text), bits)]


def packed(strings: Sequence[str], bits: int) -> np.ndarray:
    """Inverse of `bit_strings`: codes (n, B) uint8."""
    digits = np.frombuffer("".join(strings).encode(), np.uint8).reshape(-1, bits)
    return np.packbits(digits & 1, axis=1, bitorder="little")


def _connect(address: str) -> Connection:
    try:
        options = conninfo_to_dict(address)
    except psycopg.ProgrammingError:  # its text may contain a part of the password
        raise InputError(
            f"{shown(address)} is not an address of PostgreSQL; give postgresql://USER:PASSWORD@HOST:PORT/DATABASE, "
            "with % in a password as %25."
        ) from None
    seconds = options.get("connect_timeout", _CONNECT_SECONDS)
    try:
        return psycopg.connect(
            address, autocommit=True, prepare_threshold=None, connect_timeout=seconds, client_encoding="UTF8"
        )
    except psycopg.OperationalError as error:
        raise InputError(
            f"cannot connect to {shown(address)}: {_reason(error)}; check host, port, database, user and password."
        ) from error


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Converts server refusals and lost connections into `InputError`; an error in our SQL stays a psycopg error."""
    try:
        yield
    except psycopg.errors.DuplicateTable as error:
        raise InputError(f"{shown(address)}: {_reason(error)}; another push was faster, see --replace.") from error
    except psycopg.Error as error:
        refused = isinstance(error, psycopg.errors.InsufficientPrivilege)
        if isinstance(error, psycopg.ProgrammingError | psycopg.InterfaceError) and not refused:
            raise
        raise InputError(f"{shown(address)}: {_reason(error)}; try again when that is mended.") from error


def _reason(error: psycopg.Error) -> str:
    return " ".join(str(error).split())[:_LONGEST_REASON].rstrip(".")


def _checked_name(table: str) -> str:
    if not 0 < len(table.encode()) <= _NAME_BYTES or "\0" in table:
        raise InputError(f"a table's name must have 1 to {_NAME_BYTES} bytes, got {table!r}; choose another --table.")
    return table


def _require_extension(connection: Connection, address: str) -> None:
    found = connection.execute(_EXTENSION).fetchone()
    if found is None:
        raise InputError(f"{shown(address)} lacks the extension vector; create it there: CREATE EXTENSION vector.")
    version, schema, visible = found
    if tuple(int(number) for number in version.split(".")[:2]) < _OLDEST:
        raise InputError(
            f"{shown(address)} has pgvector {version}, and {'.'.join(map(str, _OLDEST))} is needed; update it there: "
            "ALTER EXTENSION vector UPDATE."
        )
    if not visible:
        raise InputError(f"{shown(address)} has pgvector in schema {schema!r}; put that on the user's search_path.")


def _require_free(connection: Connection, address: str, table: str, replace: bool) -> sql.Identifier | None:
    """The table that a push replaces, None if there is none."""
    found = connection.execute(_IN_SCHEMA, [_checked_name(table)]).fetchone()
    if found is None:
        return None
    told = TableDescription.of_json(found[2], f"table {table!r} of {shown(address)}")
    if not replace:
        raise InputError(
            f"{shown(address)} holds {told.count:,} codes of {told.role} {told.encoder} in table {table!r} already; "
            "replace them by --replace, or name another --table."
        )
    return sql.Identifier(*found[:2])


def _copy(connection: Connection, table: sql.Identifier, bits: int, rows: Iterator[Rows]) -> None:
    command = sql.SQL("COPY {} (id, path, code) FROM STDIN").format(table)
    with connection.cursor() as cursor, cursor.copy(command) as copy:
        for block in rows:
            for row in zip(block.ids.tolist(), block.paths, bit_strings(block.codes, bits), strict=True):
                copy.write_row(row)


def _execute(
    connection: Connection, command: LiteralString, fields: Mapping[str, sql.Composable]
) -> psycopg.Cursor[tuple[Any, ...]]:
    """Runs a command without placeholders, because psycopg would read a percent sign in a table name as one."""
    return connection.execute(sql.SQL(command).format(**fields))
