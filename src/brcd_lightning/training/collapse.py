"""A monitor of collapsing codes, whose bits become the same for all images."""

from __future__ import annotations

import warnings
from typing import Annotated

import lightning as L
from annotated_types import Interval

from brcd_lightning.options import checked


@checked("collapse_monitor")
class CollapseMonitor(L.Callback):
    """Detects codes that become the same for all images, which some objectives cause with a wrong weight.

    Args:
        threshold: threshold of ``train/bit_bias``, the mean |bit mean| over a batch, averaged over an epoch; in (0, 1].
        stop: whether to end the training above the threshold; otherwise it only warns.
    """

    def __init__(self, threshold: Annotated[float, Interval(gt=0, le=1)] = 0.9, stop: bool = False) -> None:
        self.threshold, self.stop = threshold, stop
        self._warned = False

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Checks the epoch's mean."""
        balance = float(trainer.callback_metrics.get("train/bit_bias", 0.0))
        if balance <= self.threshold:
            return
        if not self._warned:
            warnings.warn(
                f"codes collapse: mean |bit mean| {balance:.2f} in epoch {trainer.current_epoch}, above "
                f"collapse_monitor.threshold={self.threshold}; most images share their bits.",
                stacklevel=2,
            )
        self._warned = True
        trainer.should_stop = trainer.should_stop or self.stop
