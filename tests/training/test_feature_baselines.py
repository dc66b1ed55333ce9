import lightning as L
import pytest
import torch

from brcd_lightning.data.fake import fake
from brcd_lightning.metrics import list_average_precision
from brcd_lightning.search.features import nearest_by_features
from brcd_lightning.training.feature_baselines import FeatureBaselines
from conftest import make_datamodule, network_input
from small_training import distillation, make_trainer


def test_both_backbones_are_measured_beside_their_codes(tmp_path):
    splits = fake(images_per_class=100, train_per_class=70)
    module = distillation()
    trainer = make_trainer(tmp_path, module=module, callbacks=[FeatureBaselines(16, 20)])
    trainer.test(module, datamodule=make_datamodule(splits), verbose=False)
    names = {f"test/map_{role}_{kind}" for role in ("teacher", "student") for kind in ("features", "pq", "opq")}
    scores = module.evaluation.scores
    assert names <= scores.keys()
    with torch.no_grad():
        query, database, train = (
            module.network.backbone(network_input(splits, splits.positions(role)))
            for role in ("query", "database", "train")
        )
    for kind in ("features", "pq"):
        found = nearest_by_features(query, database, train, kind=kind, bits=16, k=20)
        relevance = splits.labels("database")[found] == splits.labels("query")[:, None]
        expected = list_average_precision(relevance, 20)
        assert scores[f"test/map_student_{kind}"].mean() == pytest.approx(expected.mean().item(), abs=0.01)


def test_only_a_student_has_two_backbones():
    with pytest.raises(TypeError, match="only a DistillationModule has two backbones"):
        FeatureBaselines(16, 20).on_test_end(L.Trainer(logger=False, barebones=True), L.LightningModule())
