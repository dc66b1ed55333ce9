"""One table of a sweep, also of one that is still running or partly failed.

python -m brcd_lightning.report.collect DIR
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from brcd_lightning.errors import InputError
from brcd_lightning.files import write_text
from brcd_lightning.results import DONE, read_results, results_table

SUMMARY = "summary.csv"


def collect(sweep_dir: Path) -> tuple[list[tuple[Path, dict[str, Any]]], list[str]]:
    """The finished jobs of a sweep in order, with their results, and why the others have none."""
    runs, missing = [], []
    for job in sorted({entry.parent for entry in sweep_dir.glob("*/.hydra")}, key=_job_order):
        if not (job / DONE).exists():
            missing.append(f"{job} did not finish")
            continue
        try:
            runs.append((job, read_results(job)))
        except InputError as error:
            missing.append(str(error))
    return runs, missing


def summarise(sweep_dir: Path) -> None:
    """Prints the table of a sweep, writes it to ``summary.csv``, and names the jobs without results."""
    console = Console(soft_wrap=True)
    runs, missing = collect(sweep_dir)
    if runs:
        console.print(results_table([results for _, results in runs]))
        _write_csv(sweep_dir / SUMMARY, runs)
    for reason in missing:
        console.print(f"No results: {reason}")
    console.print(f"{len(runs)} of {len(runs) + len(missing)} jobs have results; sweep folder: {sweep_dir}")


def _job_order(job: Path) -> tuple[int, str]:
    return (int(job.name), "") if job.name.isdigit() else (1 << 30, job.name)


def _write_csv(path: Path, runs: Sequence[tuple[Path, dict[str, Any]]]) -> None:
    shown = ("uses_labels", "validation")
    rows = [
        {"job": job.name}
        | results["row"]
        | results["method"]
        | {key: results[key] for key in shown}
        | results["metrics"]
        for job, results in runs
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def main(arguments: Sequence[str]) -> int:
    """Reads the command; returns the exit code."""
    try:
        if len(arguments) != 1:
            raise InputError("give one sweep folder: python -m brcd_lightning.report.collect DIR.")
        folder = Path(arguments[0]).resolve()
        if not any(folder.glob("*/.hydra")):
            raise InputError(f"{folder} holds no jobs of a sweep (folders with .hydra inside).")
        summarise(folder)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
