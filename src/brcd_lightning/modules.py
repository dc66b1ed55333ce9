"""LightningModules: the hashing model alone (teacher), and the student that distils from a teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from brcd_lightning.data.datamodule import EvalBatch, ViewBatch
from brcd_lightning.distillation.base import KDInput, KDMethod
from brcd_lightning.errors import require_positive, require_positive_int
from brcd_lightning.global_batch import gather
from brcd_lightning.hashing.base import HashNetwork, HashOutput
from brcd_lightning.metrics import CodeTable, average_precisions_by_ties
from brcd_lightning.metrics.ranking import TIES

SIDES = ("query", "database")
"""Order of the evaluation loaders."""
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
        self.map_k = map_k
        self.save_hyperparameters({"architecture": dict(architecture)}, logger=False)
        encoders = {encoder for pair in (self.val_pairs | self.test_pairs).values() for encoder in pair}
        self.tables = nn.ModuleDict({f"{encoder}_{side}": CodeTable() for encoder in encoders for side in SIDES})
        self._epoch_sums: dict[str, Tensor] = {}
        self._epoch_steps = 0
        self._frozen_codes: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}
        self.scores: dict[str, Tensor] = {}
        """Of each test query (Q,) float64, by test metric."""
        self.codes: dict[str, tuple[Tensor, Tensor]] = {}
        """Codes (n, b) and labels of the last evaluation, by ``<encoder>_<side>``."""

    # What is evaluated: metric name -> (who encodes the queries, who encodes the database).
    val_pairs: dict[str, tuple[str, str]] = {"map": ("student", "student")}  # noqa: RUF012
    test_pairs: dict[str, tuple[str, str]] = {"map": ("student", "student")}  # noqa: RUF012

    def encoders(self) -> dict[str, HashNetwork]:
        """Networks by the name that the pairs use; ``student`` is the one in training."""
        return {"student": self.network}

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
        self._collect("val", self.val_pairs, batch, SIDES[dataloader_idx])

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/<metric>`` over the whole split."""
        self._evaluate("val", self.val_pairs)

    def test_step(self, batch: EvalBatch, batch_idx: int, dataloader_idx: int) -> None:
        """Encodes one batch of test queries or database images."""
        self._collect("test", self.test_pairs, batch, SIDES[dataloader_idx])

    def on_test_epoch_end(self) -> None:
        """Logs ``test/<metric>`` over the whole split."""
        self._evaluate("test", self.test_pairs)

    def _collect(self, stage: str, pairs: Mapping[str, tuple[str, str]], batch: EvalBatch, side: str) -> None:
        encoders = self.encoders()
        for encoder in {pair[SIDES.index(side)] for pair in pairs.values()}:
            key = f"{encoder}_{side}"
            if (stage, key) not in self._frozen_codes:
                self.tables[key].update(batch.index, encoders[encoder].encode(batch.image), batch.label)

    def _evaluate(self, stage: str, pairs: Mapping[str, tuple[str, str]]) -> None:
        self.codes = {}
        for encoder, side in sorted({place for pair in pairs.values() for place in zip(pair, SIDES, strict=True)}):
            key = f"{encoder}_{side}"
            if (stage, key) in self._frozen_codes:
                self.codes[key] = self._frozen_codes[stage, key]
                continue
            self.codes[key] = self.tables[key].compute()
            self.tables[key].reset()
            if encoder != "student":  # it never changes: encode its images once per fit
                self._frozen_codes[stage, key] = self.codes[key]
        values: dict[str, Tensor] = {}  # of each query, by metric
        for metric, (query, database) in pairs.items():
            query_codes, query_labels = self.codes[f"{query}_query"]
            database_codes, database_labels = self.codes[f"{database}_database"]
            by_ties = average_precisions_by_ties(
                query_codes,
                database_codes,
                query_labels,
                database_labels,
                self.map_k,
                ties=TIES if stage == "test" else TIES[:1],
            )
            values[f"{stage}/{metric}"] = by_ties["stable"]
            if stage == "test":
                values[f"{stage}/{metric}_expected"] = by_ties["expected"]
                values[f"{stage}/{metric}_zero_hits"] = (by_ties["stable"] == 0).double()
        for name, each in values.items():
            self.log(name, each.mean(), prog_bar=stage == "val", rank_zero_only=False)
        if stage == "test":
            self.scores = values


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

    val_pairs = {"map_sshp": ("student", "student"), "map_ashp": ("student", "teacher")}  # noqa: RUF012
    test_pairs = val_pairs | {"map_teacher": ("teacher", "teacher")}

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

    def encoders(self) -> dict[str, HashNetwork]:
        """Student and teacher."""
        return {"student": self.network, "teacher": self.teacher}

    def on_fit_start(self) -> None:
        """Encodes what is stored once: the teacher does not change any more."""
        self.teacher.remember_codes(self.device)

    def loss_terms(self, batch: ViewBatch) -> dict[str, Tensor]:
        """Weighted terms of the hashing objective and of the distillation method, by name."""
        two_views = self.network.hashing_model.num_views == 2
        separate_anchor = self.anchor_view == "clean" and two_views and bool(self.kd_method.needs)
        views = [batch.first, batch.second] if two_views else [batch.anchor]
        extras = [
            view for images in (batch.rotations, batch.positives) if images is not None for view in images.unbind(1)
        ]
        outputs = self.network([*views, *([batch.anchor] if separate_anchor else []), *extras], self.gathers)
        with self._full_precision():
            outputs = [_float(output) for output in outputs]
            terms = self._hashing_terms(outputs[: len(views)])
            if self.kd_method.needs:
                codes = [self.network.hashing_model.kd_code(output) for output in outputs]
                anchor = codes[len(views) if separate_anchor else 0]
                kd = self.kd_method(self._kd_input(batch, anchor, codes[len(codes) - len(extras) :]))
                terms |= {f"kd_{name}": term for name, term in kd.terms.items()}
                for name, value in kd.diagnostics.items():
                    self._note(f"kd_{name}", value)
        return terms

    def _kd_input(self, batch: ViewBatch, student: Tensor, extras: list[Tensor]) -> KDInput:
        """What the method needs of a batch, with student codes of anchors, and of rotations and positives."""
        index = self._whole(batch.index)
        if self.anchor_view == "clean" and len(self.training_codes):
            teacher = self.training_codes[index]
        else:
            teacher = self._whole(self.teacher.encode(batch.anchor))
        view = None
        if "teacher_view" in self.kd_method.needs:
            view = self._whole(self.teacher.encode(batch.second)).float()
        turns = 0 if batch.rotations is None else batch.rotations.shape[1]
        return KDInput(
            student=student,
            teacher=teacher.float(),
            index=index,
            teacher_view=view,
            student_rotations=torch.stack(extras[:turns], dim=1) if turns else None,
            teacher_rotations=self._teacher_codes(batch.rotations),
            student_positives=torch.stack(extras[turns:], dim=1) if len(extras) > turns else None,
            teacher_positives=self._teacher_codes(batch.positives),
        )

    def _teacher_codes(self, images: Tensor | None) -> Tensor | None:
        """Codes (M, c, b) of images (M, c, ...)."""
        if images is None:
            return None
        return self._whole(self.teacher.encode(images.flatten(end_dim=1)).unflatten(0, images.shape[:2])).float()

    def _whole(self, rows: Tensor) -> Tensor:
        """Rows of all processes, where the losses see them all."""
        return gather(rows) if self.gathers else rows


def _float(output: HashOutput) -> HashOutput:
    return HashOutput(*(tensor.float() for tensor in output))
