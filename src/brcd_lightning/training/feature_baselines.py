"""The callback that measures retrieval by the real features of both backbones, as a baseline for codes."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from torch import Tensor

from brcd_lightning.metrics import list_average_precision, ranked_lists
from brcd_lightning.options import PositiveInt, checked
from brcd_lightning.search.features import FEATURE_SEARCHES, QUANTISED, nearest_by_features
from brcd_lightning.training.distillation_module import TEACHER, DistillationModule
from brcd_lightning.training.evaluator import IN_TRAINING
from brcd_lightning.training.kept_scores import KeptScores, Scores
from brcd_lightning.training.whole_split import collect

_Rows = tuple[Tensor, Tensor]
"""Features and labels of a split."""


@checked()
class FeatureBaselines(L.Callback):
    """At the end of a test, ranks the database by features of the teacher's and of the student's backbone.

    The evaluation of the module then has ``test/map_<role>_<search>`` for each of `FEATURE_SEARCHES`. None of them uses
    codes: whole features are the ceiling of a backbone, and product quantisation uses as many bytes as a code.

    Args:
        bits: code length, a multiple of 8; quantisers are fitted on the training images.
        k: cut of the ranking.
        kept_scores: folder of scores computed before from the same features; None recomputes them each time.
    """

    def __init__(self, bits: PositiveInt, k: PositiveInt, kept_scores: Path | None = None) -> None:
        self.bits, self.k = bits, k
        self._kept = KeptScores(kept_scores)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measures the backbones of a `DistillationModule`."""
        if not isinstance(pl_module, DistillationModule):
            raise TypeError(f"only a DistillationModule has two backbones, got {type(pl_module).__name__}.")
        for role, network in {TEACHER: pl_module.teacher, IN_TRAINING: pl_module.network}.items():
            splits = {
                split: collect(trainer, pl_module, split, network.backbone, "Collecting features")
                for split in ("query", "database", "train")
            }
            if not trainer.is_global_zero:
                continue
            features, labels = splits["query"]
            splits["query"] = features, pl_module.evaluator.relevant.get("test", labels)
            for kind in FEATURE_SEARCHES:
                scores = self._scores(kind, **splits)
                pl_module.evaluation.scores[f"test/map_{role}_{kind}"] = scores

    def _scores(self, kind: str, query: _Rows, database: _Rows, train: _Rows) -> Tensor:
        """AP@K (Q,) of one kind of search."""

        def compute() -> Scores:
            found = nearest_by_features(query[0], database[0], train[0], kind=kind, bits=self.bits, k=self.k)
            lists = ranked_lists(found, query[1], database[1])
            return {kind: list_average_precision(lists.top(self.k), self.k)}

        inputs = dict(zip(("query", "query_labels", "database", "database_labels"), (*query, *database), strict=True))
        if kind in QUANTISED:
            inputs["train"] = train[0]
        return self._kept.of(inputs, f"{kind} {self.bits if kind in QUANTISED else ''} {self.k}", compute)[kind]
