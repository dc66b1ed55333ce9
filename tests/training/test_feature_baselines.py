import lightning as L
import pytest
import torch

from brcd_lightning.data.fake import fake
from brcd_lightning.metrics import list_average_precision
from brcd_lightning.search.features import nearest_by_features
from brcd_lightning.training import feature_baselines as module_under_test
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


def test_features_are_searched_once_for_all_code_lengths(tmp_path, monkeypatch):
    splits = fake(images_per_class=100, train_per_class=70)
    searched = []

    def search(*rows, **options):
        searched.append((options["kind"], options["bits"]))
        return nearest_by_features(*rows, **options)

    monkeypatch.setattr(module_under_test, "nearest_by_features", search)
    found = []
    for bits in (16, 8, 16):
        module = distillation()
        baselines = FeatureBaselines(bits, 20, tmp_path / "kept")
        trainer = make_trainer(tmp_path, module=module, callbacks=[baselines])
        trainer.test(module, datamodule=make_datamodule(splits), verbose=False)
        found.append(module.evaluation.scores)
    assert sorted(searched) == sorted(2 * [("features", 16), ("pq", 16), ("opq", 16), ("pq", 8), ("opq", 8)]), (
        "teacher and student"
    )
    assert all(torch.equal(found[0][name], found[2][name]) for name in found[0])


def test_only_a_student_has_two_backbones():
    with pytest.raises(TypeError, match="only a DistillationModule has two backbones"):
        FeatureBaselines(16, 20).on_test_end(L.Trainer(logger=False, barebones=True), L.LightningModule())
