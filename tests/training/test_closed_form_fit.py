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
from brcd_lightning.training.closed_form_fit import ClosedFormFit, WarmStart, require_linear
from brcd_lightning.training.hashing_module import HashingModule, TrainingOptions
from brcd_lightning.training.whole_split import collect_views
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


def solved(module, splits, method):
    """The head that a method gives for clean training images, by hand."""
    images = network_input(splits, splits.train)
    with torch.no_grad():
        features = module.network.backbone(images)
        return features, method.solve(features, module.teacher.hashing_model.head(module.teacher.backbone(images)))


class Stop(L.Callback):
    """Ends a training at its first step, and keeps the weights that it began with."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.state = state_of(pl_module.network)
        trainer.should_stop = True
        return -1


def test_a_training_starts_from_the_solution(tmp_path, splits):
    module, method, stop = distillation(freeze="full"), LSQ(lambda_=0.01), Stop()
    features, found = solved(module, splits, method)
    trainer = make_trainer(tmp_path, module=module, callbacks=[WarmStart(method, scale=3.0), stop])
    trainer.fit(module, datamodule=make_datamodule(splits))
    weight, bias = (stop.state[f"hashing_model.head.{name}"] for name in ("weight", "bias"))
    assert torch.allclose(
        features @ weight.T + bias, (3 * (features.double() @ found.weight + found.bias)).float(), atol=1e-3
    )


def test_a_continued_training_keeps_its_weights(tmp_path, splits):
    module, method = distillation(freeze="full"), LSQ(lambda_=0.01)
    data = make_datamodule(splits)
    trainer = make_trainer(tmp_path, module=module, callbacks=[WarmStart(method)])
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "point.ckpt", weights_only=False)
    trained = state_of(module.network)
    again, stop = distillation(freeze="full"), Stop()
    trainer = make_trainer(tmp_path, epochs=2, module=again, callbacks=[WarmStart(method), stop])
    trainer.fit(again, datamodule=data, ckpt_path=tmp_path / "point.ckpt", weights_only=False)
    assert all(torch.equal(value, trained[name]) for name, value in stop.state.items())


def test_only_a_student_has_a_warm_start(splits):
    with pytest.raises(TypeError, match="only a DistillationModule has a teacher"):
        WarmStart(LSQ()).on_fit_start(L.Trainer(logger=False, barebones=True), L.LightningModule())


@pytest.mark.parametrize("count", [1, 2, 3])
def test_views_join_with_their_own_images(tmp_path, splits, count):
    """Each view is another one, and all of them belong to the images that their positions name."""
    module = distillation(freeze="full")
    seen = []

    class Collects(L.Callback):
        def on_fit_start(self, trainer, pl_module):
            seen.append(collect_views(trainer, pl_module, lambda images: images.flatten(1), count))

    trainer = make_trainer(tmp_path, module=module, callbacks=[Collects()])
    data = make_datamodule(splits)
    trainer.fit(module, datamodule=data)
    values, positions = seen[0]
    whole = len(splits.train) // data.batch_size * data.batch_size
    assert len(values) == len(positions) == count * whole
    assert len(values.unique(dim=0)) == len(values)
    clean = network_input(splits, splits.train).flatten(1)
    own = (values - clean[positions]).square().mean()
    assert own < (values - clean[positions.roll(1)]).square().mean()


def test_a_method_with_views_solves_for_more_rows(tmp_path, splits):
    class Counting(LSQ):
        def solve(self, features, logits):
            self.rows = len(features), len(logits)
            self.logits = logits
            return super().solve(features, logits)

    method, data = Counting(lambda_=0.01, views=2), make_datamodule(splits)
    module = distillation(method, freeze="full")
    make_trainer(tmp_path, module=module, callbacks=[ClosedFormFit()]).validate(module, datamodule=data, verbose=False)
    n, whole = len(splits.train), len(splits.train) // data.batch_size * data.batch_size
    assert method.rows == (n + 2 * whole,) * 2
    clean = {tuple(row) for row in method.logits[:n].tolist()}
    assert all(tuple(row) in clean for row in method.logits[n:].tolist())  # of the image, not of the view
