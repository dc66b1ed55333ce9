"""Media of a wandb run besides scalars: pictures, tables, and artifacts for files. Other loggers receive none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lightning.pytorch.loggers import Logger, WandbLogger
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from brcd_lightning.metrics import kept_bits
from brcd_lightning.report.figures.redundancy import draw_masks
from brcd_lightning.results.run_files import CODES, GALLERY, STUDENT


class LoggedFile(NamedTuple):
    """A file that a stage read or wrote.

    Args:
        name: name of the artifact.
        kind: ``model``, ``dataset`` or ``codes``.
        path: path of the file.
        facts: provenance of the file.
    """

    name: str
    kind: str
    path: Path
    facts: Mapping[str, Any]


def log_clusters(loggers: Sequence[Logger], kept: Mapping[str, Tensor]) -> None:
    """Logs the masks of a method for the teacher's codes as a picture, and its clusters as a table.

    Args:
        loggers: loggers of the stage.
        kept: result of the method's `prepare`; nothing is logged without ``assignments``.
    """
    if "assignments" not in kept:
        return
    for run, wandb in _wandb_runs(loggers):
        sizes = kept["assignments"].bincount().tolist()
        columns, rows = ["cluster", "images"], [[cluster, size] for cluster, size in enumerate(sizes)]
        media: dict[str, Any] = {"teacher/cluster_sizes": wandb.Histogram(sizes)}
        if "masks" in kept:
            bits = kept_bits(kept["masks"]).tolist()
            columns, rows = [*columns, "kept bits"], [[*row, count] for row, count in zip(rows, bits, strict=True)]
            media["teacher/kept_bits_histogram"] = wandb.Histogram(bits)
            media["teacher/bit_masks"] = wandb.Image(_pixels(draw_masks(kept, "Bit masks")))
        run.log(media | {"teacher/clusters": wandb.Table(columns=columns, data=rows)})


def log_outcome(loggers: Sequence[Logger], results: Mapping[str, Any], run_dir: Path) -> None:
    """Logs the results of a run as a table, its gallery, and its files with their provenance.

    Args:
        loggers: loggers of the student's stage.
        results: record from `record.make_results`.
        run_dir: folder of the run.
    """
    for run, wandb in _wandb_runs(loggers):
        low_and_high = results["intervals"]
        rows = [[name, value, *low_and_high.get(name, (None, None))] for name, value in results["metrics"].items()]
        table = wandb.Table(columns=["metric", "value", "low", "high"], data=rows)
        run.log({"test/table": table, "test/gallery": wandb.Image(str(run_dir / GALLERY))})
        lineage = results["fingerprints"] | {"commit": results["commit"]}
        student = LoggedFile(f"student-{run.id}", "model", run_dir / STUDENT, lineage)
        log_files(loggers, [student, LoggedFile(f"codes-{run.id}", "codes", run_dir / CODES, lineage)])


def log_files(loggers: Sequence[Logger], files: Iterable[LoggedFile], *, used: bool = False) -> None:
    """Logs the files that a stage wrote or (`used`) read, so that a dashboard links store, teacher and student.

    wandb records no inputs while it is offline. Inputs are then listed among the outputs, and the facts give their
    provenance.

    Args:
        loggers: loggers of the stage.
        files: files to log; missing files are left out.
        used: whether the stage read them.
    """
    for run, wandb in _wandb_runs(loggers):
        for file in files:
            if not file.path.exists():
                continue
            artifact = wandb.Artifact(file.name, type=file.kind, metadata=dict(file.facts))
            artifact.add_file(str(file.path))
            if used and not run.offline:
                run.use_artifact(artifact)
            else:
                run.log_artifact(artifact)


def _wandb_runs(loggers: Sequence[Logger]) -> Iterator[tuple[Any, Any]]:
    """The open run of every wandb logger, and the module."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb  # noqa: PLC0415 (slow, and only with its logger)

            yield logger.experiment, wandb


def _pixels(figure: Figure) -> np.ndarray:
    """A figure as an array (H, W, 3) uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
