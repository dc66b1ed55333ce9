"""Resumption of an interrupted run, with the same results as an uninterrupted one."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from brcd_lightning.errors import RunEnded
from brcd_lightning.options import NonNegative, checked
from brcd_lightning.results.run_files import BEST


@checked()
class ResumePoint(L.Callback):
    """Keeps a checkpoint from which a stage resumes: networks, optimiser, loops, memories and random generators.

    It is written at the end of an epoch if the last one is old enough, at the end of the stage, and after the current
    step when a process is asked to end (SIGTERM). A non-finite loss aborts the run. The loss is checked every
    ``trainer.log_every_n_steps`` steps, because a check waits for the device.

    Args:
        path: path of the checkpoint.
        every_s: minimum time between two checkpoints, in seconds.
    """

    def __init__(self, path: Path, every_s: NonNegative) -> None:
        self.path, self.every_s = path, every_s
        self._written = time.monotonic()
        self._restored: dict[str, Any] | None = None
        self._stopped = False
        self._asked_to_end = False
        self._outside = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Takes SIGTERM over from Lightning; does not resume a training that was told to stop."""
        if self._restored is not None and self._restored["stopped"]:
            trainer.should_stop = True

        def note(*_: object) -> None:
            self._asked_to_end = True
            if trainer.world_size == 1:
                trainer._signal_connector.received_sigterm = True

        # Lightning's own handler makes processes communicate at any point where the signal arrives.
        signal.signal(signal.SIGTERM, note)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lets SIGTERM end a test as it does outside of Lightning, because there is nothing to save."""
        signal.signal(signal.SIGTERM, self._outside)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        """Checks the loss, and whether any process was asked to end; all of them end after the same step."""
        # The last batch may precede a validation, which cannot encode anything with NaN weights.
        if trainer.global_step % _log_every_n_steps(trainer) == 0 or trainer.is_last_batch:
            self._require_a_number(trainer, outputs["loss"])
        if trainer.world_size > 1 and not trainer.is_last_batch:  # after the last one, validation may come first
            self._agree(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the checkpoint if it is due, which the first process decides for all."""
        self._require_a_number(trainer, trainer.callback_metrics.get("train/loss"))
        self._agree(trainer)
        old = time.monotonic() - self._written >= self.every_s
        if trainer.received_sigterm or trainer.strategy.broadcast(old):
            self._write(trainer)

    def _require_a_number(self, trainer: L.Trainer, loss: torch.Tensor | None) -> None:
        if loss is None or loss.isfinite():
            return
        best = self.path.with_name(BEST)
        kept = f" The weights of the best validation are in {best}." if best.exists() else ""
        raise RunEnded(
            f"the loss became {loss.item()} by step {trainer.global_step}, in epoch {trainer.current_epoch}; lower the "
            f"learning rate or a weight.{kept}"
        )

    def _agree(self, trainer: L.Trainer) -> None:
        if trainer.strategy.reduce_boolean_decision(self._asked_to_end, all=False):
            trainer._signal_connector.received_sigterm = True

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Writes the checkpoint when the process is asked to end inside an epoch; a validation starts over."""
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
        """The early-stopping flag and the states of torch's generators, from which objectives draw."""
        return {"stopped": self._stopped, "cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the state until training starts, because earlier steps may draw random numbers."""
        self._restored = state_dict

    def on_train_batch_start(self, *_: Any) -> None:
        """Restores the state of the generators."""
        if self._restored is None:
            return
        torch.set_rng_state(self._restored["cpu"].cpu())
        if len(self._restored["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([state.cpu() for state in self._restored["cuda"]])
        self._restored = None


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint of the best validation, even if the run's folder is moved or copied.

    Lightning forgets the best score when the path of the folder changes, and still refers to the file in the old one.
    """

    @property
    def state_key(self) -> str:
        """The key of Lightning's own callback, under which earlier runs have saved the state."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads the state, with its paths moved to this folder."""

        def here(path: str) -> str:
            return str(Path(self.dirpath or "", Path(path).name)) if path else path

        files = {name: here(state_dict[name]) for name in state_dict if name.endswith("_model_path")}
        kept = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | files | {"dirpath": self.dirpath, "best_k_models": kept})


def _log_every_n_steps(trainer: L.Trainer) -> int:
    steps: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it without declaring it
    return steps
