"""Reads the results and codes of a run folder."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from brcd_lightning.data.names import OWN_NAMES, class_names
from brcd_lightning.errors import InputError
from brcd_lightning.report.saved_codes import Side, TensorFile, read_teacher_codes
from brcd_lightning.results.identity import cell_options
from brcd_lightning.results.record import has_labels, read_results
from brcd_lightning.results.run_files import CODES, CONFIG, DONE, PRUNED, RESULTS, TEACHER_CODES
from brcd_lightning.storage.component_names import TYPE

SETTING = ("dataset", "hashing_model", "teacher", "student")
"""Coordinates that are fixed in one table, next to the code length."""


class UnfilledError(Exception):
    """Raised by a figure if the given runs do not suffice for it; the message says what is missing."""


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        folder: its folder.
        results: its ``results.json``.
    """

    folder: Path
    results: Mapping[str, Any]

    @property
    def row(self) -> dict[str, Any]:
        """Its coordinates in the grid."""
        return self.results["row"]

    @property
    def distils(self) -> bool:
        """True if the student learned from the teacher at all."""
        return self.row["kd_method"] != "none"

    @property
    def setting(self) -> tuple[Any, ...]:
        """The values of `SETTING`."""
        return tuple(self.row[key] for key in SETTING)

    @property
    def split(self) -> str:
        """Fingerprint of the split."""
        return str(self.results["fingerprints"].get("split"))

    def class_names(self, count: int) -> list[str]:
        """Names of its first `count` classes; numbers where they have none."""
        return class_names(self.results["classes"], count)

    @property
    def pair(self) -> str:
        """Teacher and student backbone."""
        return f"{self.row['teacher']} → {self.row['student']}"

    @property
    def title(self) -> str:
        """Data set, hashing model and backbones, for the title of a figure."""
        return f"{self.row['dataset']}, {self.row['hashing_model']}, {self.pair}"

    @cached_property
    def options(self) -> dict[str, Any]:
        """The options that determine the results, without seeds and file locations."""
        return cell_options(self.results["config"])

    @property
    def identity(self) -> tuple[Any, ...]:
        """All options with seeds, split and teacher. Two runs with the same identity are duplicates."""
        told = sorted((key, str(value)) for key, value in cell_options(self.results["config"], seeds=True).items())
        row = sorted((key, str(value)) for key, value in self.row.items())
        return (*row, *told, *sorted((key, str(value)) for key, value in self.results["fingerprints"].items()))

    @property
    def numbers(self) -> dict[str, float]:
        """The numeric options, which can be tuned."""
        return {key: value for key, value in self.options.items() if _is_number(value)}

    @property
    def variant(self) -> dict[str, Any]:
        """The non-numeric options of the distillation method, which define a variant of it."""
        return {key: value for key, value in self.results["method"].items() if not _is_number(value)}

    def metric(self, name: str) -> float | None:
        """A test metric such as ``map_sshp``; None if it was not measured."""
        return self.results["metrics"].get(f"test/{name}")

    def codes(self, encoder: str, side: str) -> Side:
        """Codes and labels of the test split.

        Args:
            encoder: ``student`` or ``teacher``.
            side: ``query`` or ``database``.

        Raises:
            InputError: if the file is missing or damaged.
        """
        return self._codes.side(encoder, side)

    @cached_property
    def _codes(self) -> TensorFile:
        return TensorFile(self.folder / CODES)

    @cached_property
    def teacher_codes(self) -> Mapping[str, Tensor]:
        """The teacher's codes of the training images, see `saved_codes.read_teacher_codes`; may be empty."""
        return read_teacher_codes(self.folder / TEACHER_CODES)


def require_labels(run: Run) -> None:
    """Raises `UnfilledError` for a run on a data set without labels, whose images have no classes to compare."""
    if not has_labels(run.results):
        raise UnfilledError(f"needs class labels, which {run.row['dataset']} has none of")


