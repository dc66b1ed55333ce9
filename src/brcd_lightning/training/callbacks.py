"""Callbacks: teacher codes clustered and masked at fit start, reports of a trial, watching for collapse, progress."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor

from brcd_lightning.errors import (
    ExitCode,
    InputError,
    RunEnded,
    require_bool,
    require_positive,
    require_unit_interval,
)
from brcd_lightning.metrics import CodeTable
from brcd_lightning.results.record import PRUNED
from brcd_lightning.storage.atomic import atomic_path, write_text
from brcd_lightning.training.hashing_module import DistillationModule
from brcd_lightning.training.wandb_media import log_clusters

_SECONDS_PER_DRAWING = 0.5


class StageProgressBar(RichProgressBar):
    """Lightning's progress bar, without the logger's version number, which here is only the stage's name.

    It draws at most every half second, since drawing takes longer than a step on stored features.
    """

    def __init__(self) -> None:
        super().__init__()
        self._drawn = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        """Draws when it is time."""
        now = time.monotonic()
        last = trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
        if last or now - self._drawn > _SECONDS_PER_DRAWING:
            self._drawn = now
            super().on_train_batch_end(trainer, *arguments)

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Metrics shown beside the bar."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


class CollapseMonitor(L.Callback):
    """Watches for codes that become the same for all images, which some objectives do with a wrong weight.

    Args:
        threshold: of ``train/bit_balance``, the mean |bit mean| over a batch, averaged over an epoch; in (0, 1].
        stop: ends the training there; otherwise there is only a warning.
    """

    def __init__(self, threshold: float = 0.9, stop: bool = False) -> None:
        require_positive("collapse.threshold", threshold)
        require_unit_interval("collapse.threshold", threshold)
        require_bool("collapse.stop", stop)
        self.threshold, self.stop = threshold, stop
        self._warned = False

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Looks at the epoch's mean."""
        balance = float(trainer.callback_metrics.get("train/bit_balance", 0.0))
        if balance <= self.threshold:
            return
        if not self._warned:
            warnings.warn(
                f"codes collapse: mean |bit mean| {balance:.2f} in epoch {trainer.current_epoch}, above "
                f"collapse.threshold={self.threshold}; most images share their bits.",
                stacklevel=2,
            )
        self._warned = True
        trainer.should_stop = trainer.should_stop or self.stop


class TeacherCodesCallback(L.Callback):
    """Encodes the training images with the teacher and hands the codes to the distillation method.

    It runs at fit start, also on resume, for every method that asks anything of the teacher: images under the
    evaluation transform, teacher in eval mode; clean anchors then need no teacher any more. The method clusters and
    masks the codes (rank 0; the other ranks receive the result). What it returns is written to
    ``teacher_codes.safetensors``, with codes of one view of each image where the method compares with views; its
    scalars are logged.

    Args:
        run_dir: folder of the run.
        about: JSON-able provenance kept in the file (fingerprints of teacher and split, options of the method).
    """

    FILE = "teacher_codes.safetensors"

    def __init__(self, run_dir: Path | str, about: Mapping[str, Any]) -> None:
        self.path = Path(run_dir) / self.FILE
        self.about = dict(about)

    def on_fit_start(self, trainer: L.Trainer, pl_module: DistillationModule) -> None:
        """Prepares the distillation method."""
        method = pl_module.kd_method
        if not method.needs:
            return
        codes, labels = self._encode_training_images(trainer, pl_module)
        views = self._encode_views(trainer, pl_module) if "teacher_view" in method.needs else {}
        given = labels if "training_labels" in method.needs else None  # labels reach no other method
        kept: dict[str, Tensor] = method.prepare(codes, given) if trainer.is_global_zero else {}
        buffers = trainer.strategy.broadcast({name: value.cpu() for name, value in method.named_buffers()})
        for name, value in buffers.items():
            parent, _, leaf = name.rpartition(".")
            setattr(method.get_submodule(parent), leaf, value.to(pl_module.device))
        pl_module.training_codes = codes.to(pl_module.device)
        if trainer.is_global_zero:
            self._write(kept, {"codes": codes, **views})
            log_clusters(trainer.loggers, kept)
            scalars = {f"teacher/{name}": value.item() for name, value in kept.items() if value.ndim == 0}
            for logger in trainer.loggers:
                logger.log_metrics(scalars, step=0)

    def _encode_training_images(self, trainer: L.Trainer, module: DistillationModule) -> tuple[Tensor, Tensor]:
        table = CodeTable().to(module.device)
        loader = trainer.datamodule.eval_dataloader("train")
        batches = track(loader, "Encoding training images", transient=True, disable=not trainer.is_global_zero)
        for batch in batches:
            batch = trainer.strategy.batch_to_device(batch, module.device)  # noqa: PLW2901
            table.update(batch.index, module.teacher.encode(batch.image), batch.label)
        return table.compute()

    def _encode_views(self, trainer: L.Trainer, module: DistillationModule) -> dict[str, Tensor]:
        """Teacher codes of one augmentation of each training image, which tell how many positives are offset.

        An epoch leaves out the images that fill no batch; ``view_index`` says which are there.
        """
        table = CodeTable().to(module.device)
        loader = trainer.datamodule.train_dataloader()
        for batch in track(loader, "Encoding views", transient=True, disable=not trainer.is_global_zero):
            batch = trainer.strategy.batch_to_device(batch, module.device)  # noqa: PLW2901
            table.update(batch.index, module.teacher.encode(batch.second), batch.index)
        codes, index = table.compute()
        return {"view_codes": codes, "view_index": index}

    def _write(self, *parts: Mapping[str, Tensor]) -> None:
        tensors = {name: value.cpu().contiguous() for part in parts for name, value in part.items()}
        with atomic_path(self.path) as temporary:
            save_file(tensors, temporary, metadata={"about": json.dumps(self.about, sort_keys=True)})


class TrialReport(L.Callback):
    """Reports what a trial reaches in each validation to its search, and ends the run when the trial is pruned.

    The first process does, for all of its run. ``PRUNED`` in the folder of the run says that it was.

    Args:
        run_dir: folder of the run, in that of the search.
        number: of the trial.
        monitor: the watched metric.
    """

    def __init__(self, run_dir: Path, number: int, monitor: str) -> None:
        self.run_dir, self.number, self.monitor = run_dir, number, monitor

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reports, and raises in all processes if this is the end."""
        end = trainer.strategy.broadcast(self._report(trainer) if trainer.is_global_zero else None)
        if end is not None:
            raise end

    def _report(self, trainer: L.Trainer) -> RunEnded | InputError | None:
        """What ends the run here, if anything does."""
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
