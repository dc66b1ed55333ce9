"""Renders tables as Markdown, CSV, LaTeX and HTML, and the page, from the files in ``templates/``.

The escaping of each language is in this file.
"""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from brcd_lightning.report.table import BEST, SECOND, Number, Table, Value, cell_text
from brcd_lightning.storage.csv_cells import plain_cell

_TEMPLATES = Path(__file__).parent / "templates"
_LATEX = {
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


def escape_markdown(text: str) -> str:
    """Escapes text for a cell of a Markdown table, which is one line."""
    return " ".join(re.sub(r"([|*<\[\]\\])", r"\\\1", text).split())


def escape_latex(text: str) -> str:
    """Escapes LaTeX's special characters, and replaces symbols that need a command."""
    return "".join(_LATEX.get(character, character) for character in text)


class _Language(NamedTuple):
    """Escaping of text, and what is put before and after a ranked number."""

    escape: Callable[[str], str]
    marks: Mapping[str, tuple[str, str]]


_LANGUAGES = {
    "markdown": _Language(escape_markdown, {BEST: ("**", "**"), SECOND: ("<u>", "</u>")}),
    "latex": _Language(escape_latex, {BEST: (r"\textbf{", "}"), SECOND: (r"\underline{", "}")}),
    "html": _Language(escape, {BEST: (Markup("<b>"), Markup("</b>")), SECOND: (Markup("<u>"), Markup("</u>"))}),
}


def markdown(table: Table) -> str:
    """GitHub's dialect: the best in bold, the second underlined."""
    return render("table.md.j2", table=table)


def latex(table: Table) -> str:
    """A ``tabular`` with booktabs rules."""
    return render("table.tex.j2", table=table)


def html(table: Table) -> str:
    """A ``<table>`` whose numeric cells carry their sort key in ``data-key``."""
    return render("table.html.j2", table=table)


def csv_text(table: Table) -> str:
    """Means, standard deviations and counts in columns of their own, at full precision."""
    numeric = table.numeric_columns()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads: list[str] = []
    for name, is_numeric in zip(table.columns, numeric, strict=True):
        heads += [name, f"{name} sd", f"{name} runs"] if is_numeric else [name]
    writer.writerow(map(plain_cell, heads))
    for row in table.rows:
        cells: list[object] = []
        for value, is_numeric in zip(row, numeric, strict=True):
            if isinstance(value, Number):
                cells += [value.mean, "" if value.deviation is None else value.deviation, value.runs]
            else:
                cells += [value or "", "", ""] if is_numeric else [value or ""]
        writer.writerow(map(plain_cell, cells))
    return text.getvalue()


RENDERINGS: Mapping[str, Callable[[Table], str]] = {"md": markdown, "csv": csv_text, "tex": latex}
"""The files of a table by their suffix."""


def render(template: str, **values: object) -> str:
    """Fills a template of the folder ``templates``; values in an HTML template are escaped."""
    return _ENVIRONMENT.get_template(template).render(**values)


def _cell(language: str, value: Value) -> str:
    """A cell in a language, escaped and marked by its rank."""
    escaped = _LANGUAGES[language].escape(cell_text(value))
    rank = value.rank if isinstance(value, Number) else ""
    before, after = _LANGUAGES[language].marks.get(rank, ("", ""))
    return before + escaped + after


def _asset(name: str) -> Markup:
    """A file of the folder ``templates`` as it is."""
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))


def _data_uri(path: Path) -> str:
    """A PNG as a URI that contains it."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {name: partial(_cell, name) for name in _LANGUAGES} | {"data_uri": _data_uri}
    environment.tests["cell_number"] = lambda value: isinstance(value, Number)
    environment.globals["asset"] = _asset
    return environment


_ENVIRONMENT = _environment()
