"""The callback that clusters teacher codes and computes bit masks at fit start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor

from brcd_lightning.data.datamodule import finished
from brcd_lightning.metrics import CodeTable
from brcd_lightning.results.run_files import TEACHER_CODES
from brcd_lightning.storage.atomic import atomic_path
from brcd_lightning.training.distillation_module import DistillationModule
from brcd_lightning.training.wandb_media import log_clusters
from brcd_lightning.training.whole_split import collect, data_of


class TeacherCodesCallback(L.Callback):
    """Encodes the training images with the teacher and hands the codes to the distillation method.

    It runs at fit start, also on resume, for every method that uses the teacher. The images are under the evaluation
    transform and the teacher is in eval mode, so that clean anchors no longer need the teacher. The method clusters
    and masks the codes on rank 0; the other ranks receive the result. The result is written to
    ``teacher_codes.safetensors``, with codes of one view of each image if the method compares with views. Its scalars
    are logged.

    Args:
        run_dir: folder of the run.
        about: JSON-serialisable provenance in the file (fingerprints of teacher and split, options of the method).
    """

    def __init__(self, run_dir: Path | str, about: Mapping[str, Any]) -> None:
        self.path = Path(run_dir) / TEACHER_CODES
        self.about = dict(about)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prepares the distillation method."""
        if not isinstance(pl_module, DistillationModule):
            raise TypeError(f"only a DistillationModule has teacher codes, got {type(pl_module).__name__}.")
        method = pl_module.kd_method
        if not method.needs:
            return
        codes, labels = collect(trainer, pl_module, "train", pl_module.teacher.encode, "Encoding training images")
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

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prepares a method that solves for a head, which is validated without a fit."""
        if trainer.state.fn is TrainerFn.VALIDATING:
            self.on_fit_start(trainer, pl_module)

    def _encode_views(self, trainer: L.Trainer, module: DistillationModule) -> dict[str, Tensor]:
        """Teacher codes of one augmentation of each training image, from which the offset positive rate follows.

        The views are those of the first epoch, even if the run resumes in a later one. An epoch leaves out the images
        of an incomplete last batch; ``view_index`` lists the images that it contains.
        """
        table = CodeTable().to(module.device)
        loader = data_of(trainer).training_loader()
        for batch in track(loader, "Encoding views", transient=True, disable=not trainer.is_global_zero):
            batch = trainer.strategy.batch_to_device(batch, module.device)  # noqa: PLW2901
            table.update(batch.index, module.teacher.encode(finished(batch.second)), batch.index)
        codes, index = table.compute()
        return {"view_codes": codes, "view_index": index}

    def _write(self, *parts: Mapping[str, Tensor]) -> None:
        tensors = {name: value.cpu().contiguous() for part in parts for name, value in part.items()}
        with atomic_path(self.path) as temporary:
            save_file(tensors, temporary, metadata={"about": json.dumps(self.about, sort_keys=True)})
