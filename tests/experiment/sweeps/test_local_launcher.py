import json
import signal
import time

import psutil
import pytest

from brcd_lightning.errors import InputError
from brcd_lightning.experiment.sweeps.local_launcher import ProcessLauncher
from brcd_lightning.results.run_files import SWEEP_STATUS
from conftest import TINY, StartedCommand, run_command
from experiment.test_stages import ENVIRONMENT, TWO

LOCAL = ["-m", "hydra/launcher=local", "hydra.sweep.dir=sweep"]


def states(folder):
    return {job["job"]: job for job in json.loads((folder / "sweep" / SWEEP_STATUS).read_text())}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jobs": 0}, "hydra.launcher.jobs must be a positive integer or null, got 0"),
        ({"timeout_s": -1}, "hydra.launcher.timeout_s must be a positive number or null, got -1"),
        ({"gpus": [0, 1], "gpus_per_job": 4}, r"hydra.launcher.gpus=\[0, 1\] are too few for gpus_per_job=4"),
        ({"gpus": [0, 1], "jobs": 3}, "hydra.launcher.jobs must be at most 2 with these GPUs, got 3"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        ProcessLauncher(**options)


def test_gpus_are_shared_out():
    launcher = ProcessLauncher(gpus=[4, 5, 6, 7, 8], gpus_per_job=2)
    assert launcher.jobs == 2
    slots = [launcher._slots.get() for _ in range(2)]
    assert [launcher._environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["4,5", "6,7"]


def test_a_job_inherits_nothing_of_a_data_parallel_run(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("KEPT", "yes")
    environment = ProcessLauncher()._environment(None)
    assert "LOCAL_RANK" not in environment
    assert environment["KEPT"] == "yes"


@pytest.mark.slow
def test_a_job_that_fails_is_listed_and_stops_no_other(tmp_path):
    options = [*LOCAL, *TINY, "hydra.launcher.jobs=2", "kd_method.alpha=2,0.5,0.9"]
    done = run_command(*options, cwd=tmp_path)
    assert done.returncode == 2
    assert [job["state"] for job in states(tmp_path).values()] == ["failed", "finished", "finished"]
    assert "kd_method.alpha must be in [0, 1], got 2" in (tmp_path / "sweep" / "0" / "console.log").read_text()
    assert "2 of 3 jobs have results" in done.stdout
    assert "#0 failed with exit code 2, see " in done.stdout
    assert len(list((tmp_path / "outputs" / "teachers").iterdir())) == 1
    # Again: what has finished is not run again, and what failed is.
    before = (tmp_path / "sweep" / "1" / "results.json").stat().st_mtime_ns
    done = run_command(*[option.replace("=2,", "=0.2,") for option in options], "resume=auto", cwd=tmp_path)
    assert (tmp_path / "sweep" / "1" / "results.json").stat().st_mtime_ns == before
    assert done.returncode == 0, done.stdout
    assert "3 of 3 jobs have results" in done.stdout


@pytest.mark.slow
def test_jobs_of_two_processes_each_finish_one_after_the_other(tmp_path):
    small = [option for option in TINY if option != "trainer=debug"]
    epochs = ["teacher.max_epochs=1", "student.max_epochs=1"]
    done = run_command(*LOCAL, *small, *TWO, *epochs, "seed=0,1", cwd=tmp_path, env=ENVIRONMENT)
    assert done.returncode == 0, done.stdout
    assert "2 of 2 jobs have results" in done.stdout
    assert [job["state"] for job in states(tmp_path).values()] == ["finished"] * 2
    assert sorted(path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir()) == ["0", "1"]


@pytest.mark.slow
def test_a_job_that_takes_too_long_is_ended(tmp_path):
    endless = ["trainer.max_epochs=1000000", "student.patience=1000000", "trainer.limit_train_batches=1.0"]
    (tmp_path / "sweep" / "0").mkdir(parents=True)
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / "sweep" / "0" / "console.log").symlink_to(tmp_path / "elsewhere")
    done = run_command(*LOCAL, *TINY, *endless, "hydra.launcher.timeout_s=5", "seed=0", cwd=tmp_path)
    assert (tmp_path / "elsewhere").read_text() == "kept"
    assert done.returncode == 124
    assert "#0 ended after 5 s" in done.stdout
    _await_end(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_sweep_that_ends_takes_its_jobs_along(tmp_path, ending, code):
    process = StartedCommand(*LOCAL, *TINY, "hydra.launcher.jobs=2", "seed=0,1", cwd=tmp_path)
    process.wait_for((tmp_path / "sweep" / "1" / "console.log").exists)
    assert _running(tmp_path)
    process.send(ending)
    assert process.wait(timeout=60) == code
    _await_end(tmp_path)


def _await_end(folder):
    """Waits for the end of all processes that work in a folder."""
    deadline = time.monotonic() + 60
    while running := _running(folder):
        assert time.monotonic() < deadline, running
        time.sleep(0.1)


def _running(folder):
    """Processes that work in a folder: a sweep's jobs do in that of the sweep."""
    return [process.pid for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(folder)]


@pytest.mark.slow
def test_eight_jobs_at_once_share_a_teacher_and_a_store(tmp_path):
    frozen = ["teacher.backbone.freeze=full", "student.backbone.freeze=full", "logger=wandb_offline"]
    options = [*LOCAL, *TINY, *frozen, "hydra.launcher.jobs=8", "kd_method.alpha=0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8"]
    done = run_command(*options, "teacher.seed=0", cwd=tmp_path, timeout=500)
    assert done.returncode == 0, done.stdout
    assert "8 of 8 jobs have results" in done.stdout
    assert len(list((tmp_path / "outputs" / "teachers").iterdir())) == 1
    trained = list((tmp_path / "sweep").glob("*/checkpoints/teacher/best.ckpt"))
    assert len(trained) == 1
    built = [path for path in (tmp_path / "sweep").glob("*/console.log") if "View store: ready" in path.read_text()]
    assert len(built) <= 2  # the teacher's features with the student's, by the one that trained
    alone = run_command(*TINY, *frozen[:2], "kd_method.alpha=0.8", "teacher.seed=0", "output_dir=alone", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    (expected,) = (tmp_path / "alone").glob("runs/*/results.json")
    found = json.loads((tmp_path / "sweep" / "7" / "results.json").read_text())
    assert found["metrics"] == json.loads(expected.read_text())["metrics"]  # as if it had run alone
    for job in range(8):
        runs = list((tmp_path / "sweep" / str(job) / "wandb").glob("offline-run-*"))
        assert len(runs) == (2 if trained[0].parts[-4] == str(job) else 1)
