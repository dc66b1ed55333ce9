"""The callback that measures what the real features of both backbones retrieve, beside codes."""

from __future__ import annotations

import lightning as L

from brcd_lightning.metrics import list_average_precision, ranked_lists
from brcd_lightning.search.features import FEATURE_SEARCHES, nearest_by_features
from brcd_lightning.training.distillation_module import TEACHER, DistillationModule
from brcd_lightning.training.evaluator import IN_TRAINING
from brcd_lightning.training.whole_split import collect


class FeatureBaselines(L.Callback):
    """At the end of a test, ranks the database by features of the teacher's and of the student's backbone.

    The evaluation of the module then has ``test/map_<role>_<search>`` for each of `FEATURE_SEARCHES`. These are no
    codes: whole features are the ceiling of a backbone, and product quantisation has as many bytes as a code.

    Args:
        bits: code length, a multiple of 8; quantisers are fitted on the training images.
        k: cut of the ranking.
    """

    def __init__(self, bits: int, k: int) -> None:
        self.bits, self.k = bits, k

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
            (query, query_labels), (database, labels), (train, _) = splits.values()
            for kind in FEATURE_SEARCHES:
                found = nearest_by_features(query, database, train, kind=kind, bits=self.bits, k=self.k)
                lists = ranked_lists(found, query_labels, labels)
                scores = list_average_precision(lists.top(self.k), self.k)
                pl_module.evaluation.scores[f"test/map_{role}_{kind}"] = scores
