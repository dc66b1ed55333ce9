"""What a multirun ends in: one table over its jobs."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class SweepSummary(Callback):
    """Prints a table of all finished jobs of a multirun and writes it to ``summary.csv``."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Reads every ``results.json`` below the sweep folder; jobs without one are named."""
        from rich.console import Console  # noqa: PLC0415 (Hydra imports this file for every command)

        from brcd_lightning.errors import InputError  # noqa: PLC0415
        from brcd_lightning.results import DONE, read_results, results_table  # noqa: PLC0415

        console = Console(soft_wrap=True)
        sweep_dir = Path(config.hydra.sweep.dir).resolve()
        runs, missing = [], []
        for job in sorted((entry.parent for entry in sweep_dir.glob("*/.hydra")), key=_job_order):
            if not (job / DONE).exists():
                missing.append(f"{job} did not finish")
                continue
            try:
                runs.append((job, read_results(job)))
            except InputError as error:
                missing.append(str(error))
        if runs:
            console.print(results_table([results for _, results in runs]))
            _write_csv(sweep_dir / "summary.csv", runs)
        for reason in missing:
            console.print(f"No results: {reason}")
        console.print(f"{len(runs)} of {len(runs) + len(missing)} jobs have results; sweep folder: {sweep_dir}")


def _job_order(job: Path) -> tuple[int, str]:
    return (int(job.name), "") if job.name.isdigit() else (1 << 30, job.name)


def _write_csv(path: Path, runs: list[tuple[Path, dict[str, Any]]]) -> None:
    from brcd_lightning.files import write_text  # noqa: PLC0415

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
