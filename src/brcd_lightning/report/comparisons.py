"""The paper's Tables 1 and 2, and the list of all runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from brcd_lightning.metrics.declared import FLOAT_COLUMNS, ReportedMetric
from brcd_lightning.report.protocol import protocol_lines
from brcd_lightning.report.records import Records
from brcd_lightning.report.runs import SETTING, Cell, mean_and_deviation
from brcd_lightning.report.table import Number, Table, Value, ranked
from brcd_lightning.results.record import mark_notes, marks
from brcd_lightning.results.summary_table import PARADIGMS, columns_of

_NAMES = {"dataset": "data set", "hashing_model": "hashing model"}


@dataclass(frozen=True)
class _Pivot:
    """A kind of table.

    Args:
        name: name of its files, without the suffix.
        title: title above the table.
        across: coordinate whose values are columns.
        least: minimum number of these values.
        metrics: maps the records of some runs to the metrics that are shown under both paradigms.
    """

    name: str
    title: str
    across: str
    least: int
    metrics: Callable[[Sequence[Mapping[str, Any]]], Sequence[ReportedMetric]]


def comparison_tables(records: Records) -> list[Table]:
    """Returns Table 1 for each hashing model and pair of backbones, and Table 2 for several hashing models.

    Both are repeated for float queries, whose scores are not Hamming scores, if a run measured them.
    """
    kinds: dict[str, tuple[str, Callable[[Sequence[Mapping[str, Any]]], Sequence[ReportedMetric]]]] = {
        "": ("", columns_of),
        "_float": (", float queries (no Hamming scores)", lambda runs: FLOAT_COLUMNS),
    }
    return [
        table
        for suffix, (words, metrics) in kinds.items()
        for table in (
            *_pivots(records, _Pivot(f"table1{suffix}", f"Distillation methods{words}", "dataset", 1, metrics)),
            *_pivots(records, _Pivot(f"table2{suffix}", f"Hashing models{words}", "hashing_model", 2, metrics)),
        )
    ]


def _measured(cells: Sequence[Cell], metrics: Sequence[ReportedMetric]) -> bool:
    """True if a run of the cells has any of some metrics."""
    return any(cell.values(metric.key(pair)) for cell in cells for metric in metrics for pair in PARADIGMS)


def _pivots(records: Records, kind: _Pivot) -> list[Table]:
    """Returns one table for each setting without the coordinate of the columns, if it fills enough columns."""
    fixed = [key for key in SETTING if key != kind.across]
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in records.cells:
        groups.setdefault(tuple(cell.first.row[key] for key in fixed), []).append(cell)
    shown = [cells for cells in groups.values() if len({cell.first.row[kind.across] for cell in cells}) >= kind.least]
    shown = [cells for cells in shown if _measured(cells, kind.metrics(_records_of(cells)))]
    return [
        _pivot(records, replace(kind, name=f"{kind.name}_{number}" if len(shown) > 1 else kind.name), cells)
        for number, cells in enumerate(shown, 1)
    ]


def _records_of(cells: Iterable[Cell]) -> list[Mapping[str, Any]]:
    return [run.results for cell in cells for run in cell.runs]


def _fixed(cell: Cell, across: str) -> str:
    """Names the parts of the setting that all columns of a table share."""
    run = cell.first
    return f"{run.row['hashing_model' if across == 'dataset' else 'dataset']}, {run.pair}"


def _pivot(records: Records, kind: _Pivot, cells: Sequence[Cell]) -> Table:
    across, metrics = kind.across, kind.metrics(_records_of(cells))
    columns = sorted({_column(cell, across) for cell in cells})
    labels = list(dict.fromkeys(records.label(cell.first) for cell in cells))
    competing = {records.label(cell.first) for cell in cells if cell.first.distils}
    cuts = sorted({k for _, _, k in columns})
    body: dict[str, list[Value]] = {label: [] for label in labels}
    teachers: list[Value] = []
    heads = ["method"]
    for column in columns:
        inside = [cell for cell in cells if _column(cell, across) == column]
        for metric, paradigm in product(metrics, PARADIGMS):
            heads.append(_head(column, metric, paradigm, named=len(cuts) * len(metrics) > 1))
            chosen = records.chosen(inside, paradigm)
            key = metric.key(paradigm)
            scores = [score(chosen[label], key) if label in chosen else None for label in labels]
            for label, cell in zip(labels, ranked(scores, [label in competing for label in labels]), strict=True):
                body[label].append(cell)
            teachers.append(_teacher(list(chosen.values()), metric) if paradigm == PARADIGMS[0] else None)
    order = sorted(labels, key=lambda label: (label in competing, _strength(body[label], len(metrics))))
    marked = {records.label(cell.first): marks(cell.first.results) for cell in cells}
    rows: list[list[Value]] = [["teacher, both sides", *teachers]]
    rows += [[f"{label}{marked[label]}", *body[label]] for label in order]
    missing = sum(value is None for values in body.values() for value in values)
    title = f"{kind.title}: {_fixed(cells[0], across)}"
    explained = [f"{text}." for text in mark_notes(_records_of(cells))]
    explained += protocol_lines(run for cell in cells for run in cell.runs)
    return Table(kind.name, title, heads, rows, _note(metrics, cuts, explained, missing))


def _head(column: tuple[str, int, int], metric: ReportedMetric, paradigm: str, *, named: bool) -> str:
    """Heading of a column; it names the metric if columns have several metrics or several K."""
    value, bits, k = column
    head = f"{value} {bits} bits {paradigm.upper()}"
    return f"{head} {metric.title_at(k)}" if named else head


def _note(metrics: Sequence[ReportedMetric], cuts: Sequence[int], explained: Sequence[str], missing: int) -> str:
    """The text below a table."""
    titles = ", ".join(metric.title.format(k="/".join(map(str, cuts))) for metric in metrics)
    note = f"{titles} on test queries; mean ± standard deviation over seeds. Options chosen on validation queries. "
    note += "Bold: best, underlined: second, among distilled students."
    note += "".join(f" {text}" for text in explained)
    return f"{note} {missing} cells missing." if missing else note


def _column(cell: Cell, across: str) -> tuple[str, int, int]:
    """The column of a cell. mAP at different K is not comparable and gets different columns."""
    return cell.first.row[across], cell.first.row["bits"], cell.first.results["metric_protocol"]["k"]


def score(cell: Cell, metric: str) -> Number | None:
    """Mean and standard deviation over the seeds of a cell; None without measurements."""
    values = cell.values(metric)
    return Number(*mean_and_deviation(values), len(values)) if values else None


def _teacher(cells: Sequence[Cell], metric: ReportedMetric) -> Number | None:
    """Mean of the teachers of some students. Teachers of the same seed and score are counted once."""
    teachers = {
        (run.row["seed"], value): value
        for cell in cells
        for run in cell.runs
        if (value := run.metric(metric.key("teacher"))) is not None
    }
    return Number(*mean_and_deviation(list(teachers.values())), len(teachers)) if teachers else None


def _strength(cells: Sequence[Value], metrics: int) -> float:
    """Mean score in the first of some metrics under the first paradigm, over all columns."""
    step = metrics * len(PARADIGMS)
    numbers = [cell.mean for cell in cells[::step] if isinstance(cell, Number)]
    return sum(numbers) / len(numbers) if numbers else 0.0


def runs_table(records: Records) -> Table:
    """Lists every run with the coordinates and the options in which runs differ."""
    rows = [run.row for run in records.runs]
    keys = [key for key in (rows[0] if rows else []) if len({str(row[key]) for row in rows}) > 1]
    options = [key for key in records.tuned if key not in keys]
    heads = [_NAMES.get(key, key.removeprefix("kd_method.").replace("_", " ")) for key in [*keys, *options]]
    by_distance = columns_of(run.results for run in records.runs)
    by_score = FLOAT_COLUMNS if _measured(records.cells, FLOAT_COLUMNS) else ()
    body: list[list[Value]] = []
    for run in records.runs:
        cells: list[Value] = [_shown(run.row[key]) for key in keys]
        cells += [_shown(run.options.get(key)) for key in options]
        validation = run.results.get("validation")
        cells.append(None if validation is None else Number(validation))
        for metric, pair in product((*by_distance, *by_score), (*PARADIGMS, "teacher")):
            value = run.metric(metric.key(pair))
            cells.append(None if value is None else Number(value))
        body.append([*cells, run.folder.parent.name + "/" + run.folder.name])
    heads.append("validation")
    for metric, pair in product((*by_distance, *by_score), ("SSHP", "ASHP", "teacher")):
        alone = len(by_distance) == 1 and metric in by_distance
        heads.append(pair if alone else f"{pair} {metric.title.format(k='K')}")
    heads.append("folder")
    return Table("runs", "All runs", heads, body, " ".join(protocol_lines(records.runs)))


def _shown(value: Any) -> Value:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Number(float(value), digits=None)
    return None if value is None else str(value)
