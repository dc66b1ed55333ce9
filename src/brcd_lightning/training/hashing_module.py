"""The LightningModule of a single hash network: for teachers, and as the base of `DistillationModule`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from brcd_lightning.data.datamodule import EvalBatch, ViewBatch, finished
from brcd_lightning.hashing.base import Encoder, HashNetwork, HashOutput
from brcd_lightning.options import NonNegative, Positive, PositiveInt, checked
from brcd_lightning.training.evaluator import IN_TRAINING, SIDES, Evaluation, Pair, RetrievalEvaluator
from brcd_lightning.training.losses import Losses, compiled_losses, hashing_losses, remembered

Pairs = Mapping[str, Mapping[str, Pair]]
ADAM = partial(torch.optim.Adam, fused=True)


@checked()
@dataclass(frozen=True)
class TrainingOptions:
    """Training options of a teacher or of a student.

    Args:
        learning_rate: learning rate of all parameters that require a gradient; above 0.
        map_k: K of mAP@K.
        optimizer: creates the optimizer from ``params`` and ``lr``.
        gather_distributed: with several processes, whether heads and losses see the batch of all of them, as a single
            process would, or each only its own share.
        float_queries: whether a test also ranks by soft values of queries (``*_float``, ``*_rescored``).
        hashing_weight: factor of the hashing objective of a student, at least 0; with 0 it is not computed.
        kept_scores: see `RetrievalEvaluator`.
        compile_losses: compile the losses for each device, see `compiled_losses`.

    Raises:
        InputError: for a value out of range.
    """

    learning_rate: Positive
    map_k: PositiveInt
    optimizer: Callable[..., torch.optim.Optimizer] = ADAM
    gather_distributed: bool = True
    float_queries: bool = True
    hashing_weight: NonNegative = 1.0
    kept_scores: Path | None = None
    compile_losses: bool = False


class HashingModule(L.LightningModule):
    """Trains one hash network on its own objective, and evaluates it by retrieval.

    Logs ``val/map`` and ``test/map``, the mAP@K with this network on both sides.

    Args:
        network: backbone, head and objective.
        options: options of the training.
        architecture: plain description saved in checkpoints, see `storage.checkpoints.load_network`.
    """

    def __init__(self, network: HashNetwork, options: TrainingOptions, architecture: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.options = options
        self.save_hyperparameters({"architecture": dict(architecture)}, logger=False)
        self.evaluator = RetrievalEvaluator(
            self.evaluated_pairs, options.map_k, options.float_queries, options.kept_scores
        )
        self.evaluation = Evaluation({}, {})
        """The last evaluation."""
        self._epoch_sums: dict[str, Tensor] = {}
        self._epoch_steps = 0

    evaluated_pairs: ClassVar[Pairs] = {stage: {"": Pair(IN_TRAINING, IN_TRAINING)} for stage in ("val", "test")}
    """See `RetrievalEvaluator`."""

    def encoders(self) -> dict[str, Encoder]:
        """Encoders by the names that `evaluated_pairs` uses."""
        return {IN_TRAINING: self.network}

    def setup(self, stage: str) -> None:
        """Excludes buffers outside the backbone from DDP's per-step broadcast; they are identical on all ranks."""
        same = [name for name, _ in self.named_buffers() if not name.startswith("network.backbone.")]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, same)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser, over all trainable parameters."""
        return self.options.optimizer(
            params=[p for p in self.parameters() if p.requires_grad], lr=self.options.learning_rate
        )

    def training_step(self, batch: ViewBatch, batch_idx: int) -> Tensor:
        """Sum of `loss_terms`."""
        terms = self.loss_terms(batch)
        loss = torch.stack(list(terms.values())).sum()
        for name, term in {**terms, "loss": loss}.items():
            self._note(name, term)
        self._epoch_steps += 1
        if self.trainer.is_last_batch:  # not at epoch end, where callbacks that read these values run first
            self._log_means()
        return loss

    def loss_terms(self, batch: ViewBatch) -> dict[str, Tensor]:
        """Weighted terms of the hashing objective, by name."""
        chosen = [batch.first, batch.second] if self.network.hashing_model.num_views == 2 else [batch.anchor]
        views = [finished(images) for images in chosen]
        outputs = self.network(views, self.options.gather_distributed)
        with self._full_precision():
            return self._noted(self._losses([as_float(output) for output in outputs]))

    @cached_property
    def _losses(self) -> Callable[..., Losses]:
        model = self.network.hashing_model
        return self._compiled(partial(hashing_losses, model, self.options.hashing_weight), [model])

    def _compiled(self, losses: Callable[..., Losses], parts: Sequence[nn.Module]) -> Callable[..., Losses]:
        """The function, compiled for the device if the options ask for it and its parts have no state."""
        compiles = self.options.compile_losses and not any(map(remembered, parts))
        return compiled_losses(losses, self.device) if compiles else losses

    def _noted(self, losses: Losses) -> dict[str, Tensor]:
        """Returns the terms, and adds the diagnostics to the epoch's means."""
        for name, value in losses.diagnostics.items():
            self._note(name, value)
        return losses.terms

    def _full_precision(self) -> torch.autocast:
        """Runs losses in float32, because exponentials of cosine/tau easily leave the range of half precision."""
        return torch.autocast(self.device.type, enabled=False)

    def _note(self, name: str, value: Tensor) -> None:
        """Adds to the epoch's mean of ``train/<name>``; `log` at every step would cost more than a step on features."""
        value = value.detach()
        # Copies the first value, because the next replay of a CUDA graph overwrites the returned tensor.
        self._epoch_sums[name] = self._epoch_sums[name] + value if name in self._epoch_sums else value.clone()

    def _log_means(self) -> None:
        means = {f"train/{name}": total / self._epoch_steps for name, total in self._epoch_sums.items()}
        self._epoch_sums, self._epoch_steps = {}, 0
        loss = means.pop("train/loss")
        # These are means already; they are averaged over processes too, unless each process saw the whole batch.
        log = partial(
            self.log, on_step=False, on_epoch=True, batch_size=1, sync_dist=not self.options.gather_distributed
        )
        for name, mean in means.items():
            log(name, mean)
        log("train/loss", loss, prog_bar=True)

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


def as_float(output: HashOutput) -> HashOutput:
    """The output in full precision."""
    return HashOutput(*(tensor.float() for tensor in output))
