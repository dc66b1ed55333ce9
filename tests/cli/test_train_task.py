"""The task that Hydra calls; the command itself is in tests/test_train.py."""

import pickle
import sys

import pytest
from omegaconf import OmegaConf

from brcd_lightning.cli import train
from brcd_lightning.cli.train import TrainTask
from brcd_lightning.errors import ExitCode, InputError, RunEnded
from brcd_lightning.experiment import run as run_module
from brcd_lightning.experiment.sweeps.local_launcher import ProcessLauncher


@pytest.fixture
def ending(monkeypatch):
    """A task whose job ends in the given error, without a configuration to check."""

    def task(error):
        def run(cfg):
            raise error

        for check in ("check", "grid_coordinates"):
            monkeypatch.setattr(train, check, lambda cfg: None)
        monkeypatch.setattr("brcd_lightning.cli.libraries.configure_libraries", lambda: None)
        monkeypatch.setattr(run_module, "run", run)
        return TrainTask(sys.argv)

    return task


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("wrong"), ExitCode.USER_ERROR),
        (RunEnded("lost"), ExitCode.CRASH),
        (RunEnded("pruned", ExitCode.PRUNED), ExitCode.OK),
        (ZeroDivisionError(), ExitCode.CRASH),
    ],
)
def test_a_job_that_fails_leaves_its_exit_code_and_lets_the_others_run(ending, error, code):
    task = ending(error)
    assert task(OmegaConf.create()) is None
    assert task.exit_codes == [code]


def test_a_job_that_was_asked_to_end_ends_the_command(ending):
    with pytest.raises(SystemExit) as ended:
        ending(RunEnded("asked to end", ExitCode.PREEMPTED))(OmegaConf.create())
    assert ended.value.code == 143


def test_every_command_has_exit_codes_of_its_own_and_launchers_add_to_them():
    one, other = TrainTask([]), TrainTask([])
    launcher = ProcessLauncher()
    launcher.setup(hydra_context=None, task_function=one, config=OmegaConf.create())
    launcher._exit_codes.append(3)
    assert (one.exit_codes, other.exit_codes) == ([3], [])


def test_the_task_reaches_jobs_of_slurm():
    task = pickle.loads(pickle.dumps(TrainTask(["brcd", "train"])))  # noqa: S301 (as submitit does)
    assert (task.argv, task.exit_codes) == (["brcd", "train"], [])
    assert task.__module__.rpartition(".")[2] == "train"  # Hydra takes the name of the job from it
