"""The figures of a report: a decorator declares one, and all modules of ``report/figures/`` are searched for them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Generic, TypeVar

from matplotlib.figure import Figure

from brcd_lightning.report import figures
from brcd_lightning.report.records import Records
from brcd_lightning.report.style import styled

SCORES, LADDER, SPACES, FOUND, CLUSTERS, COST, RUNS = SECTIONS = (
    "Scores",
    "Ladder",
    "Teacher and student",
    "Retrieval",
    "Bits and clusters",
    "Cost",
    "Runs",
)
"""Titles of the sections of a report, in order."""

F = TypeVar("F", Figure, list[Figure])


@dataclass(frozen=True)
class ReportFigure(Generic[F]):
    """A declared figure. Calling it draws.

    Args:
        name: name of its files, without the suffix.
        section: one of `SECTIONS`.
        order: place within the section, ascending; ties follow the module and the place in it.
        caption: text below the figure.
        draw: takes the records and returns a figure, or a list of figures that are numbered if there are several. It
            raises `UnfilledError` if the records do not suffice.
        module: the module that declares it.
    """

    name: str
    section: str
    order: int
    caption: str
    draw: Callable[[Records], F]
    module: str

    def __call__(self, records: Records) -> F:
        """Draws the figure in the style of the report."""
        return self.draw(records)

    def named(self, records: Records) -> dict[str, Figure]:
        """Draws the figure; returns what was drawn by the name of its files."""
        drawn = self.draw(records)
        if isinstance(drawn, Figure):
            return {self.name: drawn}
        if len(drawn) == 1:
            return {self.name: drawn[0]}
        return {f"{self.name}_{number}": each for number, each in enumerate(drawn, 1)}


AnyFigure = ReportFigure[Figure] | ReportFigure[list[Figure]]


def figure(name: str, *, section: str, order: int, caption: str) -> Callable[[Callable[[Records], F]], ReportFigure[F]]:
    """Declares a function of a module in ``report/figures/`` as a figure, and makes it draw in the report's style.

    Args:
        name: name of its files, without the suffix.
        section: one of `SECTIONS`.
        order: place within the section, ascending.
        caption: text below the figure.
    """
    if section not in SECTIONS:
        raise ValueError(f"section of figure {name!r} must be one of {SECTIONS}, got {section!r}.")

    def declare(draw: Callable[[Records], F]) -> ReportFigure[F]:
        return ReportFigure(name, section, order, caption, styled(draw), draw.__module__)

    return declare


def find_figures() -> list[AnyFigure]:
    """All figures that the modules of ``report/figures/`` declare, in the order of the report.

    Raises:
        ValueError: if two figures have the same name.
    """
    names = sorted(module.name for module in pkgutil.iter_modules(figures.__path__))
    return in_order(importlib.import_module(f"{figures.__name__}.{name}") for name in names)


def in_order(modules: Iterable[ModuleType]) -> list[AnyFigure]:
    """The figures that some modules declare, by section, order, module and place in the module.

    Raises:
        ValueError: if two figures have the same name.
    """
    found = [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, ReportFigure) and value.module == module.__name__  # not what it imports
    ]
    names = [each.name for each in found]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"several figures of a report have the same name: {', '.join(repeated)}.")
    return sorted(found, key=lambda each: (SECTIONS.index(each.section), each.order))
