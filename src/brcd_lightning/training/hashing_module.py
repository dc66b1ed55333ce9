"""LightningModules: the hashing model alone (teacher), and the student that distils from a teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from brcd_lightning.data.datamodule import EvalBatch, ViewBatch
from brcd_lightning.data.features.stored_codes import StoredCodes
from brcd_lightning.distillation.base import KDInput, KDMethod
from brcd_lightning.distributed.gather import gather
from brcd_lightning.errors import require_positive, require_positive_int
from brcd_lightning.hashing.base import Encoder, HashNetwork, HashOutput
from brcd_lightning.training.evaluator import IN_TRAINING, SIDES, Evaluation, Pair, RetrievalEvaluator

Pairs = Mapping[str, Mapping[str, Pair]]
TEACHER = "teacher"
ADAM = partial(torch.optim.Adam, fused=True)


class HashingModule(L.LightningModule):
    """Trains one hash network on its own objective, and evaluates it by retrieval.

    Args:
        network: backbone, head and objective.
        learning_rate: of the optimiser, over everything that requires a gradient.
        map_k: K of the mAP@K that is logged as ``val/map`` and ``test/map``.
        architecture: plain description saved in checkpoints, see `checkpoints.load_network`.
        optimizer: makes the optimiser of ``params`` at ``lr``.
        gathers: over several processes, whether heads and losses see the batch of all of them, as one process would, or
            each its own share.
    """

    def __init__(
        self,
        network: HashNetwork,
        learning_rate: float,
        map_k: int,
        architecture: Mapping[str, Any],
        optimizer: Callable[..., torch.optim.Optimizer] = ADAM,
        gathers: bool = True,
    ) -> None:
        super().__init__()
        require_positive("learning_rate", learning_rate)
        require_positive_int("map_k", map_k)
        self.network = network
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.gathers = gathers
        self.save_hyperparameters({"architecture": dict(architecture)}, logger=False)
        self.evaluator = RetrievalEvaluator(self.evaluated_pairs, map_k)
        self.evaluation = Evaluation({}, {})
        """The last one."""
        self._epoch_sums: dict[str, Tensor] = {}
        self._epoch_steps = 0

    evaluated_pairs: ClassVar[Pairs] = {stage: {"": Pair(IN_TRAINING, IN_TRAINING)} for stage in ("val", "test")}
    """See `RetrievalEvaluator`."""

    def encoders(self) -> dict[str, Encoder]:
        """Encoders by the name that `evaluated_pairs` use."""
        return {IN_TRAINING: self.network}

    def setup(self, stage: str) -> None:
        """Has no memory of heads and methods copied between processes at every step: they are the same in all."""
        same = [name for name, _ in self.named_buffers() if not name.startswith("network.backbone.")]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, same)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser, over all trainable parameters."""
        return self.optimizer(params=[p for p in self.parameters() if p.requires_grad], lr=self.learning_rate)

    def training_step(self, batch: ViewBatch, batch_idx: int) -> Tensor:
        """Sum of `loss_terms`."""
        terms = self.loss_terms(batch)
        loss = torch.stack(list(terms.values())).sum()
        for name, term in {**terms, "loss": loss}.items():
            self._note(name, term)
        self._epoch_steps += 1
        if self.trainer.is_last_batch:  # not at epoch end: callbacks come first there, and look for these values
            self._log_means()
        return loss

    def loss_terms(self, batch: ViewBatch) -> dict[str, Tensor]:
        """Weighted terms of the hashing objective, by name."""
        views = [batch.first, batch.second] if self.network.hashing_model.num_views == 2 else [batch.anchor]
        outputs = self.network(views, self.gathers)
        with self._full_precision():
            return self._hashing_terms([_float(output) for output in outputs])

    def _hashing_terms(self, views: list[HashOutput]) -> dict[str, Tensor]:
        model = self.network.hashing_model
        terms = {f"hash_{name}": term for name, term in model.objective(views).items()}
        with torch.no_grad():
            for name, value in model.diagnostics(views).items():
                self._note(name, value)
        return terms

    def _full_precision(self) -> torch.autocast:
        """Losses run in float32: exponentials of cosine/tau leave half precision quickly."""
        return torch.autocast(self.device.type, enabled=False)

    def _note(self, name: str, value: Tensor) -> None:
        """Adds to the epoch's mean of ``train/<name>``; `log` at every step would cost more than a step on features."""
        value = value.detach()
        self._epoch_sums[name] = self._epoch_sums[name] + value if name in self._epoch_sums else value

    def _log_means(self) -> None:
        means = {f"train/{name}": total / self._epoch_steps for name, total in self._epoch_sums.items()}
        self._epoch_sums, self._epoch_steps = {}, 0
        loss = means.pop("train/loss")
        # Means already; over processes too, unless each of them saw the whole batch.
        options = {"on_step": False, "on_epoch": True, "batch_size": 1, "sync_dist": not self.gathers}
        self.log_dict(means, **options)
        self.log("train/loss", loss, prog_bar=True, **options)

    def validation_step(self, batch: EvalBatch, batch_idx: int, dataloader_idx: int) -> None:
        """Encodes one batch of validation queries or database images."""
        self.evaluator.collect("val", SIDES[dataloader_idx], batch, self.encoders())

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/<metric>`` over the whole split."""
        self._log_evaluation("val")

    def test_step(self, batch: EvalBatch, batch_idx: int, dataloader_idx: int) -> None:
        """Encodes one batch of test queries or database images."""
        self.evaluator.collect("test", SIDES[dataloader_idx], batch, self.encoders())

    def on_test_epoch_end(self) -> None:
        """Logs ``test/<metric>`` over the whole split."""
        self._log_evaluation("test")

    def _log_evaluation(self, stage: str) -> None:
        self.evaluation = self.evaluator.evaluate(stage)
        for name, each in self.evaluation.scores.items():
            self.log(name, each.mean(), prog_bar=stage == "val", rank_zero_only=False)


class DistillationModule(HashingModule):
    """Trains a student hash network on its own objective plus a distillation loss from a frozen teacher.

    The teacher is not a child module: it stays in eval mode whatever calls `train`, is not trained and not in the
    checkpoint; `_apply` moves it along to the device.

    Args:
        network: the student.
        teacher: the trained teacher.
        kd_method: the distillation method; its parameters train with the student.
        anchor_view: ``clean`` or ``aug``, as the batches are made, see `ViewBatch`.
        learning_rate: see `HashingModule`.
        map_k: K of ``map_sshp`` (student encodes both sides), ``map_ashp`` (student queries, teacher database)
            and, at test, ``map_teacher`` (teacher both).
        architecture: see `HashingModule`.
        optimizer: see `HashingModule`.
        gathers: see `HashingModule`.
    """

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
        anchor_view: str,
        learning_rate: float,
        map_k: int,
        architecture: Mapping[str, Any],
        optimizer: Callable[..., torch.optim.Optimizer] = ADAM,
        gathers: bool = True,
    ) -> None:
        super().__init__(network, learning_rate, map_k, architecture, optimizer, gathers)
        self._teacher = (teacher.requires_grad_(False).eval(),)
        self._encoder: tuple[Encoder] = self._teacher  # from fit start on its codes, where features are stored
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
        """What encodes as the teacher: the network itself or, from fit start on, its codes of stored features."""
        return self._encoder[0]

    def on_fit_start(self) -> None:
        """Encodes what is stored once: the teacher does not change any more."""
        self._encoder = (StoredCodes.of(self.teacher, self.device) or self.teacher,)

    def loss_terms(self, batch: ViewBatch) -> dict[str, Tensor]:
        """Weighted terms of the hashing objective and of the distillation method, by name."""
        views, others = self._inputs(batch)
        found = self.network([*views.values(), *others.values()], self.gathers)
        with self._full_precision():
            outputs = dict(zip((*views, *others), map(_float, found), strict=True))
            terms = self._hashing_terms([outputs[name] for name in views])
            if self.kd_method.needs:
                codes = {name: self.network.hashing_model.kd_code(output) for name, output in outputs.items()}
                kd = self.kd_method(self._kd_input(batch, codes))
                terms |= {f"kd_{name}": term for name, term in kd.terms.items()}
                for name, value in kd.diagnostics.items():
                    self._note(f"kd_{name}", value)
        return terms

    def _inputs(self, batch: ViewBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What the student encodes, by name: the views of its objective, and what only distillation asks for."""
        views = {"anchor": batch.anchor}
        others: dict[str, Tensor] = {}
        if self.network.hashing_model.num_views == 2:
            views = {"first": batch.first, "second": batch.second}
            if self.anchor_view == "clean" and self.kd_method.needs:  # an augmented anchor is the first view
                others["anchor"] = batch.anchor
        for kind, images in (("rotation", batch.rotations), ("positive", batch.positives)):
            if images is not None:
                others |= {f"{kind}_{number}": each for number, each in enumerate(images.unbind(1))}
        return views, others

    def _kd_input(self, batch: ViewBatch, codes: Mapping[str, Tensor]) -> KDInput:
        """What the method needs of a batch.

        Args:
            batch: the batch.
            codes: of the student, by the names of `_inputs`.
        """
        index = self._whole(batch.index)
        if self.anchor_view == "clean" and len(self.training_codes):
            teacher = self.training_codes[index]
        else:
            teacher = self._whole(self.teacher_encoder.encode(batch.anchor))
        view = None
        if "teacher_view" in self.kd_method.needs:
            view = self._whole(self.teacher_encoder.encode(batch.second)).float()
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

    def _teacher_codes(self, images: Tensor | None) -> Tensor | None:
        """Codes (M, c, b) of images (M, c, ...)."""
        if images is None:
            return None
        return self._whole(
            self.teacher_encoder.encode(images.flatten(end_dim=1)).unflatten(0, images.shape[:2])
        ).float()

    def _whole(self, rows: Tensor) -> Tensor:
        """Rows of all processes, where the losses see them all."""
        return gather(rows) if self.gathers else rows


def _float(output: HashOutput) -> HashOutput:
    return HashOutput(*(tensor.float() for tensor in output))


def _stacked(codes: Mapping[str, Tensor], kind: str) -> Tensor | None:
    """Codes (M, c, b) of all inputs of a kind; None if there are none."""
    found = [code for name, code in codes.items() if name.startswith(f"{kind}_")]
    return torch.stack(found, dim=1) if found else None
