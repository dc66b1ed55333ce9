"""The command as a user runs it, in a subprocess."""

import json
import re
import shutil
import threading
import time
from itertools import pairwise

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from brcd_lightning.report.records import Records
from brcd_lightning.storage.atomic import sha256_of, source_commit
from conftest import TINY, run_command
from data.test_image_folder import write_images


def runs_in(folder):
    return sorted(path.parent for path in (folder / "outputs" / "runs").glob("*/.hydra"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One whole tiny run, from a working directory of its own."""
    folder = tmp_path_factory.mktemp("finished")
    done = run_command(*TINY, cwd=folder)
    assert done.returncode == 0, done.stderr
    (run_dir,) = runs_in(folder)
    return folder, run_dir, done


def test_a_run_leaves_everything(finished):
    folder, run_dir, done = finished
    names = {
        "DONE",
        "results.json",
        "gallery.png",
        "codes.safetensors",
        "student.safetensors",
        "teacher_codes.safetensors",
    }
    assert names <= {entry.name for entry in run_dir.iterdir()}
    assert (run_dir / "metrics" / "student" / "metrics.csv").exists()
    assert len(list((folder / "outputs" / "teachers").glob("*/teacher.safetensors"))) == 1
    results = json.loads((run_dir / "results.json").read_text())
    assert bool(results["commit"]) == bool(source_commit()), "None outside a checkout only"
    assert {"test/map_sshp", "test/map_ashp", "test/map_teacher"} <= set(results["metrics"])
    for name, value in results["metrics"].items():
        low, high = results["intervals"][name]
        assert 0 <= low <= value <= high <= 1
    assert "test/map_ashp_expected" in results["metrics"]
    by_score = {f"test/map_{pair}_{kind}" for pair in ("sshp", "ashp", "teacher") for kind in ("float", "rescored")}
    assert by_score <= results["metrics"].keys()
    assert by_score <= results["intervals"].keys()
    assert results["row"]["kd_method"] == "brcd"
    assert results["sizes"]["train"] == 64
    assert f"Results are in {run_dir}" in done.stdout
    assert "NO KD" not in done.stdout
    assert not [name for name in load_file(run_dir / "student.safetensors") if "teacher" in name]
    assert not list(run_dir.rglob("*.tmp*"))


def test_the_second_run_reuses_the_teacher_and_repeats_byte_for_byte(finished):
    folder, first, _ = finished
    (teacher,) = (folder / "outputs" / "teachers").glob("*/teacher.safetensors")
    written = teacher.stat().st_mtime_ns
    done = run_command(*TINY, cwd=folder)
    assert "stored already" in done.stdout
    assert teacher.stat().st_mtime_ns == written
    second = runs_in(folder)[-1]
    assert second != first
    for name in ("student.safetensors", "codes.safetensors", "teacher_codes.safetensors"):
        assert sha256_of(first / name) == sha256_of(second / name), name
    one, two = (json.loads((run / "results.json").read_text()) for run in (first, second))
    assert one["metrics"] == two["metrics"]
    assert one["fingerprints"] == two["fingerprints"]


def test_a_checkpoint_is_evaluated_alone(finished, tmp_path):
    folder, first, _ = finished
    (teacher,) = (folder / "outputs" / "teachers").glob("*/teacher.safetensors")
    expected = json.loads((first / "results.json").read_text())["metrics"]
    for student in (first / "student.safetensors", first / "checkpoints" / "student" / "best.ckpt"):
        given = ["stage=test", f"student.checkpoint={student}", f"teacher.checkpoint={teacher}"]
        done = run_command(*TINY, *given, f"output_dir={tmp_path}", cwd=folder)
        assert done.returncode == 0, done.stderr
        (path,) = tmp_path.glob("runs/*/results.json")
        assert json.loads(path.read_text())["metrics"] == expected
        path.unlink()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bits=24"], "teacher checkpoint .* has bits 16 but the configuration asks for 24"),
        (["teacher.backbone.widths=[8,8]"], "teacher checkpoint .* has backbone .*\\[4, 8\\].* asks for .*\\[8, 8\\]"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(finished, arguments, message):
    import re

    folder, _, _ = finished
    (teacher,) = (folder / "outputs" / "teachers").glob("*/teacher.safetensors")
    done = run_command(*TINY, f"teacher.checkpoint={teacher}", *arguments, cwd=folder)
    assert_one_line(done)
    assert re.search(message, done.stderr)


def test_a_student_that_was_removed_is_made_again(finished, tmp_path):
    folder, first, _ = finished
    shutil.copytree(first, tmp_path / "run")
    (tmp_path / "run" / "student.safetensors").unlink()
    done = run_command(*TINY, f"hydra.run.dir={tmp_path / 'run'}", "resume=auto", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert sha256_of(tmp_path / "run" / "student.safetensors") == sha256_of(first / "student.safetensors")
    done = run_command(*TINY, f"hydra.run.dir={tmp_path / 'run'}", "resume=auto", cwd=folder)
    assert "Finished already" in done.stdout


def test_a_damaged_teacher_of_the_store_is_refused_until_it_is_removed(finished, tmp_path):
    folder, _, _ = finished
    shutil.copytree(folder / "outputs" / "teachers", tmp_path / "teachers")
    (teacher,) = (tmp_path / "teachers").glob("*/teacher.safetensors")
    content = bytearray(teacher.read_bytes())
    content[-3] ^= 0x40
    teacher.write_bytes(content)
    done = run_command(*TINY, "stage=teacher", f"output_dir={tmp_path}", cwd=folder)
    assert_one_line(done)
    assert f"{teacher} is damaged" in done.stderr
    assert f"Remove {teacher.parent} to train the teacher again." in done.stderr


def test_a_teacher_with_a_path_for_a_fingerprint_is_refused(finished, tmp_path):
    folder, _, _ = finished
    (teacher,) = (folder / "outputs" / "teachers").glob("*/teacher.safetensors")
    with safe_open(teacher, framework="pt") as file:
        told = json.loads(file.metadata()["brcd_lightning"])
    told["about"]["fingerprint"] = "../../elsewhere"
    save_file(load_file(teacher), tmp_path / "given.safetensors", {"brcd_lightning": json.dumps(told)})
    done = run_command(*TINY, f"teacher.checkpoint={tmp_path / 'given.safetensors'}", cwd=folder)
    assert_one_line(done)
    assert "given.safetensors has '../../elsewhere' in place of a fingerprint" in done.stderr


def test_a_student_is_tested_as_what_it_is_or_not_at_all(finished, tmp_path):
    folder, first, _ = finished
    given = ["stage=test", f"student.checkpoint={first}/student.safetensors", f"output_dir={tmp_path}"]
    done = run_command(*TINY, *given, "teacher.seed=7", cwd=folder)
    assert_one_line(done)
    assert "belongs to teacher" in done.stderr
    done = run_command(*TINY, *given, "dataset.seed=7", cwd=folder)
    assert_one_line(done)
    assert "belongs to split" in done.stderr
    (teacher,) = (folder / "outputs" / "teachers").glob("*/teacher.safetensors")
    tiny = [argument for argument in TINY if not argument.startswith("kd_method.")]
    done = run_command(*tiny, *given, "kd_method=none", "seed=9", f"teacher.checkpoint={teacher}", cwd=folder)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("runs/*/results.json")
    row = json.loads(path.read_text())["row"]
    assert (row["kd_method"], row["seed"]) == ("brcd", 0)


def test_a_failed_run_in_an_old_folder_leaves_no_old_outcome(finished, tmp_path):
    folder, _, _ = finished
    place = ["output_dir=" + str(folder / "outputs"), f"hydra.run.dir={tmp_path}/here"]
    assert run_command(*TINY, *place, cwd=folder).returncode == 0
    assert (tmp_path / "here" / "DONE").exists()
    (tmp_path / "here" / "checkpoints" / "student" / "best.ckpt").unlink()
    (tmp_path / "here" / "checkpoints" / "student" / "resume.ckpt").unlink()
    (tmp_path / "here" / "checkpoints" / "student").rmdir()
    (tmp_path / "here" / "checkpoints" / "student").write_text("in the way")
    assert run_command(*TINY, *place, cwd=folder).returncode != 0
    assert not (tmp_path / "here" / "DONE").exists()
    assert not (tmp_path / "here" / "results.json").exists()


@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_stages_alone(finished, stage):
    folder, _, _ = finished
    done = run_command(*TINY, f"stage={stage}", cwd=folder)
    assert done.returncode == 0, done.stderr
    run_dir = runs_in(folder)[-1]
    assert (run_dir / "student.safetensors").exists() == (stage == "student")
    assert not (run_dir / "results.json").exists()
    assert (run_dir / "DONE").exists()


def assert_one_line(done):
    """A user's mistake: exit 2, one line on stderr, no traceback."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kd_method.alpah=0.5"], "unknown key 'kd_method.alpah'. Did you mean 'kd_method.alpha'?"),
        (["alpha=0.5"], "unknown key 'alpha'. Did you mean 'kd_method.alpha'?"),
        (["+lrr=0.1"], "unknown key 'lrr'"),
        (["kd_method=brdc"], "kd_method has no option 'brdc'. Did you mean 'brcd'?"),
        (
            ["+experiment=cifar_vitb_effb1"],
            "experiment has no option 'cifar_vitb_effb1'. Did you mean 'cifar_vitb_effb0'?",
        ),
        (["bits=-8"], "bits must be a positive integer, got -8"),
        (["map_k=0"], "map_k must be a positive integer, got 0"),
        (["kd_method=null"], "kd_method"),
        (["output_dir=/proc/nowhere"], "/proc/nowhere"),
        (["--experimental-rerun", "config.pickle"], "--experimental-rerun runs whatever code a pickle holds"),
        (["-m", "seed=0,1", "hydra.launcher._target_=os.system"], "choose hydra/launcher and hydra/sweeper by name"),
    ],
)
def test_early_mistakes_end_in_one_line_before_anything_loads(tmp_path, arguments, message):
    started = time.perf_counter()
    done = run_command(*arguments, cwd=tmp_path)
    elapsed = time.perf_counter() - started
    assert_one_line(done)
    assert message in done.stderr
    assert elapsed < 3
    assert not (tmp_path / "outputs" / "teachers").exists()


