"""All runs and latencies of a report, and the grouping of runs into cells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from brcd_lightning.errors import InputError
from brcd_lightning.report.latencies import find_latencies
from brcd_lightning.report.runs import SETTING, Cell, Run, UnfilledError, named_by_data, read_run, run_folders
from brcd_lightning.results.record import method_name


class Records:
    """All finished runs and latencies below some folders, and the reason for each folder or file left out.

    Args:
        folders: folders of runs, sweeps or latencies, at any depth.

    Raises:
        InputError: if a folder does not exist.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        folders = list(folders)
        self.runs: list[Run] = []
        self.problems: list[str] = []
        found: list[Run] = []
        for folder in run_folders(folders):
            try:
                found.append(read_run(folder))
            except InputError as error:
                self.problems.append(str(error))
        seen: dict[tuple[Any, ...], Path] = {}
        for run in named_by_data(found):
            if (first := seen.setdefault(run.identity, run.folder)) != run.folder:
                self.problems.append(f"{run.folder} repeats {first} (same options, same seed).")
            else:
                self.runs.append(run)
        self.latencies, damaged = find_latencies(folders)
        self.problems += damaged

    @staticmethod
    def _cell_key(run: Run) -> tuple[Any, ...]:
        row = tuple((key, value) for key, value in run.row.items() if key != "seed")
        return (row, tuple(sorted((key, str(value)) for key, value in run.options.items())))

    @cached_property
    def cells(self) -> list[Cell]:
        """Runs grouped over seeds."""
        cells: dict[tuple[Any, ...], Cell] = defaultdict(Cell)
        for run in self.runs:
            cells[self._cell_key(run)].runs.append(run)
        return list(cells.values())

    def label(self, run: Run) -> str:
        """The method's name in tables, with its profile and the options in which methods of the same name differ."""
        parts = [] if run.row["profile"] == "paper" else [run.row["profile"]]
        for key, value in run.variant.items():
            if key in self._telling.get((run.row["kd_method"], run.row["profile"]), ()):
                parts.append(f"{key} {value}")
        return method_name(run.results, *parts)

    @cached_property
    def _telling(self) -> dict[tuple[str, str], set[str]]:
        """Non-numeric options that differ between runs of the same method and profile."""
        found: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for run in self.runs:
            for key, value in run.variant.items():
                found[run.row["kd_method"], run.row["profile"]][key].add(str(value))
        return {name: {key for key, values in options.items() if len(values) > 1} for name, options in found.items()}

    @cached_property
    def tuned(self) -> list[str]:
        """Options in which runs of the same method, setting and code length differ."""
        groups: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
        for run in self.runs:
            groups[run.setting, run.row["bits"], run.row["paradigm"], self.label(run)].append(run)
        differing: dict[str, None] = {}
        for runs in groups.values():
            for key in dict.fromkeys(key for run in runs for key in run.options):
                if len({str(run.options.get(key)) for run in runs}) > 1:
                    differing[key] = None
        return list(differing)

    def chosen(self, cells: Iterable[Cell], paradigm: str) -> dict[str, Cell]:
        """Selects one cell for each method: of those that watched a paradigm, most seeds, then best validation.

        If no run of a method watched this paradigm, runs that watched the other one are used, because every run tests
        both.
        """
        by_label: dict[str, list[Cell]] = defaultdict(list)
        for cell in cells:
            by_label[self.label(cell.first)].append(cell)
        best = {}
        for label, candidates in by_label.items():
            watched = [cell for cell in candidates if cell.first.row["paradigm"] == paradigm]
            best[label] = max(watched or candidates, key=lambda cell: (len(cell.runs), cell.validation))
        return best

    def settings(self) -> list[tuple[Any, ...]]:
        """All settings, by descending number of runs."""
        counts: dict[tuple[Any, ...], int] = defaultdict(int)
        for run in self.runs:
            counts[run.setting] += 1
        return sorted(counts, key=lambda setting: (-counts[setting], setting))

    def of(self, **coordinates: Any) -> list[Cell]:
        """Cells with these coordinates."""
        return [cell for cell in self.cells if all(cell.first.row[key] == value for key, value in coordinates.items())]

    def reference(self) -> dict[str, Cell]:
        """Selects one cell for each method, in the setting and at the code length with most runs.

        Raises:
            UnfilledError: if there are no runs.
        """
        if not self.runs:
            raise UnfilledError("needs a finished run")
        setting = self.settings()[0]
        counts: dict[int, int] = defaultdict(int)
        for run in self.runs:
            counts[run.row["bits"]] += run.setting == setting
        bits = max(counts, key=lambda length: (counts[length], length))
        return self.chosen(self.of(**dict(zip(SETTING, setting, strict=True)), bits=bits), "sshp")
