"""The SLURM launcher; its drill runs where SLURM and the plugin are installed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from omegaconf import OmegaConf

from brcd_lightning.errors import InputError
from brcd_lightning.experiment.sweeps.slurm_launcher import SlurmLauncher, _Task
from conftest import TINY, run_command

PLUGIN = "hydra_plugins.hydra_submitit_launcher"


@pytest.fixture
def handlers():
    """Puts the handlers of signals back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_without_the_plugin_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, PLUGIN, None)
    with pytest.raises(InputError, match="hydra/launcher=slurm needs a plugin: pip install hydra-submitit-launcher"):
        SlurmLauncher(tasks_per_node=1)
    (tmp_path / "hydra_plugins" / "hydra_submitit_launcher").mkdir(parents=True)
    (tmp_path / "hydra_plugins" / "hydra_submitit_launcher" / "__init__.py").write_text("raise ImportError")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = ["-m", "hydra/launcher=slurm", "seed=0,1"]
    done = run_command(*command, cwd=tmp_path, env={"PYTHONPATH": path}, imported=False)
    assert done.returncode == 2
    assert done.stderr.endswith("error: hydra/launcher=slurm needs a plugin: pip install hydra-submitit-launcher.\n")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "overrides", "gpus", "requeues"),
    [
        ({}, {"resume": "auto"}, 2, 100),
        ({}, {"resume": "never"}, 2, 0),  # it would begin anew
        ({}, {"trainer": {"accelerator": "cpu"}}, None, 100),
        ({"gpus_per_node": 0}, {}, None, 100),
        ({"gpus_per_node": 4, "max_num_timeout": 3}, {}, 4, 3),
    ],
)
def test_what_is_asked_of_slurm(tmp_path, options, overrides, gpus, requeues):
    pytest.importorskip(PLUGIN)
    launcher = SlurmLauncher(tasks_per_node=2, timeout_min=5, **options)
    config = {"resume": "auto", "dry_run": False, "trainer": {"accelerator": "gpu"}} | overrides
    config |= {"hydra": {"sweep": {"dir": str(tmp_path)}}}
    launcher.setup(hydra_context=None, task_function=None, config=OmegaConf.create(config))
    asked = {key: launcher._plugin.params[key] for key in ("tasks_per_node", "timeout_min", "gpus_per_node")}
    assert asked == {"tasks_per_node": 2, "timeout_min": 5, "gpus_per_node": gpus}
    assert launcher._plugin.params["max_num_timeout"] == requeues


def test_devices_must_be_a_number():
    pytest.importorskip(PLUGIN)
    with pytest.raises(InputError, match=r"tasks_per_node \(trainer.devices\) must be a positive integer, got 'auto'"):
        SlurmLauncher(tasks_per_node="auto")


def test_a_job_out_of_time_ends_before_it_is_queued_again(handlers):
    order = []

    def requeue(*_):
        order.append("queued again")
        sys.exit(-1)

    def run(cfg):
        signal.signal(signal.SIGTERM, lambda *_: order.append("SIGTERM"))
        signal.raise_signal(signal.SIGUSR2)
        order.append("checkpoint")
        sys.exit(143)

    signal.signal(signal.SIGUSR2, requeue)
    with pytest.raises(SystemExit) as ended:
        _Task(run)(None)
    assert ended.value.code == -1
    assert order == ["SIGTERM", "checkpoint", "queued again"]


def test_a_job_that_is_told_before_it_has_begun_is_queued_again(handlers):
    signal.signal(signal.SIGUSR2, lambda *_: sys.exit(-1))
    with pytest.raises(SystemExit) as ended:
        _Task(lambda cfg: signal.raise_signal(signal.SIGUSR2))(None)
    assert ended.value.code == -1


@pytest.mark.parametrize(("code", "raised"), [(143, 143), (1, None)])
def test_a_job_that_ends_for_another_reason_is_not(handlers, code, raised):
    signal.signal(signal.SIGUSR2, lambda *_: pytest.fail("queued again"))
    if raised is None:
        assert _Task(lambda cfg: sys.exit(code))(None) is None
    else:
        with pytest.raises(SystemExit) as ended:
            _Task(lambda cfg: sys.exit(code))(None)
        assert ended.value.code == raised


def slurm(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("sbatch") is None, reason="SLURM is not installed")
def test_a_job_out_of_time_continues_in_its_folder(tmp_path):
    pytest.importorskip(PLUGIN)
    small = [option for option in TINY if option != "trainer=debug"]
    options = ["-m", *small, "trainer=cpu", "trainer.enable_progress_bar=false", "data.num_workers=1", "resume=auto"]
    options += ["teacher.max_epochs=1", "teacher.seed=0", "student.max_epochs=40", "student.patience=40"]
    options += ["student.check_val_every=2"]
    launch = ["hydra/launcher=slurm", "hydra.launcher.name=drill", "hydra.launcher.timeout_min=10"]
    command = [sys.executable, "-m", "brcd_lightning.train", *options, *launch, "hydra.sweep.dir=sweep", "seed=0,1"]
    with (tmp_path / "text").open("w") as text:
        sweep = subprocess.Popen(command, cwd=tmp_path, stdout=text, stderr=text)
    while not (tmp_path / "sweep" / "0" / "checkpoints" / "student" / "best.ckpt").exists():
        assert sweep.poll() is None, (tmp_path / "text").read_text()
        time.sleep(0.2)
    (job,) = {line.partition("_")[0] for line in slurm("squeue", "-hr", "--name=drill", "-o", "%i").split()}
    slurm("scancel", "--signal=USR2", f"{job}_0")
    while "Restarts=1" not in slurm("scontrol", "show", "job", f"{job}_0"):
        assert sweep.poll() is None, (tmp_path / "text").read_text()
        time.sleep(0.5)
    assert (tmp_path / "sweep" / "0" / "checkpoints" / "student" / "resume.ckpt").exists()
    slurm("scontrol", "update", f"JobId={job}_0", "StartTime=now")  # SLURM itself waits for two minutes
    assert sweep.wait(timeout=300) == 0, (tmp_path / "text").read_text()
    assert "2 of 2 jobs have results" in (tmp_path / "text").read_text()
    assert sorted(path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir()) == [".submitit", "0", "1"]
    assert len(list((tmp_path / "sweep" / "0").glob("metrics/student/metrics*.csv"))) == 2
    done = run_command(*options[1:], "seed=0", "hydra.run.dir=alone", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    one, other = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("sweep/0", "alone"))
    assert one["metrics"] == other["metrics"]
    assert one["epochs"] == other["epochs"]