def test_an_experiment_file_that_refers_to_itself_without_end_is_one_line(tmp_path):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    lines = ["a: &a [1,1,1,1,1,1,1,1]", *(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefgh"))]
    (tmp_path / "conf" / "experiment" / "theirs.yaml").write_text("\n".join(lines))
    done = run_command("--config-dir=conf", "+experiment=theirs", cwd=tmp_path, timeout=30)
    assert_one_line(done)
    assert "theirs.yaml refers to its own values" in done.stderr


def test_the_configuration_of_a_run_given_back_says_how_to_repeat_it(finished, tmp_path):
    _, run_dir, _ = finished
    done = run_command(f"--config-dir={run_dir}/.hydra", "--config-name=config", cwd=tmp_path)
    assert_one_line(done)
    assert "chooses no dataset, hashing_model, kd_method, profile, paradigm; to repeat a run, give" in done.stderr
    assert not (tmp_path / "outputs" / "teachers").exists()


@pytest.mark.parametrize("text", ["a: [\n b: {", "a: !!python/object/apply:os.system [exit]\n"])
def test_an_experiment_file_that_is_no_yaml_is_one_line(tmp_path, text):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "theirs.yaml").write_text(text)
    done = run_command("--config-dir=conf", "+experiment=theirs", cwd=tmp_path)
    assert_one_line(done)
    assert "theirs.yaml" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kd_method.alpha=1.5"], "kd_method.alpha must be in [0, 1], got 1.5"),
        (["kd_method.delta=-0.5"], "kd_method.delta must be in [0, 1], got -0.5"),
        (["kd_method.num_clusters=65"], "num_clusters must be at most the number of training images, got 65 "),
        (["+kd_method.alhpa=0.5"], "unexpected keyword argument 'alhpa'"),
        (["dataset=image_folder", "dataset.root=nowhere"], "dataset.root 'nowhere' is not a folder"),
        (["teacher.checkpoint=nowhere.ckpt"], "teacher.checkpoint nowhere.ckpt is not a file"),
        (["stage=test"], "stage=test needs student.checkpoint=PATH"),
        (["backbone@teacher.backbone=vit_b_16", "teacher.backbone.weights=null"], "takes images of 224 pixels"),
        (["trainer.accelerator=tpu"], "trainer: "),
        (["trainer.precision=foo"], "trainer.precision must be one of "),
        (["trainer.devices=99"], "trainer.devices must be at most the "),
        (["kd_method._target_=brcd_lightning.nope.X"], "kd_method: "),
    ],
)
def test_later_mistakes_end_in_one_line_too(tmp_path, arguments, message):
    arguments = [
        a for a in TINY if not arguments[0].startswith("backbone@teacher") or "teacher.backbone" not in a
    ] + arguments
    done = run_command(*arguments, cwd=tmp_path)
    assert_one_line(done)
    assert message in done.stderr
    assert not list((tmp_path / "outputs").rglob("DONE"))