@dataclass
class Cell:
    """Runs that differ only in their seeds."""

    runs: list[Run] = field(default_factory=list)

    @property
    def first(self) -> Run:
        """The run with the lowest seed."""
        return min(self.runs, key=lambda run: run.row["seed"])

    def values(self, metric: str) -> list[float]:
        """A test metric of each run that has it."""
        return [value for run in self.runs if (value := run.metric(metric)) is not None]

    @property
    def validation(self) -> float:
        """Mean validation score, by which options are chosen; minus infinity without one."""
        known = [value for run in self.runs if (value := run.results.get("validation")) is not None]
        return statistics.fmean(known) if known else float("-inf")


def run_folders(folders: Iterable[Path]) -> list[Path]:
    """Finds the folders of runs below some folders, finished or not, without duplicates and in a stable order.

    Raises:
        InputError: if a folder does not exist.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder; give folders of runs or sweeps.")
        marks = [*folder.rglob(".hydra"), *folder.rglob(RESULTS)]
        for mark in sorted(marks, key=lambda path: job_order(path.parent)):
            found.setdefault(mark.parent.resolve(), None)
    return list(found)


def read_run(folder: Path) -> Run:
    """Reads a finished run.

    Raises:
        InputError: if it did not finish, or its results are missing, damaged or from another program.
    """
    if (folder / DONE).exists() and not (folder / RESULTS).exists() and (folder / CONFIG).exists():
        raise InputError(f"{folder} tested nothing (a stage by itself)")
    if not (folder / DONE).exists():
        raise InputError(f"{folder} was pruned" if (folder / PRUNED).exists() else f"{folder} did not finish")
    results = read_results(folder)
    if problem := _problem(results):
        raise InputError(f"{folder / RESULTS} {problem}; it is not the record of a run.")
    return Run(folder, results)


def named_by_data(runs: Sequence[Run]) -> list[Run]:
    """The same runs with one name for each data set.

    Folders with the same images are one data set, under the name of the first. Data sets of the same name with several
    splits get the split as part of their name, because their scores are not comparable.
    """
    first: dict[tuple[str, str], str] = {}
    names = []
    for run in runs:
        options, name = run.results["config"].get("dataset"), run.row["dataset"]
        kind = options.get(TYPE) if isinstance(options, dict) else None
        names.append(first.setdefault((kind, run.split), name) if kind in OWN_NAMES else name)
    splits: dict[str, set[str]] = defaultdict(set)
    for run, name in zip(runs, names, strict=True):
        splits[name].add(run.split)
    named = []
    for run, name in zip(runs, names, strict=True):
        shown = f"{name} (split {run.split[:6]})" if len(splits[name]) > 1 else name
        named.append(replace(run, results={**run.results, "row": {**run.row, "dataset": shown}}))
    return named


def _problem(results: Mapping[str, Any]) -> str:
    """The first value that tables or figures cannot use; empty if all are valid."""
    for part in ("row", "method", "metrics", "fingerprints", "metric_protocol", "config", "sizes"):
        if not isinstance(results.get(part), dict):
            return f"has no {part!r}"
    row = results["row"]
    for key in (*SETTING, "kd_method", "paradigm", "profile"):
        if not isinstance(row.get(key), str):
            return f"has {row.get(key)!r} as its {key}"
    counts = {key: row.get(key) for key in ("bits", "seed")} | {"k": results["metric_protocol"].get("k")}
    for key, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < (key != "seed"):
            return f"has {value!r} as its {key}"
    numbers = {f"metric {name}": value for name, value in results["metrics"].items()}
    numbers |= {"validation": results.get("validation")}
    for key, value in numbers.items():
        if value is not None and not (_is_number(value) and math.isfinite(value)):
            return f"has {value!r} as its {key}"
    absent = [key for key in ("uses_labels", "validation", "epochs") if key not in results]
    classes = results["classes"]
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        absent.append("names of its classes")
    if absent or not isinstance(results["fingerprints"].get("teacher"), str):
        return f"has no {', '.join(absent) or 'fingerprint of its teacher'}"
    return ""


def job_order(job: Path) -> tuple[Any, ...]:
    """Sort key of a job folder, which puts ``2`` before ``10``."""
    return tuple((int(part), "") if part.isdigit() else (1 << 30, part) for part in job.parts)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; the latter is None for fewer than two values."""
    mean = torch.tensor(values, dtype=torch.float64).mean().item()
    return mean, statistics.stdev(values) if len(values) > 1 else None
