from dataclasses import replace

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from brcd_lightning.hashing.itq import ITQ
from brcd_lightning.training import neighbour_relevance as module_under_test
from brcd_lightning.training.closed_form_fit import ClosedFormFit
from brcd_lightning.training.feature_baselines import FeatureBaselines
from brcd_lightning.training.hashing_module import HashingModule, TrainingOptions
from brcd_lightning.training.neighbour_relevance import NeighbourRelevance
from conftest import make_datamodule, make_network, network_input
from small_training import distillation, make_trainer

K = 6


@pytest.fixture
def unlabelled(splits):
    """The same images, each by itself."""
    source = type(splits.source)(splits.source.pixels, splits.source.ids, torch.arange(len(splits.source)))
    return replace(splits, source=source, neighbours=K)


def slow_neighbours(backbone, splits, roles):
    """Positions in the source of the K most similar database images of each query, by a loop over all pairs."""
    with torch.no_grad():
        queries, database = (backbone(network_input(splits, splits.positions(role))) for role in roles)
    found = []
    for query in queries.double():
        similarity = [float(query @ item / query.norm() / item.norm()) for item in database.double()]
        best = sorted(range(len(database)), key=lambda place: -similarity[place])[:K]
        found.append({int(splits.positions(roles[1])[place]) for place in best})
    return found


def sets(lists):
    return [set(row) for row in lists.tolist()]


def test_the_neighbours_of_the_teachers_backbone_are_relevant(tmp_path, unlabelled):
    module = distillation()
    trainer = make_trainer(tmp_path, module=module, callbacks=[NeighbourRelevance(K)])
    data = make_datamodule(unlabelled)
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)
    relevant = module.evaluator.relevant
    assert sets(relevant["val"]) == slow_neighbours(module.teacher.backbone, unlabelled, ("val_query", "val_database"))
    assert sets(relevant["test"]) == slow_neighbours(module.teacher.backbone, unlabelled, ("query", "database"))
    scores, codes = module.evaluation
    assert torch.equal(codes["student_query"][1], relevant["test"])
    assert torch.equal(codes["student_database"][1], unlabelled.labels("database"))
    assert {"test/map_sshp", "test/recall_sshp", "test/recall_ashp", "test/recall_teacher"} <= scores.keys()
    assert 0 < scores["test/map_teacher"].mean() < 1


def test_a_teacher_in_training_is_judged_by_the_backbone_it_began_with(tmp_path, unlabelled):
    module = HashingModule(make_network(widths=(8,)), TrainingOptions(0.1, 20), {"bits": 16})
    before = slow_neighbours(module.network.backbone.eval(), unlabelled, ("val_query", "val_database"))
    module.train()
    judge = NeighbourRelevance(K)
    best = ModelCheckpoint(tmp_path, "best", monitor="val/map", mode="max")
    trainer = make_trainer(tmp_path, 3, module, [judge, best], enable_checkpointing=True)
    trainer.fit(module, datamodule=make_datamodule(unlabelled))
    assert sets(module.evaluator.relevant["val"]) == before
    assert 0 < best.best_model_score < 1
    assert module.network.backbone.training
    # Continued: the lists of the checkpoint, whatever the backbone is by then.
    again = NeighbourRelevance(K)
    trainer = make_trainer(tmp_path, 4, module, [again, best], enable_checkpointing=True)
    trainer.fit(module, datamodule=make_datamodule(unlabelled), ckpt_path=best.best_model_path)
    assert torch.equal(again.state_dict()["val"], judge.state_dict()["val"])


def test_a_validation_without_a_fit_is_judged_too(tmp_path, unlabelled):
    module = HashingModule(make_network(freeze="full", model=ITQ), TrainingOptions(1e-3, 20), {})
    trainer = make_trainer(tmp_path, module=module, callbacks=[NeighbourRelevance(K), ClosedFormFit()])
    metrics = trainer.validate(module, datamodule=make_datamodule(unlabelled), verbose=False)
    assert 0 < metrics[0]["val/map"] < 1


def test_neighbours_are_searched_once_for_each_stage(tmp_path, unlabelled, monkeypatch):
    searched = []
    search = module_under_test.nearest_by_features
    monkeypatch.setattr(
        module_under_test, "nearest_by_features", lambda *rows, **k: searched.append(1) or search(*rows, **k)
    )
    module = distillation()
    trainer = make_trainer(tmp_path, 3, module, [NeighbourRelevance(K)])
    data = make_datamodule(unlabelled)
    trainer.fit(module, datamodule=data)
    assert len(searched) == 1
    for _ in range(2):
        trainer.test(module, datamodule=data, verbose=False)
    assert len(searched) == 2


def test_float_search_by_the_teachers_backbone_is_the_ceiling(tmp_path, unlabelled, monkeypatch):
    """By itself it finds exactly what is relevant; the student's features do not."""
    monkeypatch.setattr("brcd_lightning.training.feature_baselines.FEATURE_SEARCHES", ("features",))
    module = distillation()
    callbacks = [NeighbourRelevance(K), FeatureBaselines(16, K)]
    trainer = make_trainer(tmp_path, module=module, callbacks=callbacks)
    trainer.test(module, datamodule=make_datamodule(unlabelled), verbose=False)
    scores = module.evaluation.scores
    assert (scores["test/map_teacher_features"] == 1).all()
    assert scores["test/map_student_features"].mean() < 1


def test_only_what_is_evaluated_by_retrieval_can_be_judged():
    with pytest.raises(TypeError, match="only a HashingModule is evaluated by retrieval"):
        NeighbourRelevance(K).on_test_start(L.Trainer(logger=False, barebones=True), L.LightningModule())
