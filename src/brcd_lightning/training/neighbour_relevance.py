"""The callback that defines relevance for a data set without labels, by the nearest images of a float search."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from brcd_lightning.backbones import Backbone
from brcd_lightning.options import PositiveInt, checked
from brcd_lightning.search.features import nearest_by_features
from brcd_lightning.training.distillation_module import DistillationModule
from brcd_lightning.training.hashing_module import HashingModule
from brcd_lightning.training.whole_split import collect

ROLES = {"val": ("val_query", "val_database"), "test": ("query", "database")}
"""Queries and database of each stage."""


@checked()
class NeighbourRelevance(L.Callback):
    """Makes the nearest database images of each query relevant, by cosine of features of the teacher's backbone.

    The search is exact and runs once per stage, before the first evaluation. While a teacher trains, it uses the
    backbone from the start of training, so that relevance does not change with the evaluated network. A resumed
    training keeps the same lists.

    Args:
        neighbours: number of relevant images per query.
    """

    def __init__(self, neighbours: PositiveInt) -> None:
        self.neighbours = neighbours
        self._relevant: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        """The lists (Q, neighbours) so far, by stage."""
        return dict(self._relevant)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the lists."""
        self._relevant = dict(state_dict)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Sets the relevant images for the validations of a fit."""
        self._judge(trainer, pl_module, "val")

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Sets the relevant images for a validation without a fit."""
        if trainer.state.fn is TrainerFn.VALIDATING:
            self._judge(trainer, pl_module, "val")

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Sets the relevant images for the test."""
        self._judge(trainer, pl_module, "test")

    def _judge(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        if not isinstance(module, HashingModule):
            raise TypeError(f"only a HashingModule is evaluated by retrieval, got {type(module).__name__}.")
        if stage not in self._relevant:
            backbone = (module.teacher if isinstance(module, DistillationModule) else module.network).backbone
            self._relevant[stage] = self._nearest(trainer, module, backbone, ROLES[stage])
        module.evaluator.relevant[stage] = self._relevant[stage]

    def _nearest(
        self, trainer: L.Trainer, module: L.LightningModule, backbone: Backbone, roles: tuple[str, str]
    ) -> Tensor:
        """Ids (Q, neighbours) of the nearest database images of the queries, the same on every process."""
        trains = backbone.training
        backbone.eval()
        with torch.no_grad():
            (queries, _), (database, ids) = (
                collect(trainer, module, role, backbone, "Collecting features") for role in roles
            )
        backbone.train(trains)
        found = nearest_by_features(queries, database, queries, kind="features", bits=0, k=self.neighbours)
        return trainer.strategy.broadcast(ids[found])
