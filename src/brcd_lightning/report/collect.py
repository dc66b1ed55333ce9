"""The table of a sweep, including one that is still running or has partly failed."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from rich.console import Console

from brcd_lightning.errors import InputError
from brcd_lightning.report.runs import Run, named_by_data, read_run, run_folders
from brcd_lightning.results.run_files import SUMMARY, TRIALS
from brcd_lightning.results.summary_table import results_tables
from brcd_lightning.storage.atomic import write_text
from brcd_lightning.storage.csv_cells import plain_cell


def collect(sweep_dir: Path) -> tuple[list[Run], list[str]]:
    """Returns the finished jobs of a sweep in order, and a reason for each job without results."""
    runs, missing = [], []
    for folder in run_folders([sweep_dir]):
        try:
            runs.append(read_run(folder))
        except InputError as error:
            missing.append(str(error))
    return named_by_data(runs), missing


def summarise(sweep_dir: Path) -> None:
    """Prints the table of a sweep and the best trial of a search, and writes the table to ``summary.csv``."""
    console = Console(soft_wrap=True, markup=False)  # names may contain brackets
    runs, missing = collect(sweep_dir)
    if runs:
        console.print(*results_tables([run.results for run in runs]), sep="\n")
        _write_csv(sweep_dir / SUMMARY, runs)
    for reason in missing:
        console.print(f"No results: {reason}")
    console.print(f"{len(runs)} of {len(runs) + len(missing)} jobs have results; sweep folder: {sweep_dir}")
    if (sweep_dir / TRIALS).exists():
        console.print(_best_trial(sweep_dir / TRIALS), highlight=False)


def _best_trial(path: Path) -> str:
    """Describes the best trial of a search so far, with the command that repeats it.

    Raises:
        InputError: for a damaged table of trials.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return _best_of(list(csv.DictReader(file)), path)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(
            f"{path} is not a table of trials, or a damaged one; continue the search to write it."
        ) from error


def _best_of(trials: Sequence[Mapping[str, str]], path: Path) -> str:
    states = Counter(trial["state"] for trial in trials)
    ended = ", ".join(f"{count} {state}" for state, count in states.items())
    complete = [trial for trial in trials if trial["state"] == "complete"]
    if not complete:
        return f"No best trial: {ended or 'none yet'}"
    best = max(complete, key=lambda trial: float(trial["validation"]))
    return (
        f"Best trial: #{best['trial']}, validation {float(best['validation']):.4f} ({ended}; {path})\n"
        f"python -m brcd_lightning.train {best['overrides']}"
    )


def _write_csv(path: Path, runs: Sequence[Run]) -> None:
    rows = [
        {"job": run.folder.name}
        | run.row
        | {key: value for key, value in run.results["method"].items() if key not in run.row}  # a method has a seed too
        | {key: run.results[key] for key in ("uses_labels", "transductive", "validation")}
        | run.results["metrics"]
        for run in runs
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows({key: plain_cell(value) for key, value in row.items()} for row in rows)
    write_text(path, text.getvalue())


if __name__ == "__main__":
    # Imported by name, because commands are the top layer. The former name works for one release.
    import_module("brcd_lightning.cli.main").run_old_form("brcd_lightning.report.collect", "collect")
