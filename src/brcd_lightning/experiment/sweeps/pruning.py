"""The callback that reports the validations of a trial to its search, and ends a pruned trial."""

from __future__ import annotations

from pathlib import Path

import lightning as L

from brcd_lightning.errors import ExitCode, InputError, RunEnded
from brcd_lightning.results.run_files import PRUNED
from brcd_lightning.storage.atomic import write_text


class TrialReport(L.Callback):
    """Reports each validation of a trial to its search, and ends the run if the trial is pruned.

    The first process reports for the whole run. The file ``PRUNED`` in the folder of the run marks a pruned trial.

    Args:
        run_dir: folder of the run, inside that of the search.
        number: number of the trial.
        monitor: the watched metric.
    """

    def __init__(self, run_dir: Path, number: int, monitor: str) -> None:
        self.run_dir, self.number, self.monitor = run_dir, number, monitor

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reports the metric, and raises in all processes if the trial ends here."""
        end = trainer.strategy.broadcast(self._report(trainer) if trainer.is_global_zero else None)
        if end is not None:
            raise end

    def _report(self, trainer: L.Trainer) -> RunEnded | InputError | None:
        """The reason to end the run here; None to continue."""
        from brcd_lightning.experiment.sweeps.study import report  # noqa: PLC0415 (needs an extra)

        value, epochs = trainer.callback_metrics[self.monitor].item(), trainer.current_epoch + 1
        try:
            goes_on = report(self.run_dir.parent, self.number, value, epochs)
        except (RunEnded, InputError) as error:
            return error
        if goes_on:
            return None
        write_text(self.run_dir / PRUNED, "")
        reason = f"pruned after epoch {epochs}: its best {self.monitor} is below the median of other trials."
        return RunEnded(reason, ExitCode.PRUNED)
