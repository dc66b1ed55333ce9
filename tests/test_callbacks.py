import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from safetensors.torch import load_file

from brcd_lightning.callbacks import CollapseMonitor, StageProgressBar
from brcd_lightning.clusters import bit_masks, kmeans_codes, nearest_centroid
from brcd_lightning.distillation.none import NoDistillation
from conftest import make_datamodule, network_input
from test_modules import distillation, make_trainer


def test_fit_start_clusters_the_clean_training_codes(tmp_path, splits):
    module = distillation()
    data = make_datamodule(splits)
    make_trainer(tmp_path, module=module).fit(module, datamodule=data)
    codes = module.teacher.encode(network_input(splits, splits.train))
    assert torch.equal(module.training_codes, codes)
    centroids, assignments = kmeans_codes(codes, 4, seed=0, restarts=2)
    assert torch.equal(module.kd_method.centroids, centroids)
    assert torch.equal(module.kd_method.masks, bit_masks(codes, assignments, 4, 0.5))
    assert torch.equal(nearest_centroid(codes, module.kd_method.centroids), assignments)
    kept = load_file(tmp_path / "teacher_codes.safetensors")
    assert torch.equal(kept["codes"], codes)
    assert torch.equal(kept["assignments"], assignments)


def test_the_progress_bar_shows_metrics_and_no_version(tmp_path, splits):
    module = distillation(NoDistillation())
    bar = StageProgressBar()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=CSVLogger(tmp_path, name="metrics", version="student"),
        callbacks=[bar],
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=make_datamodule(splits))
    shown = bar.get_metrics(trainer, module)
    assert "v_num" not in shown
    assert {"train/loss", "val/map_sshp"} <= set(shown)


@pytest.mark.parametrize("stop", [False, True])
def test_collapse_is_warned_of_once_and_stops_if_asked(tmp_path, splits, stop):
    module = distillation(NoDistillation())
    with torch.no_grad():
        module.network.hashing_model.head.bias += 100  # every bit is +1
    trainer = make_trainer(tmp_path, epochs=3)
    trainer.callbacks.append(CollapseMonitor(stop=stop))
    with pytest.warns(UserWarning, match=r"codes collapse: mean \|bit mean\| 1\.00 in epoch 0") as found:
        trainer.fit(module, datamodule=make_datamodule(splits))
    assert len([warning for warning in found if "collapse" in str(warning.message)]) == 1
    assert trainer.current_epoch == (1 if stop else 3)


def test_healthy_codes_raise_no_alarm(tmp_path, splits, recwarn):
    module = distillation(NoDistillation())
    trainer = make_trainer(tmp_path, epochs=1)
    trainer.callbacks.append(CollapseMonitor(threshold=0.99, stop=True))
    trainer.fit(module, datamodule=make_datamodule(splits))
    assert not [warning for warning in recwarn if "collapse" in str(warning.message)]


def test_a_second_fit_reclusters_for_another_teacher(tmp_path, splits):
    module = distillation()
    make_trainer(tmp_path, module=module).fit(module, datamodule=make_datamodule(splits))
    before = module.training_codes.clone()
    with torch.no_grad():
        module.teacher.hashing_model.head.weight[:8] *= -1
    make_trainer(tmp_path, module=module).fit(module, datamodule=make_datamodule(splits))
    assert not torch.equal(module.training_codes, before)
    centroids, _ = kmeans_codes(module.training_codes, 4, seed=0, restarts=2)
    assert torch.equal(module.kd_method.centroids, centroids)


def test_methods_that_need_no_codes_cost_nothing(tmp_path, splits):
    module = distillation(NoDistillation())
    make_trainer(tmp_path, module=module).fit(module, datamodule=make_datamodule(splits))
    assert len(module.training_codes) == 0
    assert not (tmp_path / "teacher_codes.safetensors").exists()
