import lightning as L
import pytest
import torch

from absent_device import ABSENT
from both_devices import TOLERANCE, difference, training
from brcd_lightning.data.extra_views import Extras
from brcd_lightning.distillation.base import KDInput, KDMethod, KDOutput
from brcd_lightning.distillation.cosine import Cosine
from brcd_lightning.distillation.none import NoDistillation
from brcd_lightning.hashing.tbh import TBH
from brcd_lightning.metrics import average_precision, mean_average_precision
from conftest import make_datamodule, network_input
from small_cases import CASES
from small_training import distillation, make_trainer, state_of


@pytest.mark.parametrize("anchor_view", ["clean", "aug"])
def test_distillation_trains_the_student_and_nothing_of_the_teacher(tmp_path, splits, anchor_view):
    module = distillation(anchor_view=anchor_view)
    student, teacher = state_of(module.network), state_of(module.teacher)
    trainer = make_trainer(tmp_path, epochs=2, module=module)
    trainer.fit(module, datamodule=make_datamodule(splits, anchor_view=anchor_view))
    assert not any(m.training for m in module.teacher.modules())
    assert all(torch.equal(teacher[name], tensor) for name, tensor in module.teacher.state_dict().items())
    assert any(not torch.equal(student[name], tensor) for name, tensor in module.network.state_dict().items())
    assert {"train/kd_brcd", "train/kd_agreement", "val/map_sshp", "val/map_ashp"} <= set(trainer.callback_metrics)


def test_the_teacher_stays_in_eval_and_out_of_the_checkpoint(tmp_path):
    module = distillation()
    module.train()
    assert not any(m.training for m in module.teacher.modules())
    assert all(not p.requires_grad for p in module.teacher.parameters())
    assert not [key for key in module.state_dict() if not key.startswith("network.")]
    trained = {id(p) for group in module.configure_optimizers().param_groups for p in group["params"]}
    assert not trained & {id(p) for p in module.teacher.parameters()}


def test_the_teacher_moves_along():
    module = distillation().double()
    assert next(module.teacher.parameters()).dtype == torch.float64


def test_parameters_of_a_method_train_with_the_student(tmp_path, splits):
    class Scaled(KDMethod):
        needs = frozenset({"teacher"})

        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(16, 1)
            self.register_buffer("bank", torch.zeros(3))

        def forward(self, batch: KDInput) -> KDOutput:
            assert batch.teacher_view is None
            assert not batch.teacher.requires_grad
            return KDOutput({"scaled": self.head(batch.student * batch.teacher).square().mean()}, {})

    module = distillation(Scaled())
    before = module.kd_method.head.weight.clone()
    make_trainer(tmp_path, module=module).fit(module, datamodule=make_datamodule(splits))
    assert not torch.equal(module.kd_method.head.weight, before)
    assert "kd_method.bank" in module.state_dict()


def test_without_distillation_the_teacher_is_not_asked_in_training(tmp_path, splits, monkeypatch):
    module = distillation(NoDistillation())
    calls = []
    encode = module.teacher.encode
    monkeypatch.setattr(module.teacher, "encode", lambda images: calls.append(len(images)) or encode(images))
    trainer = make_trainer(tmp_path, epochs=3, module=module)
    trainer.fit(module, datamodule=make_datamodule(splits))
    # Only the database of the validation, and once: the teacher never changes.
    assert sum(calls) == len(splits.val_database)


def test_test_metrics_are_computed_over_whole_splits(tmp_path, splits):
    module = distillation()
    metrics = make_trainer(tmp_path, module=module).test(module, datamodule=make_datamodule(splits), verbose=False)[0]
    images = {role: network_input(splits, splits.positions(role)) for role in ("query", "database")}
    student, teacher = module.network, module.teacher
    for name, query, database in (
        ("sshp", student, student),
        ("ashp", student, teacher),
        ("teacher", teacher, teacher),
    ):
        expected = mean_average_precision(
            query.encode(images["query"]),
            database.encode(images["database"]),
            splits.labels("query"),
            splits.labels("database"),
            20,
        )
        assert metrics[f"test/map_{name}"] == pytest.approx(expected.item(), abs=1e-9)
        assert metrics[f"test/map_{name}"] == pytest.approx(
            module.evaluation.scores[f"test/map_{name}"].mean().item(), abs=1e-9
        )
        scores = query.encode_soft(images["query"])[1].double() @ database.encode(images["database"]).double().T
        relevance = splits.labels("query")[:, None] == splits.labels("database")
        by_score = average_precision(-scores, relevance, 20).mean()
        assert metrics[f"test/map_{name}_float"] == pytest.approx(by_score.item(), abs=1e-9)
        # 200 candidates are the whole database here.
        assert metrics[f"test/map_{name}_rescored"] == pytest.approx(by_score.item(), abs=1e-9)


def test_validation_computes_no_metric_of_float_queries(tmp_path, splits):
    module = distillation()
    metrics = make_trainer(tmp_path, module=module).validate(module, make_datamodule(splits), verbose=False)[0]
    assert set(metrics) == {"val/map_sshp", "val/map_ashp"}


def test_resume_equals_the_uninterrupted_run(tmp_path, splits):
    def train(epochs, checkpoint=None):
        L.seed_everything(0, verbose=False)
        module = distillation()
        trainer = make_trainer(tmp_path, epochs=epochs, module=module)
        trainer.fit(module, datamodule=make_datamodule(splits), ckpt_path=checkpoint, weights_only=True)
        return trainer, module

    _, straight = train(4)
    trainer, _ = train(2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    _, resumed = train(4, str(tmp_path / "half.ckpt"))
    for name, tensor in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def terms_of(module, splits, seen):
    """Loss terms of a step whose batch has views or none."""
    torch.manual_seed(0)
    data = make_datamodule(splits, extras=Extras(views=seen))
    return module.loss_terms(next(iter(data.train_dataloader())))


def test_the_weight_of_the_hashing_loss_is_a_factor(splits):
    one, half = (terms_of(distillation(Cosine(), hashing_weight=weight), splits, True) for weight in (1.0, 0.5))
    assert one.keys() == half.keys() == {"hash_contrastive", "hash_bottleneck", "kd_cosine"}
    for name, term in one.items():
        assert half[name].item() == pytest.approx(term.item() * (1 if name.startswith("kd") else 0.5))


def test_without_a_hashing_loss_neither_views_nor_its_parameters_are_needed(splits):
    module = distillation(Cosine(), hashing_weight=0.0, model=TBH)
    terms = terms_of(module, splits, False)
    assert terms.keys() == {"kd_cosine"}
    model = module.network.hashing_model
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if name.startswith("head.")}
    assert len(trained) < len(list(model.named_parameters()))
    terms["kd_cosine"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    same = distillation(Cosine(), hashing_weight=1.0, model=TBH)
    assert terms_of(same, splits, True)["kd_cosine"].item() == pytest.approx(terms["kd_cosine"].item())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "device"),
    [
        *(pytest.param(case, ABSENT.type, id=f"absent-{'-'.join(case)}") for case in CASES[::5]),  # it is a slow device
        *(pytest.param(case, "cuda", id=f"cuda-{'-'.join(case)}", marks=pytest.mark.cuda) for case in CASES),
    ],
)
def test_a_gpu_trains_as_the_cpu(case, device, splits):
    expected = training(case, splits, "cpu")
    assert difference(training(case, splits, device), expected) <= (TOLERANCE if device == "cuda" else 0)
