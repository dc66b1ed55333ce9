"""Every hashing model under every distillation method, for both paradigms."""

import pytest
import torch

from brcd_lightning.config import build, check
from brcd_lightning.data.extra_views import Extras
from brcd_lightning.errors import InputError
from brcd_lightning.hashing.base import HashNetwork
from brcd_lightning.training.closed_form_fit import ClosedFormFit, require_linear
from brcd_lightning.training.distillation_module import DistillationModule
from brcd_lightning.training.hashing_module import TrainingOptions
from conftest import make_datamodule
from offered import HASHING_MODELS, KD_METHODS, configuration, small
from small_training import centred, make_trainer
from test_configs import composed


@pytest.mark.parametrize("method", KD_METHODS)
@pytest.mark.parametrize("model", HASHING_MODELS)
def test_composes_and_trains(model, method, splits, tmp_path):
    options = ["bits=16", f"hashing_model={model}", f"kd_method={method}"]
    cfg = composed(options)
    for paradigm in ("sshp", "ashp"):
        cfg.paradigm = configuration(f"paradigm={paradigm}").paradigm  # composes once; no other option depends on it
        check(cfg)
        assert cfg.paradigm.monitor == f"val/map_{paradigm}"

    torch.manual_seed(0)
    networks = []
    for role in ("teacher", "student"):
        backbone = build(cfg[role].backbone, widths=[4], grid=2)
        options = small(cfg.hashing_model)
        head = build(options, in_features=backbone.num_features, bits=cfg.bits, head=cfg[role].head)
        head.setup(steps_per_epoch=4)
        networks.append(HashNetwork(backbone, head))
    kd_method = build(small(cfg.kd_method))
    kd_method.setup(len(splits.train), cfg.bits, 4)
    module = DistillationModule(
        networks[1], centred(networks[0]), kd_method, TrainingOptions(1e-3, 20), {}, cfg.anchor_view
    )
    before = [parameter.clone() for parameter in networks[1].hashing_model.head.parameters()]
    model = networks[1].hashing_model
    if kd_method.solves and not isinstance(model.head, torch.nn.Linear):
        with pytest.raises(InputError, match="student.head must be one linear layer"):
            require_linear(model)
        return
    if not kd_method.solves and (kd_method.needs or model.trains):
        trainer = make_trainer(tmp_path, module=module, limit_train_batches=2, limit_val_batches=0)
        extras = Extras(kd_method.rotation_views, kd_method.num_positives)
        trainer.fit(module, datamodule=make_datamodule(splits, extras=extras))
        assert trainer.global_step == 2
    else:
        trainer = make_trainer(tmp_path, module=module, callbacks=[ClosedFormFit()])
        trainer.validate(module, datamodule=make_datamodule(splits), verbose=False)
        assert cfg.paradigm.monitor in trainer.callback_metrics
    after = list(networks[1].hashing_model.head.parameters())
    assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(bool(parameter.isfinite().all()) for parameter in networks[1].parameters())
    assert all(value.isfinite() for value in trainer.callback_metrics.values())
