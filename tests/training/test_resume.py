import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from brcd_lightning.distillation.crd import CRD
from brcd_lightning.errors import RunEnded
from brcd_lightning.experiment.signals import end_when_asked
from brcd_lightning.hashing.tbh import TBH
from brcd_lightning.training.distillation_module import DistillationModule
from brcd_lightning.training.hashing_module import TrainingOptions
from brcd_lightning.training.resume import BestCheckpoint, ResumePoint
from conftest import TINY, StartedCommand, make_datamodule, make_network
from small_training import make_teacher, make_trainer

EPOCHS, STEPS = 4, 4  # 64 training images in batches of 16


class AskedToEnd(L.Callback):
    """SIGTERM arrives in a chosen step."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == self.step:
            signal.raise_signal(signal.SIGTERM)


def make_module(splits):
    """Everything that a checkpoint has to hold: memories, counters, and objectives that draw random numbers."""
    torch.manual_seed(3)
    network = make_network(seed=1)
    features = network.backbone.num_features
    network.hashing_model = TBH(features, 16, latent_features=8, hidden_features=8, head="linear", adversarial=0.1)
    method = CRD(dim=8, num_negatives=5)
    method.setup(len(splits.train), 16, STEPS)
    return DistillationModule(network, make_teacher(), method, TrainingOptions(1e-2, 20), {"bits": 16})


def train(folder, splits, every_s=0.0, step=None, **loaders):
    """Trains from the resume point of a folder, if there is one; returns the state at the end, None if interrupted."""
    L.seed_everything(0, verbose=False)
    module, point = make_module(splits), ResumePoint(folder / "resume.ckpt", every_s)
    best = BestCheckpoint(folder, "best", monitor="val/map_sshp", mode="max", enable_version_counter=False)
    options = {"check_val_every_n_epoch": 2, "enable_checkpointing": True, "default_root_dir": folder}
    trainer = make_trainer(folder, EPOCHS, module, [best, AskedToEnd(step), point], **options)
    data = make_datamodule(splits, **loaders)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=str(point.path) if point.path.exists() else None)
    except SIGTERMException:
        return None
    state = {name: value.clone() for name, value in module.state_dict().items() if not name.startswith("tables")}
    return state | {"best": best.best_model_score, "step": torch.tensor(trainer.global_step)}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    from brcd_lightning.data.fake import fake

    return train(tmp_path_factory.mktemp("straight"), fake())


@pytest.mark.parametrize("every_s", [0.0, 1e9])
@pytest.mark.parametrize("step", range(EPOCHS * STEPS))
def test_a_run_asked_to_end_in_any_step_continues_as_if_it_had_not_been(tmp_path, splits, straight, step, every_s):
    assert train(tmp_path, splits, every_s, step) is None
    assert_equal(train(tmp_path, splits, every_s), straight)


def assert_equal(resumed, straight):
    assert resumed.keys() == straight.keys()
    for name, value in straight.items():
        assert torch.equal(resumed[name], value), name


def test_a_copied_run_continues_with_the_files_of_its_own_folder(tmp_path, splits, straight):
    assert train(tmp_path / "one", splits, step=2 * STEPS + 1) is None
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    (tmp_path / "one" / "best.ckpt").write_bytes(b"other")
    assert_equal(train(tmp_path / "two", splits), straight)
    assert (tmp_path / "one" / "best.ckpt").read_bytes() == b"other"


def test_the_best_checkpoint_stays_the_best_where_its_folder_was_moved(tmp_path):
    options = {"filename": "best", "monitor": "val/map", "mode": "max", "enable_version_counter": False}
    before, now = (BestCheckpoint(tmp_path / name, **options) for name in ("before", "now"))
    old, new = (str(tmp_path / name / "best.ckpt") for name in ("before", "now"))
    before.best_model_path = before.kth_best_model_path = old
    before.best_model_score = before.kth_value = torch.tensor(0.5)
    before.best_k_models = {old: torch.tensor(0.5)}
    now.load_state_dict(before.state_dict())
    assert now.best_model_path == now.kth_best_model_path == new
    assert now.best_model_score == now.kth_value == now.best_k_models[new] == 0.5
    assert (list(now.best_k_models), now.last_model_path) == ([new], "")
    assert now.state_key == ModelCheckpoint(tmp_path, **options).state_key  # of runs that an earlier release began


@pytest.mark.slow
@pytest.mark.parametrize("step", [2 * STEPS - 1, 2 * STEPS + 1])
def test_a_run_continues_with_another_number_of_loader_workers(tmp_path, splits, straight, step):
    assert train(tmp_path, splits, step=step, num_workers=2) is None
    assert_equal(train(tmp_path, splits, num_workers=1), straight)


def test_a_training_that_was_told_to_stop_stays_stopped(tmp_path, splits):
    class Stop(L.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.should_stop = True

    steps = []
    for callbacks in ([Stop()], []):
        module, point = make_module(splits), ResumePoint(tmp_path / "resume.ckpt", 0)
        trainer = make_trainer(tmp_path, EPOCHS, module, [*callbacks, point])
        trainer.fit(module, datamodule=make_datamodule(splits), ckpt_path=str(point.path) if steps else None)
        steps.append(trainer.global_step)
    assert steps == [STEPS, STEPS]


@pytest.mark.parametrize("validates", [False, True])
@pytest.mark.parametrize(("every", "seen"), [(2, 2), (50, STEPS)])
def test_a_loss_that_is_no_number_ends_the_run_soon(tmp_path, splits, every, seen, validates):
    class Broken(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, *_):
            with torch.no_grad():
                next(pl_module.network.hashing_model.head.parameters()).fill_(float("nan"))

    module, point = make_module(splits), ResumePoint(tmp_path / "resume.ckpt", 0)
    trainer = make_trainer(
        tmp_path, 2, module, [Broken(), point], limit_val_batches=float(validates), log_every_n_steps=every
    )
    with pytest.raises(RunEnded, match=f"the loss became nan by step {seen}, in epoch 0; lower the learning rate"):
        trainer.fit(module, datamodule=make_datamodule(splits))
    assert trainer.global_step == seen
    assert not point.path.exists()


def test_a_test_ends_at_once_too(tmp_path, splits):
    class Asked(L.Callback):
        def on_test_batch_start(self, *_):
            signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    try:
        end_when_asked(tmp_path)
        module = make_module(splits)
        trainer = make_trainer(tmp_path, module=module, callbacks=[Asked(), ResumePoint(tmp_path / "resume.ckpt", 0)])
        with pytest.raises(RunEnded):
            trainer.test(module, datamodule=make_datamodule(splits), verbose=False)
    finally:
        signal.signal(signal.SIGTERM, before)


LONGER = [
    *[option for option in TINY if option != "trainer=debug"],
    "trainer=cpu",
    "trainer.enable_progress_bar=false",
    "teacher.max_epochs=6",
    "student.max_epochs=20",
    "teacher.check_val_every=2",
    "student.check_val_every=2",
    "checkpoint_every_s=0",
]


def started(folder, *options, **variables):
    """A run that has printed its plan and begins its first stage."""
    folder.mkdir(exist_ok=True)
    command = StartedCommand(*LONGER, "output_dir=.", "hydra.run.dir=run", *options, cwd=folder, env=variables)
    command.wait_for(lambda: "Results go to" in command.stdout or command.poll() == 0)
    return command


def outcome(folder):
    """Bytes of both networks and of all codes, and the metrics."""
    (teacher,) = folder.glob("teachers/*/teacher.safetensors")
    names = ("student.safetensors", "codes.safetensors", "teacher_codes.safetensors")
    files = [teacher, *(folder / "run" / name for name in names)]
    results = json.loads((folder / "run" / "results.json").read_text())
    return [file.read_bytes() for file in files], results["metrics"], results["validation"], results["epochs"]


# What a run has just written when it is killed; "" is soon after its plan. Random moments of the clock would all fall
# into the start on a slow machine. A stage that was complete when the run was killed writes no metrics.csv again.
MOMENTS = [
    "",
    "run/metrics/teacher/metrics*.csv",
    "run/checkpoints/teacher/resume.ckpt",
    "teachers/*/teacher.safetensors",
    "run/teacher_codes.safetensors",
    "run/metrics/student/metrics*.csv",
    "run/checkpoints/student/resume.ckpt",
    "run/checkpoints/student/best.ckpt",
    "run/student.safetensors",
    "run/codes.safetensors",
]


@pytest.mark.slow
def test_a_run_killed_at_ten_random_moments_ends_as_if_nothing_had_happened(tmp_path):
    assert started(tmp_path / "whole").wait() == 0
    delays, folder, killed = random.Random(0), tmp_path / "killed", 0
    for moment in MOMENTS:
        process = started(folder, "resume=auto")
        while moment and not list(folder.glob(moment)) and process.poll() is None:
            time.sleep(0.005)
        time.sleep(delays.uniform(0, 0.5))
        killed += process.poll() is None
        process.kill()
    assert killed >= 8  # the last two moments are close to the end
    process = started(folder, "resume=auto")
    assert process.wait() == 0
    assert outcome(folder) == outcome(tmp_path / "whole")
    assert not list((folder / "run").rglob(".*.tmp*"))
    assert list((folder / "run").glob("metrics/*/metrics_before_*.csv"))  # nothing logged is lost
    process = started(folder, "resume=auto")
    assert process.wait() == 0  # a finished run is not run again


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["", "run/checkpoints/student/resume.ckpt"])
def test_sigterm_ends_a_run_with_a_code_of_its_own(tmp_path, moment):
    process = started(tmp_path, "student.max_epochs=1000", "student.patience=1000")
    process.wait_for(lambda: not moment or list(tmp_path.glob(moment)))
    process.send(signal.SIGTERM)
    assert process.wait() == 143, process.stderr
    text = process.stdout + process.stderr
    assert "error: asked to end (SIGTERM); continue with the same options, resume=auto and hydra.run.dir=" in text
    assert "Traceback" not in text
    assert not (tmp_path / "run" / "DONE").exists()


@pytest.mark.slow
def test_ctrl_c_ends_a_run_as_interrupted_also_when_given_twice(tmp_path):
    process = started(tmp_path, "student.max_epochs=1000", "student.patience=1000", "resume=auto")
    process.wait_for((tmp_path / "run/checkpoints/student/resume.ckpt").exists)
    process.send(signal.SIGINT)
    time.sleep(0.03)
    process.send(signal.SIGINT)
    assert process.wait() == 130, process.stderr
    text = process.stdout + process.stderr
    assert "interrupted; the run has no DONE file" in text
    assert "Traceback" not in text
    assert not (tmp_path / "run" / "DONE").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the processes of Linux")
def test_a_loader_worker_that_is_killed_ends_a_run_in_one_line(tmp_path):
    process = started(tmp_path, "teacher.max_epochs=1000", "teacher.patience=1000", "data.num_workers=2")
    process.wait_for((tmp_path / "run/checkpoints/teacher/resume.ckpt").exists)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(workers[0]), signal.SIGKILL)
    assert process.wait() == 1, process.stderr
    text = process.stdout + process.stderr
    assert "error: a loader worker was lost (DataLoader worker (pid" in text
    assert "Traceback" not in text
