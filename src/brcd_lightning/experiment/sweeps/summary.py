"""The table over the jobs of a multirun, printed at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class SweepSummary(Callback):
    """Prints a table of all finished jobs of a multirun and writes it to ``summary.csv``."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Reads every ``results.json`` below the sweep folder; jobs without one are named."""
        from brcd_lightning.report.collect import summarise  # noqa: PLC0415 (Hydra imports this file for every command)

        summarise(Path(config.hydra.sweep.dir).resolve())
