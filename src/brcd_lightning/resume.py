"""Continuing an interrupted run so that nothing tells it from an uninterrupted one."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from brcd_lightning.errors import InputError, RunEnded, require_non_negative
from brcd_lightning.files import write_text
from brcd_lightning.results import lasting_options

CONFIG = "config.json"


class ResumePoint(L.Callback):
    """Keeps a checkpoint that a stage of a run continues from: networks, optimiser, loops, memories and generators.

    It is written at the end of an epoch, when the last one is old enough, at the end of the stage, and after the
    running step when the process is asked to end (SIGTERM). A loss that is no number ends the run instead.

    Args:
        path: of the checkpoint.
        every_s: least time between two of them, in seconds.
    """

    def __init__(self, path: Path, every_s: float) -> None:
        require_non_negative("checkpoint_every_s", every_s)
        self.path, self.every_s = path, every_s
        self._written = time.monotonic()
        self._restored: dict[str, Any] | None = None
        self._stopped = False

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the checkpoint when it is time, which the first process decides for all."""
        loss = trainer.callback_metrics.get("train/loss")
        if loss is not None and not loss.isfinite():
            raise RunEnded(
                f"the loss became {loss.item()} in epoch {trainer.current_epoch}; lower the learning rate or a weight. "
                f"The weights of the best validation are in {self.path.parent}."
            )
        due = trainer.received_sigterm or time.monotonic() - self._written >= self.every_s
        if trainer.strategy.broadcast(due):
            self._write(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Writes the checkpoint when the process is asked to end inside an epoch; a validation starts anew."""
        inside = trainer.training and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if isinstance(exception, SIGTERMException) and inside:
            self._write(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the checkpoint of the finished stage."""
        self._write(trainer)

    def _write(self, trainer: L.Trainer) -> None:
        self._stopped = trainer.should_stop
        trainer.save_checkpoint(self.path)
        self._written = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Whether the training was told to stop early, and torch's generators: objectives draw from them."""
        return {"stopped": self._stopped, "cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the state until training starts: what comes before that may draw."""
        self._restored = state_dict

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Does not go on with a training that was told to stop."""
        if self._restored is not None and self._restored["stopped"]:
            trainer.should_stop = True

    def on_train_batch_start(self, *_: Any) -> None:
        """Puts the generators where they were."""
        if self._restored is None:
            return
        torch.set_rng_state(self._restored["cpu"].cpu())
        if len(self._restored["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([state.cpu() for state in self._restored["cuda"]])
        self._restored = None


def claim(run_dir: Path, config: Mapping[str, Any]) -> None:
    """Notes the options of a run in its folder; an interrupted run is continued with the same ones only.

    Args:
        run_dir: folder of the run.
        config: the whole resolved configuration, plain.

    Raises:
        InputError: naming the first option that differs from those of the run that the folder holds.
    """
    path = run_dir / CONFIG
    options = lasting_options(config)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = options
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); remove the folder to start anew.") from error
    for key in sorted(found.keys() | options.keys()):
        if found.get(key) != options.get(key):
            raise InputError(
                f"resume=auto: {run_dir} holds a run with {key}={found.get(key)!r}, this one has "
                f"{options.get(key)!r}; give the same options, or another hydra.run.dir."
            )
    write_text(path, json.dumps(options, indent=1, sort_keys=True) + "\n")
