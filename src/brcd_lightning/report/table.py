"""A table and its four texts: Markdown, CSV, LaTeX and HTML."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

MISSING = "–"
BEST, SECOND = "best", "second"


@dataclass(frozen=True)
class Number:
    """A cell with a number: mean, and spread over seeds where there are several.

    Args:
        mean: the value.
        deviation: standard deviation over seeds; None for a single run.
        runs: how many.
        digits: behind the point; None for as few as the number needs.
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


Value = Number | str | None
"""A cell: a number, a text, or None where nothing was measured."""


@dataclass
class Table:
    """A table of a report.

    Args:
        name: of its files.
        title: above it.
        columns: heads.
        rows: cells, as many in each row as there are columns.
        note: below it.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: list[list[Value]]
    note: str = ""

    def markdown(self) -> str:
        """GitHub's dialect: the best in bold, the second underlined."""
        heads = [_markdown(name) for name in self.columns]
        lines = [f"| {' | '.join(heads)} |", "|---" * len(self.columns) + "|"]
        styles = {BEST: ("**", "**"), SECOND: ("<u>", "</u>"), "": ("", "")}
        for row in self.rows:
            cells = [_styled(value, styles, lambda v: _markdown(_text(v))) for value in row]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join([f"### {self.title}", "", *lines, *(["", self.note] if self.note else []), ""])

    def csv(self) -> str:
        """Means, standard deviations and counts in columns of their own, at full precision."""
        numeric = self._numeric()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        heads = [
            [name, f"{name} sd", f"{name} runs"] if n else [name] for name, n in zip(self.columns, numeric, strict=True)
        ]
        writer.writerow([head for group in heads for head in group])
        for row in self.rows:
            cells: list[object] = []
            for value, is_number in zip(row, numeric, strict=True):
                if isinstance(value, Number):
                    cells += [value.mean, "" if value.deviation is None else value.deviation, value.runs]
                else:
                    cells += [value or "", *([""] * 2 * is_number)]
            writer.writerow(cells)
        return text.getvalue()

    def _numeric(self) -> list[bool]:
        """Which columns hold numbers."""
        return [any(isinstance(row[place], Number) for row in self.rows) for place in range(len(self.columns))]

    def latex(self) -> str:
        """A ``tabular`` with booktabs rules."""
        styles = {BEST: (r"\textbf{", "}"), SECOND: (r"\underline{", "}"), "": ("", "")}
        lines = [" & ".join(_tex(name) for name in self.columns) + r" \\", r"\midrule"]
        lines += [
            " & ".join(_styled(value, styles, lambda v: _tex(_text(v))) for value in row) + r" \\" for row in self.rows
        ]
        body = "\n".join(lines)
        layout = "l" + "r" * (len(self.columns) - 1)
        note = f"% {self.note}\n" if self.note else ""
        return (
            f"% {self.title}; needs the booktabs package\n{note}\\begin{{tabular}}{{{layout}}}\n\\toprule\n{body}\n"
            "\\bottomrule\n\\end{tabular}\n"
        )

    def html(self) -> str:
        """A ``<table>`` whose cells carry what they are sorted by."""
        styles = {BEST: ("<b>", "</b>"), SECOND: ("<u>", "</u>"), "": ("", "")}
        heads = "".join(f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in self.columns)
        numeric = self._numeric()
        body = []
        for row in self.rows:
            cells: list[str] = []
            for value, is_number in zip(row, numeric, strict=True):
                key = f' data-key="{value.mean!r}"' if isinstance(value, Number) else ""
                aligned = " class=number" if is_number else ""
                cells.append(f"<td{aligned}{key}>{_styled(value, styles, lambda v: escape(_text(v)))}</td>")
            body.append(f"<tr>{''.join(cells)}</tr>")
        note = f"<p class=note>{escape(self.note)}</p>" if self.note else ""
        return (
            f"<div class=scroll><table><caption>{escape(self.title)}</caption><thead><tr>{heads}</tr></thead>"
            f"<tbody>{''.join(body)}</tbody></table></div>{note}"
        )


def ranked(column: Sequence[Value], competes: Sequence[bool]) -> list[Value]:
    """Marks the best and the second best number of a column, by what is printed: equal texts share a mark.

    Args:
        column: cells.
        competes: which of them take part.
    """
    texts = {
        round(value.mean, value.digits or 9)
        for value, takes_part in zip(column, competes, strict=True)
        if takes_part and isinstance(value, Number)
    }
    order = sorted(texts, reverse=True)[:2]
    marks = dict(zip(order, (BEST, SECOND), strict=False))
    result: list[Value] = []
    for value, takes_part in zip(column, competes, strict=True):
        mark = marks.get(round(value.mean, value.digits or 9), "") if takes_part and isinstance(value, Number) else ""
        result.append(Number(value.mean, value.deviation, value.runs, value.digits, mark) if mark else value)
    return result


def _text(value: Value) -> str:
    return MISSING if value is None else value.text if isinstance(value, Number) else value


def _styled(value: Value, styles: Mapping[str, tuple[str, str]], text: Callable[[Value], str]) -> str:
    before, after = styles[value.rank if isinstance(value, Number) else ""]
    return f"{before}{text(value)}{after}"


def _markdown(text: str) -> str:
    return " ".join(re.sub(r"([|*<\\])", r"\\\1", text).split())


_TEX = {
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "$": r"\$",
    "±": r"$\pm$",
    "→": r"$\to$",
    "–": "--",
    "\\": r"\textbackslash{}",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)
