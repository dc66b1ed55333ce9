"""The paper's Tables 1 and 2, and the list of all runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from brcd_lightning.report.records import Records
from brcd_lightning.report.runs import PARADIGMS, SETTING, Cell, mean_and_deviation
from brcd_lightning.report.table import Number, Table, Value, ranked

_NAMES = {"dataset": "data set", "hashing_model": "hashing model"}


def comparison_tables(records: Records) -> list[Table]:
    """Returns Table 1 for each hashing model and pair of backbones, and Table 2 for several hashing models."""
    return [
        *_pivots(records, "table1", "Distillation methods", across="dataset", least=1),
        *_pivots(records, "table2", "Hashing models", across="hashing_model", least=2),
    ]


def _pivots(records: Records, name: str, title: str, across: str, least: int) -> list[Table]:
    """Returns one table for each setting without `across`, if it has at least `least` values of `across`."""
    fixed = [key for key in SETTING if key != across]
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in records.cells:
        groups.setdefault(tuple(cell.first.row[key] for key in fixed), []).append(cell)
    shown = [cells for cells in groups.values() if len({cell.first.row[across] for cell in cells}) >= least]
    return [
        _pivot(
            records,
            f"{name}_{number}" if len(shown) > 1 else name,
            f"{title}: {_fixed(cells[0], across)}",
            across,
            cells,
        )
        for number, cells in enumerate(shown, 1)
    ]


def _fixed(cell: Cell, across: str) -> str:
    """Names the parts of the setting that all columns of a table share."""
    run = cell.first
    return f"{run.row['hashing_model' if across == 'dataset' else 'dataset']}, {run.pair}"


def _pivot(records: Records, name: str, title: str, across: str, cells: Sequence[Cell]) -> Table:
    columns = sorted({_column(cell, across) for cell in cells})
    labels = list(dict.fromkeys(records.label(cell.first) for cell in cells))
    competing = {records.label(cell.first) for cell in cells if cell.first.distils}
    cut = sorted({column[2] for column in columns})
    body: dict[str, list[Value]] = {label: [] for label in labels}
    teachers: list[Value] = []
    heads, missing = ["method"], 0
    for column in columns:
        inside = [cell for cell in cells if _column(cell, across) == column]
        for paradigm in PARADIGMS:
            value, bits, k = column
            head = f"{value} {bits} bits {paradigm.upper()}"
            heads.append(f"{head} mAP@{k}" if len(cut) > 1 else head)
            chosen = records.chosen(inside, paradigm)
            scores = [score(chosen[label], f"map_{paradigm}") if label in chosen else None for label in labels]
            missing += scores.count(None)
            for label, cell in zip(labels, ranked(scores, [label in competing for label in labels]), strict=True):
                body[label].append(cell)
            teachers.append(_teacher(list(chosen.values())) if paradigm == "sshp" else None)
    order = sorted(labels, key=lambda label: (label in competing, *_strength(body[label])))
    uses_labels = {records.label(cell.first) for cell in cells if cell.first.results.get("uses_labels")}
    rows: list[list[Value]] = [["teacher, both sides", *teachers]]
    rows += [[f"{label} *" if label in uses_labels else label, *body[label]] for label in order]
    note = f"mAP@{'/'.join(map(str, cut))} on test queries; mean ± standard deviation over seeds. Options chosen on "
    note += "validation queries. Bold: best, underlined: second, among distilled students."
    if uses_labels:
        note += " * uses labels of training images."
    if missing:
        note += f" {missing} cells missing."
    return Table(name, title, heads, rows, note)


def _column(cell: Cell, across: str) -> tuple[str, int, int]:
    """The column of a cell. mAP at different K is not comparable and gets different columns."""
    return cell.first.row[across], cell.first.row["bits"], cell.first.results["metric_protocol"]["k"]


def score(cell: Cell, metric: str) -> Number | None:
    """Mean and standard deviation over the seeds of a cell; None without measurements."""
    values = cell.values(metric)
    return Number(*mean_and_deviation(values), len(values)) if values else None


def _teacher(cells: Sequence[Cell]) -> Number | None:
    """Mean mAP of the teachers of some students. Teachers of the same seed and mAP are counted once."""
    teachers = {
        (run.row["seed"], value): value
        for cell in cells
        for run in cell.runs
        if (value := run.metric("map_teacher")) is not None
    }
    return Number(*mean_and_deviation(list(teachers.values())), len(teachers)) if teachers else None


def _strength(cells: Sequence[Value]) -> tuple[float, ...]:
    numbers = [cell.mean for cell in cells[::2] if isinstance(cell, Number)]
    return (sum(numbers) / len(numbers) if numbers else 0.0,)


def runs_table(records: Records) -> Table:
    """Lists every run with the coordinates and the options in which runs differ."""
    rows = [run.row for run in records.runs]
    keys = [key for key in (rows[0] if rows else []) if len({str(row[key]) for row in rows}) > 1]
    options = [key for key in records.tuned if key not in keys]
    heads = [_NAMES.get(key, key.removeprefix("kd_method.").replace("_", " ")) for key in [*keys, *options]]
    body: list[list[Value]] = []
    for run in records.runs:
        cells: list[Value] = [_shown(run.row[key]) for key in keys]
        cells += [_shown(run.options.get(key)) for key in options]
        validation = run.results.get("validation")
        cells.append(None if validation is None else Number(validation))
        for metric in ("map_sshp", "map_ashp", "map_teacher"):
            value = run.metric(metric)
            cells.append(None if value is None else Number(value))
        body.append([*cells, run.folder.parent.name + "/" + run.folder.name])
    heads += ["validation", "SSHP", "ASHP", "teacher", "folder"]
    return Table("runs", "All runs", heads, body)


def _shown(value: Any) -> Value:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Number(float(value), digits=None)
    return None if value is None else str(value)
