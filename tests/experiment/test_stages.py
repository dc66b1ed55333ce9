"""Runs of several processes: who starts them, and what becomes of the others when one is lost."""

import json
import os
import signal
import subprocess
import time

import pytest

from conftest import TINY, StartedCommand, run_command
from training.test_resume import outcome, started

ENVIRONMENT = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.devices=2"]
TWO += ["trainer.enable_progress_bar=false", "trainer.strategy.timeout_s=20"]
SMALL = [option for option in TINY if option != "trainer=debug"]


@pytest.mark.slow
def test_torchrun_starts_the_processes_of_a_run(tmp_path):
    epochs = ["teacher.max_epochs=1", "student.max_epochs=2", "hydra.run.dir=run"]
    launch = ["--standalone", "--nproc-per-node=2", "-m", "brcd_lightning.train"]
    for stage in ("all", "student"):  # the second time the teacher is there
        options = [*SMALL, *TWO, *epochs, f"stage={stage}"]
        done = run_command(*launch, *options, cwd=tmp_path, module="torch.distributed.run", env=ENVIRONMENT)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Results are in") == 1
        if stage == "all":
            assert json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]["test/map_sshp"] > 0
    assert len(list((tmp_path / "outputs" / "teachers").iterdir())) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "rank"), [(signal.SIGKILL, 1), (signal.SIGKILL, 0), (signal.SIGSTOP, 1)])
def test_the_others_end_when_a_process_is_lost(tmp_path, sent, rank):
    options = [*SMALL, *TWO, "teacher.max_epochs=1", "student.max_epochs=100000", "student.patience=100000"]
    options += ["hydra.run.dir=run", "checkpoint_every_s=0"]
    first = StartedCommand(*options, cwd=tmp_path, env=ENVIRONMENT)
    first.wait_for((tmp_path / "run" / "checkpoints" / "student" / "resume.ckpt").exists)
    second = child_of(first)
    os.kill([first.pid, second][rank], sent)
    assert first.wait(timeout=60) != 0
    deadline = time.monotonic() + 60
    while _runs(second):
        assert time.monotonic() < deadline, "the other process is still there"
        time.sleep(0.2)
    assert "error: another process of this run ended or hangs" in first.stdout + first.stderr


def child_of(process):
    (pid,) = map(int, subprocess.check_output(["pgrep", "-P", str(process.pid)], text=True).split())
    return pid


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_a_memory_needs_the_batch_of_all_devices(tmp_path):
    options = ["kd_method=crd", "~kd_method.num_clusters", "kd_method.num_negatives=5", "gather_distributed=false"]
    done = run_command(*SMALL, *TWO, *options, cwd=tmp_path, env=ENVIRONMENT)
    assert done.returncode == 2
    assert "gather_distributed=false is not possible with kd_method CRD: its state (bank_student" in done.stderr


@pytest.mark.slow
def test_two_processes_asked_to_end_continue_as_if_they_had_not_been(tmp_path):
    two = [*TWO, "trainer.strategy.timeout_s=100"]  # on a busy machine a process starts slowly
    two += ["teacher.max_epochs=4", "student.max_epochs=6"]
    whole = started(tmp_path / "whole", *two, **ENVIRONMENT)
    assert whole.wait(timeout=120) == 0, whole.stderr
    folder = tmp_path / "resumed"
    for rank, moment in ((1, "teacher"), (0, "student")):  # whichever process is asked, all end after the same step
        process = started(folder, *two, "resume=auto", **ENVIRONMENT)
        process.wait_for((folder / "run" / "checkpoints" / moment / "resume.ckpt").exists)
        os.kill(child_of(process) if rank else process.pid, signal.SIGTERM)
        assert process.wait(timeout=120) == 143, process.stderr
        text = process.stdout + process.stderr
        assert text.count("error: asked to end (SIGTERM)") == 1
        assert "Traceback" not in text
    process = started(folder, *two, "resume=auto", **ENVIRONMENT)
    assert process.wait(timeout=120) == 0, process.stderr
    assert outcome(folder) == outcome(tmp_path / "whole")


@pytest.mark.slow
def test_jobs_of_one_process_leave_no_data_out(tmp_path):
    options = [*SMALL, *TWO, "teacher.max_epochs=1", "student.max_epochs=1", "hydra.sweep.dir=sweep"]
    options = [option for option in options if not option.startswith("trainer.devices")]
    done = run_command("-m", *options, "trainer.devices=1,2", cwd=tmp_path, env=ENVIRONMENT)
    assert done.returncode == 2
    assert done.stderr.count("error: ") == 1  # the first job left its variables behind
    assert "process 0 of 1, but trainer.devices and trainer.num_nodes ask for 2" in done.stderr
    assert [path.parent.name for path in (tmp_path / "sweep").glob("*/results.json")] == ["0"]
