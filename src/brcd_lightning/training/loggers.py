"""Experiment loggers of one stage of a run, and their end."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from brcd_lightning.errors import InputError
from brcd_lightning.results.identity import cell_options

METRICS_UP = ("val/map", "val/map_sshp", "val/map_ashp")  # by name: of several patterns that fit wandb takes any


@dataclass(frozen=True)
class LogContext:
    """What a logger should know of a stage.

    Args:
        run_dir: folder of the run.
        stage: ``teacher`` or ``student``.
        labels: coordinates in the grid, see `config.labels`.
        bits: code length.
        seed: of the stage.
        config: the whole resolved configuration, plain.
    """

    run_dir: Path
    stage: str
    labels: Mapping[str, str]
    bits: int
    seed: int
    config: Mapping[str, Any]

    @property
    def group(self) -> str:
        """The table cell without the seed, so that dashboards average over seeds, and over nothing else.

        It ends in a digest of all options of the cell.
        """
        one = self.labels
        options = json.dumps(cell_options(self.config), sort_keys=True, default=str)
        digest = hashlib.sha256(options.encode()).hexdigest()[:6]
        networks = f"{one['teacher']}>{one['student']}"
        return f"{one['dataset']}/{one['hashing_model']}/{networks}/{one['kd_method']}/{self.bits}b/{digest}"

    @property
    def id(self) -> str:
        """Stable over restarts of the same stage in the same run folder."""
        return hashlib.sha256(f"{self.run_dir.resolve()}/{self.stage}".encode()).hexdigest()[:16]


def csv_logger(context: LogContext) -> Logger:
    """Scalars in ``<run_dir>/metrics/<stage>/metrics.csv``."""
    return CSVLogger(context.run_dir, name="metrics", version=context.stage)


def tensorboard_logger(context: LogContext) -> Logger:
    """Scalars in ``<run_dir>/tensorboard/<stage>``; needs the ``tensorboard`` extra."""
    return TensorBoardLogger(context.run_dir, name="tensorboard", version=context.stage)


def wandb_logger(context: LogContext, project: str, entity: str | None = None, offline: bool = False) -> Logger:
    """A Weights & Biases run: group = the table cell without its seed, job type = the stage, tags = the grid."""
    logger = WandbLogger(
        project=project,
        entity=entity,
        group=context.group,
        job_type=context.stage,
        name=f"{context.labels['kd_method']}-{context.bits}b-s{context.seed}-{context.id[:6]}",
        id=context.id,
        resume="allow",
        tags=[*dict.fromkeys(context.labels.values()), f"{context.bits}b"],
        save_dir=str(context.run_dir),
        config=dict(context.config),
        offline=offline,
    )
    import wandb  # noqa: PLC0415 (slow import, needed only here)

    try:
        experiment = logger.experiment
    except wandb.errors.Error as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"wandb could not start a run ({reason}); log in with 'wandb login', or use logger=wandb_offline."
        ) from error
    define = getattr(experiment, "define_metric", None)
    if callable(define):  # absent on ranks other than 0
        define("epoch")
        define("train/*", step_metric="epoch")
        for metric in METRICS_UP:
            define(metric, step_metric="epoch", summary="max")
    return logger


def close_loggers(exit_code: int = 0) -> None:
    """Ends an open wandb run, so that the next stage or job starts its own."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and getattr(wandb, "run", None) is not None:
        wandb.finish(exit_code=exit_code)
