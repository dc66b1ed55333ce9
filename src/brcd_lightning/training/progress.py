"""The progress bar of a stage."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar

_SECONDS_PER_DRAWING = 0.5


class StageProgressBar(RichProgressBar):
    """Lightning's progress bar without the logger's version number, which is only the stage's name.

    It draws at most every half second, since drawing takes longer than a step on stored features.
    """

    def __init__(self) -> None:
        super().__init__()
        self._drawn = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        """Redraws the bar if it is due."""
        now = time.monotonic()
        last = trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
        if last or now - self._drawn > _SECONDS_PER_DRAWING:
            self._drawn = now
            super().on_train_batch_end(trainer, *arguments)

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Metrics shown beside the bar."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}
