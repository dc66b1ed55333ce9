"""The table of some runs, as a command prints it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from brcd_lightning.metrics.declared import COLUMNS, FLOAT_COLUMNS, NEIGHBOUR_COLUMNS, ReportedMetric
from brcd_lightning.results.record import has_labels, marks, method_name, notes

PARADIGMS = ("sshp", "ashp")


def results_tables(runs: Sequence[Mapping[str, Any]]) -> list[Table]:
    """The table of Hamming scores, and that of float queries if a run has any.

    Args:
        runs: records of `make_results`, at least one.
    """
    names = {f"test/{metric.key(pair)}" for metric in FLOAT_COLUMNS for pair in (*PARADIGMS, "teacher")}
    by_score = [results_table(runs, FLOAT_COLUMNS)] if any(names & run["metrics"].keys() for run in runs) else []
    return [results_table(runs, columns_of(runs)), *by_score]


def columns_of(runs: Iterable[Mapping[str, Any]]) -> Sequence[ReportedMetric]:
    """The metrics of Hamming scores in a table of some runs, with additional ones for data sets without labels."""
    return COLUMNS if all(has_labels(run) for run in runs) else NEIGHBOUR_COLUMNS


def results_table(runs: Sequence[Mapping[str, Any]], metrics: Sequence[ReportedMetric] = COLUMNS) -> Table:
    """A table of runs: the teachers first, then one row per run, with the columns in which runs differ.

    Args:
        runs: records of `make_results`, at least one.
        metrics: shown under both paradigms.
    """
    first, several = runs[0], len(runs) > 1
    varying = [key for key in first["row"] if key not in ("kd_method", "paradigm") and _differ(runs, "row", key)]
    options = list(dict.fromkeys(key for run in runs for key in run["method"] if _differ(runs, "method", key)))
    table = _empty_table(runs, [*varying, *options], ["validation"] if several else [], metrics)
    teachers = {run["fingerprints"]["teacher"]: run for run in reversed(runs)}
    for run in reversed(teachers.values()):
        cells = [str(run["row"][key]) if key != "student" else "" for key in varying] + [""] * len(options)
        scores = [text for metric in metrics for text in (_score(run, metric.key("teacher")), "")]
        table.add_row(f"teacher ({run['row']['teacher']})", *cells, *([""] if several else []), *scores)
    for run in runs:
        cells = [str(run["row"][key]) for key in varying] + [str(run["method"].get(key, "")) for key in options]
        chosen_by = [_number(run["validation"])] if several else []
        scores = [_score(run, metric.key(paradigm)) for metric in metrics for paradigm in PARADIGMS]
        table.add_row(f"{method_name(run)}{marks(run)}", *cells, *chosen_by, *scores)
    return table


def _empty_table(
    runs: Sequence[Mapping[str, Any]],
    texts: Sequence[str],
    numbers: Sequence[str],
    metrics: Sequence[ReportedMetric],
) -> Table:
    """Title, caption and columns: of the method, `texts`, `numbers`, and each metric under both paradigms."""
    first = runs[0]
    k = first["metric_protocol"]["k"]
    fixed = {"dataset": first["row"]["dataset"], "bits": f"{first['row']['bits']} bits"}
    subject = ", ".join(text for key, text in fixed.items() if key not in texts)
    titles = ", ".join(metric.title_at(k) for metric in metrics)
    table = Table(title=f"{subject}, {titles} on test queries", title_justify="left")
    table.caption = "; ".join(notes(runs)) or None
    for column in ("method", *texts):
        table.add_column(column)
    for column in numbers:
        table.add_column(column, justify="right")
    for metric in metrics:
        for paradigm in PARADIGMS:
            heading = paradigm.upper() if len(metrics) == 1 else f"{paradigm.upper()} {metric.title_at(k)}"
            table.add_column(heading, justify="right")
    return table


def _differ(runs: Sequence[Mapping[str, Any]], part: str, key: str) -> bool:
    """True if runs that have the key disagree about it."""
    return len({str(run[part][key]) for run in runs if key in run[part]}) > 1


def _score(run: Mapping[str, Any], metric: str) -> str:
    return _number(run["metrics"].get(f"test/{metric}"))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
