"""The LightningModule of a student that distils from a frozen teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from brcd_lightning.data.datamodule import ViewBatch, finished
from brcd_lightning.data.features.stored_codes import StoredCodes
from brcd_lightning.data.transforms import MixedImages, PreparedImages
from brcd_lightning.distillation.base import KDInput, KDMethod
from brcd_lightning.distributed.gather import gather
from brcd_lightning.hashing.base import Encoder, HashNetwork
from brcd_lightning.options import AnchorView, checked
from brcd_lightning.training.evaluator import IN_TRAINING, Pair
from brcd_lightning.training.hashing_module import HashingModule, Pairs, TrainingOptions, as_float
from brcd_lightning.training.losses import Losses, distillation_losses

TEACHER = "teacher"


@checked()
class DistillationModule(HashingModule):
    """Trains a student hash network on its own objective plus a distillation loss from a frozen teacher.

    The teacher is not a child module. It stays in eval mode even after a call of `train`, is not trained, and is not
    in the checkpoint. `_apply` moves it to the device.

    Logs ``map_sshp`` (student encodes both sides), ``map_ashp`` (student queries, teacher database) and, at test,
    ``map_teacher`` (teacher both).

    Args:
        network: the student.
        teacher: the trained teacher.
        kd_method: the distillation method; its parameters train with the student.
        options: options of the training.
        architecture: see `HashingModule`.
        anchor_view: kind of anchors in the batches, ``clean`` or ``aug``, see `ViewBatch`.
    """

    training_codes: Tensor
    _paradigms: ClassVar[dict[str, Pair]] = {
        "sshp": Pair(IN_TRAINING, IN_TRAINING),
        "ashp": Pair(IN_TRAINING, TEACHER),
    }
    evaluated_pairs: ClassVar[Pairs] = {
        "val": _paradigms,
        "test": _paradigms | {"teacher": Pair(TEACHER, TEACHER)},
    }

    def __init__(
        self,
        network: HashNetwork,
        teacher: HashNetwork,
        kd_method: KDMethod,
        options: TrainingOptions,
        architecture: Mapping[str, Any],
        anchor_view: AnchorView = "clean",
    ) -> None:
        super().__init__(network, options, architecture)
        self._teacher = (teacher.requires_grad_(False).eval(),)
        if options.hashing_weight == 0:  # DDP waits for gradients of all parameters that require one
            for name, parameter in network.hashing_model.named_parameters():
                parameter.requires_grad_(name.startswith("head."))
        self._encoder: tuple[Encoder] = self._teacher  # from fit start on its codes, if features are stored
        self.kd_method = kd_method
        self.anchor_view = anchor_view
        # Clean teacher codes of the training split, filled at fit start; recomputed, hence not saved.
        self.register_buffer("training_codes", torch.empty(0, dtype=torch.int8), persistent=False)

    @property
    def teacher(self) -> HashNetwork:
        """The frozen teacher."""
        return self._teacher[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DistillationModule:
        self.teacher._apply(fn)
        return super()._apply(fn, recurse)

    def encoders(self) -> dict[str, Encoder]:
        """Student and teacher."""
        return {IN_TRAINING: self.network, TEACHER: self.teacher_encoder}

    @property
    def teacher_encoder(self) -> Encoder:
        """The teacher as an encoder: the network or, from fit start on, its codes of stored features."""
        return self._encoder[0]

    def on_fit_start(self) -> None:
        """Encodes stored features once, because the teacher no longer changes."""
        self._encoder = (StoredCodes.of(self.teacher, self.device) or self.teacher,)

    def loss_terms(self, batch: ViewBatch) -> dict[str, Tensor]:
        """Weighted terms of the hashing objective and of the distillation method, by name."""
        views, others = self._inputs(batch)
        found = self.network([*views.values(), *others.values()], self.options.gather_distributed)
        with self._full_precision():
            outputs = dict(zip((*views, *others), map(as_float, found), strict=True))
            kd_input = None
            if self.kd_method.needs:
                codes = {name: self.network.hashing_model.kd_code(output) for name, output in outputs.items()}
                kd_input = self._kd_input(batch, codes)
            return self._noted(self._losses([outputs[name] for name in views], outputs.get("anchor"), kd_input))

    @cached_property
    def _losses(self) -> Callable[..., Losses]:
        model, weight = self.network.hashing_model, self.options.hashing_weight
        return self._compiled(partial(distillation_losses, model, weight, self.kd_method), [model, self.kd_method])

    def _inputs(self, batch: ViewBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Inputs of the student by name: the views of its objective, and those that only distillation needs."""
        views: dict[str, Tensor] = {}
        others: dict[str, Tensor] = {}
        two = self.network.hashing_model.num_views == 2
        if self.options.hashing_weight > 0 and two:
            views = {"first": finished(batch.first), "second": finished(batch.second)}
        elif self.options.hashing_weight > 0:
            views = {"anchor": finished(batch.anchor)}
        known = "anchor" in views or (two and views and self.anchor_view == "aug")  # that anchor is the first view
        if self.kd_method.needs and not known:
            others["anchor"] = finished(batch.anchor)
        for kind, images in (("rotation", batch.rotations), ("positive", batch.positives)):
            if images is not None:
                others |= {f"{kind}_{number}": each for number, each in enumerate(finished(images).unbind(1))}
        return views, others

    def _kd_input(self, batch: ViewBatch, codes: Mapping[str, Tensor]) -> KDInput:
        """The part of a batch that the method needs.

        Args:
            batch: the batch.
            codes: codes of the student, by the names of `_inputs`.
        """
        index = self._whole(batch.index)
        if self.anchor_view == "clean" and len(self.training_codes):
            teacher = self.training_codes[index]
        else:
            teacher = self._whole(self.teacher_encoder.encode(finished(batch.anchor)))
        view = None
        if "teacher_view" in self.kd_method.needs:
            view = self._whole(self.teacher_encoder.encode(finished(batch.second))).float()
        return KDInput(
            student=codes["anchor"] if "anchor" in codes else codes["first"],
            teacher=teacher.float(),
            index=index,
            teacher_view=view,
            student_rotations=_stacked(codes, "rotation"),
            teacher_rotations=self._teacher_codes(batch.rotations),
            student_positives=_stacked(codes, "positive"),
            teacher_positives=self._teacher_codes(batch.positives),
        )

    def _teacher_codes(self, images: Tensor | PreparedImages | MixedImages | None) -> Tensor | None:
        """Codes (M, c, b) of images (M, c, ...)."""
        if images is None:
            return None
        inputs = finished(images)
        codes = self.teacher_encoder.encode(inputs.flatten(end_dim=1))
        return self._whole(codes.unflatten(0, inputs.shape[:2])).float()

    def _whole(self, rows: Tensor) -> Tensor:
        """Rows of all processes if the losses use them all; else the given rows."""
        return gather(rows) if self.options.gather_distributed else rows


def _stacked(codes: Mapping[str, Tensor], kind: str) -> Tensor | None:
    """Codes (M, c, b) of all inputs of a kind; None if there are none."""
    found = [code for name, code in codes.items() if name.startswith(f"{kind}_")]
    return torch.stack(found, dim=1) if found else None
