"""Interface of a database that holds codes, and the description stored with them.

Shapes: n rows, B bytes a packed code (see `codes.pack`), b bits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple, Protocol

import numpy as np

from brcd_lightning.deployment.image_index.searched import CodesOfImages
from brcd_lightning.errors import InputError

FORMAT, VERSION = "brcd_lightning.table", 1
TABLE = "brcd_codes"
"""Default table name."""


@dataclass(frozen=True)
class TableDescription(CodesOfImages):
    """Description of a table of codes."""

    def as_json(self) -> str:
        """JSON text as stored in the database."""
        return json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}, sort_keys=True)

    @classmethod
    def of_json(cls, text: str | None, place: str) -> TableDescription:
        """Reads `as_json`.

        Args:
            text: from the database, None where there is none.
            place: table and database, for messages.

        Raises:
            InputError: if the text was not written by `as_json`.
        """
        try:
            content = json.loads(text or "")
            if content.pop("format") != FORMAT or content.pop("version") != VERSION:
                raise ValueError("another format")
            return cls(**content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{place} was not written by brcd push; name another one by --table.") from error


class Rows(NamedTuple):
    """A block of images to be written to a database."""

    ids: np.ndarray
    """(n,) int64."""
    paths: list[str]
    codes: np.ndarray
    """(n, B) uint8."""


class Nearest(NamedTuple):
    """Nearest rows of a query, sorted by distance, then by id."""

    ids: np.ndarray
    """(n,) int64."""
    distances: np.ndarray
    """(n,) int32."""
    paths: list[str]
    codes: np.ndarray
    """(n, B) uint8; (0, B) unless requested by ``with_codes``."""


class CodeDatabase(Protocol):
    """An open table of codes."""

    place: str
    """Table and address, without a password."""
    description: TableDescription

    def nearest(self, code: np.ndarray, k: int, *, with_codes: bool = False) -> Nearest:
        """Returns the nearest rows of a query. An approximate index may return fewer than k.

        Args:
            code: (B,) uint8.
            k: maximum number of rows, at least 1.
            with_codes: return the codes too.

        Raises:
            InputError: if the database can no longer be reached.
        """

    def codes(self) -> Iterator[np.ndarray]:
        """Yields all codes in blocks (n, B) uint8, in order of their ids.

        Raises:
            InputError: if the database can no longer be reached.
        """

    def close(self) -> None:
        """Closes the connection."""


class Backend(Protocol):
    """Interface of a module that supports one kind of database."""

    KINDS: tuple[str, ...]
    """Kinds of index, the exact one first."""

    def open_table(self, address: str, table: str) -> CodeDatabase:
        """Opens a table written by `write_table`.

        Raises:
            InputError: if the table does not exist, or the database cannot be reached.
        """

    def require_free(self, address: str, table: str, replace: bool) -> None:
        """Raises `InputError` if an existing table blocks `write_table`, or the database cannot be reached."""

    def write_table(
        self, address: str, table: str, description: TableDescription, rows: Iterator[Rows], replace: bool
    ) -> None:
        """Writes a table atomically: it becomes visible, complete, only when this function returns.

        Args:
            address: of the database.
            table: name of the table.
            description: of the rows.
            rows: in any number of blocks.
            replace: replace an existing table of that name, provided that this function wrote it.

        Raises:
            InputError: see `require_free`.
        """


def by_distance(nearest: Nearest) -> Nearest:
    """Sorts rows by distance, then by id."""
    order = np.lexsort((nearest.ids, nearest.distances))
    codes = nearest.codes[order] if len(nearest.codes) else nearest.codes
    return Nearest(nearest.ids[order], nearest.distances[order], [nearest.paths[place] for place in order], codes)
