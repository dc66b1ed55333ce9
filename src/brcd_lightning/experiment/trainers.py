"""Creation and shutdown of the trainers of a run."""

from __future__ import annotations

import os
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import EarlyStopping
from omegaconf import DictConfig

from brcd_lightning.config import build
from brcd_lightning.distributed.processes import cluster, is_rank_zero, require_processes
from brcd_lightning.errors import InputError
from brcd_lightning.experiment.context import RunContext
from brcd_lightning.results.run_files import CHECKPOINTS, RESUME
from brcd_lightning.storage.checkpoints import AtomicCheckpointIO
from brcd_lightning.training.loggers import LogContext
from brcd_lightning.training.progress import StageProgressBar
from brcd_lightning.training.resume import BestCheckpoint, ResumePoint


class Trainers:
    """Creates the trainers of a run.

    Args:
        cfg: the whole configuration.

    Raises:
        InputError: for a device, precision, limit or number of processes that Lightning or this machine rejects.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self._cfg = cfg
        self._made: list[L.Trainer] = []
        self.idle = self._make(logger=False, enable_checkpointing=False)
        """Has the configured devices and limits, so that invalid ones raise an error before training."""
        require_processes(self.idle)

    def of_stage(self, context: RunContext, stage: str, monitor: str, callbacks: list[L.Callback]) -> L.Trainer:
        """The trainer of a stage: keeps the best checkpoint and one to resume from, and stops early.

        Args:
            context: context of the run.
            stage: ``teacher`` or ``student``.
            monitor: validation metric that selects the checkpoint; higher is better.
            callbacks: further callbacks.
        """
        cfg, options = self._cfg, self._cfg[stage]
        folder = context.run_dir / CHECKPOINTS / stage
        loggers = []
        if is_rank_zero():
            seen = LogContext(context.run_dir, stage, context.coordinates, cfg.bits, options.seed, context.kept_config)
            loggers = [build(node, context=seen) for node in cfg.logger.values()]
        best = BestCheckpoint(folder, "best", monitor=monitor, mode="max", enable_version_counter=False)
        stopping = EarlyStopping(monitor, patience=options.patience, mode="max")
        if cfg.trainer.get("enable_progress_bar", True):
            callbacks = [*callbacks, StageProgressBar()]
        point = ResumePoint(folder / RESUME, cfg.checkpoint_every_s)
        epochs = context.max_epochs(stage)
        trainer = self._make(
            max_epochs=epochs,
            check_val_every_n_epoch=min(options.check_val_every, epochs),
            callbacks=[best, stopping, build(cfg.collapse_monitor), *callbacks, point],
            logger=loggers or False,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=str(context.run_dir),
            num_sanity_val_steps=0,  # a partial split has no mAP
            use_distributed_sampler=False,  # our own samplers neither pad nor reshuffle
        )
        self._made.append(trainer)
        return trainer

    def end_processes(self) -> None:
        """Ends the processes that this one started, which would otherwise wait forever."""
        for trainer in self._made:
            for process in getattr(trainer.strategy.launcher, "procs", ()):
                process.kill()

    def _make(self, *, plugins: list[Any] | None = None, **arguments: Any) -> L.Trainer:
        cfg = self._cfg
        # The only accelerators known to work: Apple's lacks float64, which clustering and metrics need.
        device = "cuda" if torch.cuda.is_available() else "cpu"
        accelerator = {"accelerator": device} if cfg.trainer.accelerator == "auto" else {}
        try:
            trainer = build(cfg.trainer, plugins=[*(plugins or []), *cluster()], **accelerator, **arguments)
        except InputError:
            raise
        except (RuntimeError, ImportError, ValueError, TypeError, AssertionError, MisconfigurationException) as error:
            raise InputError(f"trainer: {' '.join(str(error).split())}") from error
        if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > (os.cpu_count() or 1):
            raise InputError(f"trainer.devices must be at most the {os.cpu_count()} CPUs, got {trainer.num_devices}.")
        return trainer


def best_checkpoint(trainer: L.Trainer) -> BestCheckpoint:
    """The callback of a stage's trainer that keeps the best validation."""
    callback = trainer.checkpoint_callback
    if not isinstance(callback, BestCheckpoint):
        raise TypeError(f"a trainer of a stage keeps its best checkpoint, this one has {type(callback).__name__}.")
    return callback
