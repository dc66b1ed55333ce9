"""The data of a table: its cells, and which of them are the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

MISSING = "–"
BEST, SECOND = "best", "second"


@dataclass(frozen=True)
class Number:
    """A cell with a number: mean, and spread over seeds if there are several.

    Args:
        mean: the value.
        deviation: standard deviation over seeds; None for a single run.
        runs: number of runs.
        digits: digits behind the point; None for as few as the number needs.
        rank: ``best``, ``second`` or empty.
    """

    mean: float
    deviation: float | None = None
    runs: int = 1
    digits: int | None = 4
    rank: str = ""

    @property
    def text(self) -> str:
        """The mean, then the spread."""
        if self.digits is None:
            return f"{self.mean:g}"
        spread = "" if self.deviation is None else f" ± {self.deviation:.{self.digits}f}"
        return f"{self.mean:,.{self.digits}f}{spread}"

    @property
    def rounded(self) -> float:
        """The mean as it is printed, by which numbers are ranked."""
        return round(self.mean, self.digits or 9)


Value = Number | str | None
"""A cell: a number, a text, or None if nothing was measured."""


@dataclass
class Table:
    """A table of a report; `render` turns it into text.

    Args:
        name: name of its files, without the suffix.
        title: title above the table.
        columns: heads.
        rows: cells, as many in each row as there are columns.
        note: text below the table.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: list[list[Value]]
    note: str = ""

    def numeric_columns(self) -> list[bool]:
        """For each column, True if any of its cells is a number."""
        return [any(isinstance(row[place], Number) for row in self.rows) for place in range(len(self.columns))]


def cell_text(value: Value) -> str:
    """The plain text of a cell."""
    if isinstance(value, Number):
        return value.text
    return MISSING if value is None else value


def ranked(column: Sequence[Value], competes: Sequence[bool]) -> list[Value]:
    """Marks the best and the second best number of a column; numbers that print alike share a mark.

    Args:
        column: cells.
        competes: whether each cell takes part.
    """
    pairs = list(zip(column, competes, strict=True))
    printed = {value.rounded for value, takes_part in pairs if takes_part and isinstance(value, Number)}
    marks = dict(zip(sorted(printed, reverse=True)[:2], (BEST, SECOND), strict=False))
    result: list[Value] = []
    for value, takes_part in pairs:
        if takes_part and isinstance(value, Number) and value.rounded in marks:
            result.append(replace(value, rank=marks[value.rounded]))
        else:
            result.append(value)
    return result
