import pytest

from brcd_lightning.distillation.none import NoDistillation
from brcd_lightning.errors import ExitCode, InputError, RunEnded
from brcd_lightning.experiment.sweeps.pruning import TrialReport
from brcd_lightning.experiment.sweeps.study import report
from conftest import make_datamodule
from experiment.sweeps.test_study import finish, study_in
from small_training import distillation, make_trainer


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
    with pytest.raises(InputError, match="trial=3 is for hydra/sweeper=optuna to set"):
        trainer.fit(distillation(NoDistillation()), datamodule=make_datamodule(splits))
