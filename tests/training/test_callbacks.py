import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from safetensors.torch import load_file

from brcd_lightning.codes.clusters import bit_masks, kmeans_codes, nearest_centroid
from brcd_lightning.distillation.none import NoDistillation
from brcd_lightning.errors import ExitCode, InputError, RunEnded
from brcd_lightning.experiment.sweeps.study import report
from brcd_lightning.training.callbacks import CollapseMonitor, StageProgressBar, TrialReport
from conftest import make_datamodule, network_input
from experiment.sweeps.test_study import finish, study_in
from training.test_hashing_module import distillation, make_trainer


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


@pytest.mark.parametrize("others", [0.0, 1.0])
def test_a_trial_reports_every_validation_and_ends_when_it_is_pruned(tmp_path, splits, others):
    study = study_in(tmp_path, startup_trials=1)
    number, _ = study.ask()
    for epoch in (1, 2, 3):
        report(tmp_path, number, others, epoch)
    finish(tmp_path, number, others)
    study.settle()
    number, _ = study.ask()
    run_dir = tmp_path / str(number)
    module = distillation(NoDistillation())
    trainer = make_trainer(tmp_path, epochs=3, callbacks=[TrialReport(run_dir, number, "val/map_sshp")])
    if others:
        with pytest.raises(RunEnded, match="pruned after epoch 2: its best val/map_sshp is below the median") as ended:
            trainer.fit(module, datamodule=make_datamodule(splits))
        assert ended.value.exit_code == ExitCode.PRUNED == 0
    else:
        trainer.fit(module, datamodule=make_datamodule(splits))
    assert (run_dir / "PRUNED").exists() == bool(others)
    (trial,) = study._study.get_trials()[number:]
    assert list(trial.intermediate_values) == ([1, 2] if others else [1, 2, 3])
    assert trial.intermediate_values[trial.last_step] == trainer.callback_metrics["val/map_sshp"].item()


def test_a_trial_without_its_search_ends(tmp_path, splits):
    trainer = make_trainer(tmp_path, callbacks=[TrialReport(tmp_path / "3", 3, "val/map_sshp")])
    with pytest.raises(InputError, match="trial=3 is for hydra/sweeper=search to set"):
        trainer.fit(distillation(NoDistillation()), datamodule=make_datamodule(splits))