LIMITED = """
import resource
from brcd_lightning.cli.main import train
resource.setrlimit(resource.RLIMIT_FSIZE, (30 << 10, 30 << 10))
train()
"""


def test_a_full_disk_ends_a_run_in_one_line(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "limited.py").write_text(LIMITED)
    done = run_command(*TINY, "hydra.run.dir=run", cwd=tmp_path, module="limited")
    assert_one_line(done)
    assert f"{tmp_path}/run/checkpoints/teacher/best.ckpt cannot be written: File too large" in done.stderr
    assert not list(tmp_path.rglob("DONE")) + list(tmp_path.rglob("*.ckpt")) + list(tmp_path.rglob(".*.tmp*"))


def test_a_checkpoint_folder_that_cannot_be_ends_a_run_in_one_line(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "teacher").write_text("in the way")
    done = run_command(*TINY, "hydra.run.dir=run", cwd=tmp_path)
    assert_one_line(done)
    assert f"{tmp_path}/run/checkpoints/teacher" in done.stderr
    assert not list(tmp_path.rglob("DONE"))


def test_a_corrupt_image_is_named_and_skipped_on_request(tmp_path):
    for part, count in (("train", 20), ("test", 2)):
        for name in ("cat", "dog"):
            write_images(tmp_path / "images" / part / name, count)
    (tmp_path / "images" / "train" / "dog" / "003.png").write_bytes(b"\x89PNG\r\n broken")
    folder = ["dataset=image_folder", f"dataset.root={tmp_path}/images", "dataset.train_per_class=16"]
    folder += ["dataset.val_query_per_class=1", "transform.size=16", "kd_method=none", "dry_run=true"]
    tiny = [argument for argument in TINY if not argument.startswith(("dataset=", "kd_method."))]
    done = run_command(*tiny, *folder, cwd=tmp_path)
    assert_one_line(done)
    assert "train/dog/003.png" in done.stderr
    done = run_command(*tiny, *folder, "dataset.skip_corrupt=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Skipping 1 unreadable images" in done.stdout


def test_dry_run_prints_the_plan_and_stops(tmp_path):
    done = run_command(*TINY, "dry_run=true", cwd=tmp_path)
    assert done.returncode == 0
    for part in ("train 64", "Teacher: small_wide", "Student: small", "2 per epoch", "to be trained", "Results go to"):
        assert part in done.stdout
    assert not (tmp_path / "outputs" / "teachers").exists()
    assert not list(tmp_path.rglob("DONE"))


def test_help_is_fast(tmp_path):
    run_command("--help", cwd=tmp_path)  # warm
    started = time.perf_counter()
    done = run_command("--help", cwd=tmp_path)
    assert time.perf_counter() - started < 2.5
    assert done.returncode == 0
    assert re.search(r"kd_method: .*\bbrcd\b", done.stdout)


def test_a_paper_cell_without_network_says_what_to_do_and_starts_with_local_files(tmp_path):
    import torch
    import torchvision

    cell = [
        "+experiment=cifar_vitb_effb0",
        "dry_run=true",
        "dataset.train_per_class=7",
        "dataset.val_query_per_class=1",
    ]
    done = run_command(*cell, "dataset.download=false", cwd=tmp_path)
    assert_one_line(done)
    assert "CIFAR-10 is not in" in done.stderr
    assert "dataset.root=DIR" in done.stderr
    for part, count in (("train", 8), ("test", 1)):
        for i in range(10):
            write_images(tmp_path / "cifar" / part / str(i), count, size=(32, 32))
    files = {}
    for role, name in (("teacher", "vit_b_16"), ("student", "efficientnet_b0")):
        torch.save(torchvision.models.get_model(name, weights=None).half().state_dict(), tmp_path / f"{name}.pt")
        files[role] = f"{role}.backbone.weights={tmp_path}/{name}.pt"
    done = run_command(*cell, f"dataset.root={tmp_path}/cifar", *files.values(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Teacher: vit_b_16" in done.stdout
    assert "Student: efficientnet_b0" in done.stdout


@pytest.mark.slow
def test_a_sweep_shares_one_teacher_and_ends_in_a_table(tmp_path):
    grid = ["kd_method.alpha=0.6,0.9", "kd_method.delta=0.2,0.5", "logger=wandb_offline"]
    done = run_command("-m", *TINY, *grid, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    jobs = [sweep / str(job) for job in range(4)]
    assert all((job / "DONE").exists() for job in jobs)
    assert len(list((tmp_path / "outputs" / "teachers").glob("*/teacher.safetensors"))) == 1
    wandb_runs = [path.name.rpartition("-")[2] for path in sweep.rglob("offline-run-*") if path.is_dir()]
    assert len(wandb_runs) == len(set(wandb_runs)) == 5  # one teacher, four students
    assert "4 of 4 jobs have results" in done.stdout
    assert len((sweep / "summary.csv").read_text().splitlines()) == 5


@pytest.mark.slow
def test_a_wrong_job_of_a_sweep_does_not_stop_the_others(tmp_path):
    done = run_command("-m", *TINY, "kd_method.alpha=2,0.9", cwd=tmp_path)
    assert done.returncode == 2
    assert "kd_method.alpha must be in [0, 1], got 2" in done.stderr
    assert "1 of 2 jobs have results" in done.stdout


@pytest.mark.slow
def test_a_multirun_over_several_devices_is_refused(tmp_path):
    done = run_command(
        "-m", *TINY, "kd_method.alpha=0.5,0.7", "trainer.devices=2", "+trainer.strategy=ddp", cwd=tmp_path
    )
    assert done.returncode == 2
    assert "a multirun in one process trains each job on one device, got 2; add hydra/launcher=local" in done.stderr
    assert len(list((tmp_path / "outputs" / "sweeps").iterdir())) == 1


@pytest.mark.slow
def test_two_jobs_started_together_train_one_teacher(tmp_path):
    outcomes = []

    def job(seed):
        outcomes.append(run_command(*TINY, "teacher.seed=0", f"seed={seed}", cwd=tmp_path))

    threads = [threading.Thread(target=job, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [done.returncode for done in outcomes] == [0, 0]
    checkpoints = list((tmp_path / "outputs" / "runs").glob("*/checkpoints/teacher/best.ckpt"))
    assert len(checkpoints) == 1


@pytest.mark.slow
def test_two_processes_finish_together(tmp_path):
    ddp = ["trainer=debug", "trainer.devices=2", "+trainer.strategy=ddp"]
    uneven = ["dataset.num_classes=3"]  # 15 queries, 105 images to search
    done = run_command(*TINY, *ddp, *uneven, cwd=tmp_path, env={"GLOO_SOCKET_IFNAME": "lo"})
    assert done.returncode == 0, done.stderr
    (run_dir,) = [path.parent for path in (tmp_path / "outputs" / "runs").glob("*/results.json")]
    assert (run_dir / "DONE").exists()
    results = json.loads((run_dir / "results.json").read_text())
    (teacher,) = (tmp_path / "outputs" / "teachers").glob("*/teacher.safetensors")
    student = run_dir / "student.safetensors"
    alone = ["stage=test", f"student.checkpoint={student}", f"teacher.checkpoint={teacher}"]
    done = run_command(*TINY, *uneven, *alone, "output_dir=single", cwd=tmp_path)
    (path,) = (tmp_path / "single" / "runs").glob("*/results.json")
    assert json.loads(path.read_text())["metrics"] == results["metrics"]


def test_a_frozen_student_of_a_teacher_that_trains_reads_stored_features(tmp_path):
    done = run_command(*TINY, "student.backbone.freeze=full", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Features: teacher online, student stored" in done.stdout


def test_results_say_what_made_the_student(finished, tmp_path):
    """Whatever the command line of a test says; and another teacher than the configuration's is another cell."""
    folder, _, _ = finished
    options = [option for option in TINY if not option.startswith("kd_method")]
    trained = run_command(*TINY, "kd_method.alpha=0.9", f"hydra.run.dir={tmp_path}/trained", cwd=folder)
    assert trained.returncode == 0, trained.stderr
    student = f"student.checkpoint={tmp_path}/trained/student.safetensors"
    tested = run_command(*options, "stage=test", student, f"hydra.run.dir={tmp_path}/tested", cwd=folder)
    assert tested.returncode == 0, tested.stderr
    stage = ["stage=teacher", "teacher.learning_rate=0.01", f"output_dir={tmp_path}/other"]
    assert run_command(*TINY, *stage, cwd=folder).returncode == 0
    (teacher,) = (tmp_path / "other" / "teachers").glob("*/teacher.safetensors")
    given = [f"teacher.checkpoint={teacher}", "kd_method.alpha=0.9", f"hydra.run.dir={tmp_path}/given"]
    assert run_command(*TINY, *given, cwd=folder).returncode == 0
    records = Records([tmp_path / name for name in ("trained", "tested", "given")])
    assert "repeats" in records.problems[0]
    assert [len(cell.runs) for cell in records.cells] == [1, 1], "a test is its student's run, another teacher's is not"
