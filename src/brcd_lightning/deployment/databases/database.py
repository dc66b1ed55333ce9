"""Contract of a database that holds codes, and the description that lies beside them.

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
"""Name of a table, unless another one is given."""


@dataclass(frozen=True)
class TableDescription(CodesOfImages):
    """Description of a table of codes."""

    def as_json(self) -> str:
        """Text that lies in the database."""
        return json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}, sort_keys=True)

    @classmethod
    def of_json(cls, text: str | None, place: str) -> TableDescription:
        """Reads `as_json`.

        Args:
            text: from the database, None where there is none.
            place: table and database, for messages.

        Raises:
            InputError: if it is something else.
        """
        try:
            content = json.loads(text or "")
            if content.pop("format") != FORMAT or content.pop("version") != VERSION:
                raise ValueError("another format")
            return cls(**content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{place} was not written by brcd push; name another one by --table.") from error


class Rows(NamedTuple):
    """Images on their way into a database."""

    ids: np.ndarray
    """(n,) int64."""
    paths: list[str]
    codes: np.ndarray
    """(n, B) uint8."""


class Nearest(NamedTuple):
    """Rows that are near to a query: by distance, then by id."""

    ids: np.ndarray
    """(n,) int64."""
    distances: np.ndarray
    """(n,) int32."""
    paths: list[str]
    codes: np.ndarray
    """(n, B) uint8; (0, B) unless they were asked for."""


class CodeDatabase(Protocol):
    """An open table of codes."""

    place: str
    """Table and address, without a password."""
    description: TableDescription

    def nearest(self, code: np.ndarray, k: int, *, with_codes: bool = False) -> Nearest:
        """The nearest rows of a query; an approximate kind may give fewer than there are.

        Args:
            code: (B,) uint8.
            k: most rows, at least 1.
            with_codes: give the codes too.

        Raises:
            InputError: if the database can no longer be reached.
        """

    def codes(self) -> Iterator[np.ndarray]:
        """All codes in blocks (n, B) uint8, in the order of their ids.

        Raises:
            InputError: if the database can no longer be reached.
        """

    def close(self) -> None:
        """Ends the connection."""


class Backend(Protocol):
    """The module of a database."""

    KINDS: tuple[str, ...]
    """Kinds of index, the exact one first."""

    def open_table(self, address: str, table: str) -> CodeDatabase:
        """Opens a table that `write_table` has written.

        Raises:
            InputError: if there is none, or the database cannot be reached.
        """

    def require_free(self, address: str, table: str, replace: bool) -> None:
        """Raises `InputError` where a table is in the way of `write_table`, or the database cannot be reached."""

    def write_table(
        self, address: str, table: str, description: TableDescription, rows: Iterator[Rows], replace: bool
    ) -> None:
        """Writes a table that is there as a whole when this returns, and not before.

        Args:
            address: of the database.
            table: its name.
            description: of the rows.
            rows: in any number of blocks.
            replace: take the place of a table of that name that this function has written.

        Raises:
            InputError: see `require_free`.
        """


def by_distance(nearest: Nearest) -> Nearest:
    """The same rows by distance, then by id."""
    order = np.lexsort((nearest.ids, nearest.distances))
    codes = nearest.codes[order] if len(nearest.codes) else nearest.codes
    return Nearest(nearest.ids[order], nearest.distances[order], [nearest.paths[place] for place in order], codes)
