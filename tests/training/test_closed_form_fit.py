import lightning as L
import pytest
import torch
from safetensors.torch import load_file

from brcd_lightning.distillation.lsq import LSQ
from brcd_lightning.errors import InputError
from brcd_lightning.hashing.cibhash import CIBHash
from brcd_lightning.hashing.itq import ITQ
from brcd_lightning.hashing.lsh import LSH
from brcd_lightning.hashing.sh import SH
from brcd_lightning.training.closed_form_fit import ClosedFormFit, require_linear
from brcd_lightning.training.hashing_module import HashingModule, TrainingOptions
from conftest import make_datamodule, make_network, network_input
from small_training import distillation, make_trainer, state_of


def fitted(tmp_path, splits, model, seed=0):
    module = HashingModule(make_network(freeze="full", model=model), TrainingOptions(1e-3, 20), {})
    trainer = make_trainer(tmp_path, module=module, callbacks=[ClosedFormFit(seed)])
    metrics = trainer.validate(module, datamodule=make_datamodule(splits), verbose=False)
    return module, metrics[0]


@pytest.mark.parametrize("model", [ITQ, SH])
def test_the_head_is_that_of_the_training_images(tmp_path, splits, model):
    module, metrics = fitted(tmp_path, splits, model, seed=3)
    expected = make_network(freeze="full", model=model)
    expected.hashing_model.fit(expected.backbone(network_input(splits, splits.train)), seed=3)
    queries = network_input(splits, splits.positions("val_query"))
    logits = [network.hashing_model.head(network.backbone(queries)) for network in (module.network, expected)]
    assert torch.allclose(*logits, atol=1e-3)
    assert 0 < metrics["val/map"] <= 1
    backbone = make_network(freeze="full").backbone.state_dict()
    assert all(torch.equal(value, backbone[key]) for key, value in module.network.backbone.state_dict().items())


def test_it_repeats_bit_for_bit_and_has_its_seed(tmp_path, splits):
    states = [state_of(fitted(tmp_path, splits, LSH, seed)[0].network) for seed in (0, 0, 1)]
    key = "hashing_model.head.weight"
    assert torch.equal(states[0][key], states[1][key])
    assert not torch.equal(states[0][key], states[2][key])


def test_a_fitted_head_can_train_afterwards(tmp_path, splits):
    module, _ = fitted(tmp_path, splits, ITQ)
    assert all(parameter.requires_grad for parameter in module.network.hashing_model.head.parameters())
    module.network(list(network_input(splits, splits.train[:4])[None]))[0].code.sum().backward()
    assert module.network.hashing_model.head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("train_on", ["train", "val_database"])
def test_a_method_solves_for_the_student_on_the_images_it_trains_on(tmp_path, splits, train_on):
    if train_on == "val_database":
        splits = splits.trained_on_database()
    method = LSQ(lambda_=0.01)
    module = distillation(method, freeze="full")
    trainer = make_trainer(tmp_path, module=module, callbacks=[ClosedFormFit()])
    trainer.validate(module, datamodule=make_datamodule(splits), verbose=False)
    images = network_input(splits, splits.positions(train_on))
    with torch.no_grad():
        features = module.network.backbone(images)
        found = method.solve(features, module.teacher.hashing_model.head(module.teacher.backbone(images)))
        logits = module.network.hashing_model.head(features)
    assert torch.allclose(logits.double(), features.double() @ found.weight + found.bias, atol=1e-3)
    codes = module.teacher.encode(network_input(splits, splits.train))
    assert torch.equal(load_file(tmp_path / "teacher_codes.safetensors")["codes"], codes)
    assert (torch.where(logits >= 0, 1, -1) == module.teacher.encode(images)).float().mean() > 0.6


def test_a_student_equal_to_the_teacher_gets_its_codes(tmp_path, splits):
    module = distillation(LSQ(target="logits", lambda_=1e-8), widths=(8,), freeze="full")
    module.network.backbone.load_state_dict(module.teacher.backbone.state_dict())
    trainer = make_trainer(tmp_path, module=module, callbacks=[ClosedFormFit()])
    trainer.validate(module, datamodule=make_datamodule(splits), verbose=False)
    images = network_input(splits, splits.positions("database"))
    assert (module.network.encode(images) == module.teacher.encode(images)).float().mean() > 0.995


def test_a_head_with_more_than_one_layer_is_not_solved_for():
    with pytest.raises(InputError, match="student.head must be one linear layer .* got Sequential of CIBHash"):
        require_linear(CIBHash(8, 16, head="mlp"))
    with pytest.raises(InputError, match="got Sequential of SH"):
        require_linear(SH(8, 16))


def test_what_trains_or_is_no_hash_network_has_no_fit(tmp_path, splits):
    with pytest.raises(TypeError, match="CIBHash trains"):
        fitted(tmp_path, splits, CIBHash)
    with pytest.raises(TypeError, match="only a HashingModule"):
        ClosedFormFit().on_validation_start(L.Trainer(logger=False, barebones=True), L.LightningModule())
