"""``report.html``: one file with all tables and pictures inside, which opens without a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from brcd_lightning.report.render import render
from brcd_lightning.report.table import Table


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Args:
        title: its heading.
        tables: tables in order of appearance.
        figures: caption and PNG of each.
        remarks: plain sentences.
    """

    title: str
    tables: Sequence[Table] = ()
    figures: Sequence[tuple[str, Path]] = ()
    remarks: Sequence[str] = ()


def page(title: str, summary: Sequence[str], sections: Sequence[Section]) -> str:
    """Renders the whole document.

    Args:
        title: its heading.
        summary: sentences below it.
        sections: sections in order of appearance.
    """
    return render("report.html.j2", title=title, summary=summary, sections=sections)
