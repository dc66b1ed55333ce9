"""The view store as runs use it: shared, refused where it must be, completed after a kill."""

import json
import shutil

import pytest
import torch

from brcd_lightning.backbones import small_backbone
from brcd_lightning.data.extra_views import Extras
from brcd_lightning.data.features.builder import TransformedSplits
from brcd_lightning.data.features.cache import Display, ViewStore, state_digest
from brcd_lightning.data.features.inference import Inference
from brcd_lightning.data.features.store import FeatureStore
from brcd_lightning.data.transforms import digit_images
from brcd_lightning.errors import InputError
from conftest import TINY, StartedCommand, network_input, run_command

STORED = [*TINY, "teacher.backbone.freeze=full", "student.backbone.freeze=full", "view_store.views=4"]


def open_store(store, splits, *, amounts=None, said=None, **backbones):
    return store.open(
        backbones,
        dict.fromkeys(backbones, "small") | {"transform": "digits"},
        TransformedSplits(splits, digit_images(16)),
        amounts=amounts or {"views": 2},
        inference=Inference(torch.device("cpu"), "32-true"),
        display=Display((said if said is not None else []).append, progress=False),
    )


def backbone(seed=0, freeze="full"):
    torch.manual_seed(seed)
    return small_backbone((4,), grid=2, freeze=freeze)


@pytest.mark.parametrize(
    ("mode", "freeze", "served"),
    [
        ("auto", "full", True),
        ("auto", "none", False),
        ("auto", "params", False),
        ("off", "full", False),
        ("on", "full", 1),
    ],
)
def test_only_what_stays_fixed_is_stored(mode, freeze, served):
    assert ViewStore(mode=mode).serves(backbone(freeze=freeze), "student") == bool(served)


@pytest.mark.parametrize("freeze", ["none", "params"])
def test_insisting_on_the_store_needs_a_frozen_backbone(freeze):
    with pytest.raises(InputError, match=f"mode=on needs student.backbone.freeze=full, got {freeze}"):
        ViewStore(mode="on").serves(backbone(freeze=freeze), "student")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "atuo"}, "view_store.mode must be one of .* Did you mean 'auto'"),
        ({"views": 0}, "view_store.views must be a positive integer"),
        ({"rotations": 0}, "view_store.rotations must be a positive integer"),
        ({"positives": 0}, "view_store.positives must be a positive integer"),
        ({"dtype": "bfloat16"}, "view_store.dtype must be one of float16, float32"),
        ({"max_gb": -1}, "view_store.max_gb must be a positive number"),
        ({"eval_batch_size": 0}, "view_store.eval_batch_size must be a positive integer"),
        ({"num_workers": -1}, "view_store.num_workers must be an integer"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        ViewStore(**options)


def test_a_job_reads_what_its_method_asks_for():
    store = ViewStore(views=8, rotations=2, positives=3)
    assert store.amounts(Extras()) == {"views": 8}
    assert store.amounts(Extras("shared", 3)) == {"views": 8, "rotations": 6, "positives": 3}
    assert store.amounts(Extras(views=False)) == {}
    assert ViewStore(views=1).amounts(Extras("shared")) == {"views": 1, "rotations": 3}
    with pytest.raises(InputError, match="view_store.positives must be at least the 4 .*got 3"):
        store.amounts(Extras(positives=4))


def test_equal_backbones_share_one_store_and_others_do_not(tmp_path, splits):
    said = []
    store = ViewStore(folder=str(tmp_path), num_workers=0)
    open_store(store, splits, said=said, teacher=backbone(0), student=backbone(0))
    assert len(list(tmp_path.iterdir())) == 1
    open_store(store, splits, said=said, teacher=backbone(1))
    assert len(list(tmp_path.iterdir())) == 2
    before = len(said)
    open_store(ViewStore(folder=str(tmp_path), num_workers=0), splits, said=said, teacher=backbone(0))
    assert len(said) == before  # nothing was computed
    assert "through the backbone of teacher and student, once" in said[0]


def test_a_backbone_reads_its_features_by_row(tmp_path, splits):
    network = backbone()
    stored = open_store(ViewStore(folder=str(tmp_path), dtype="float32", num_workers=0), splits, student=network)[
        "student"
    ]
    assert stored(torch.tensor([0, 1])).shape == (2, network.num_features)
    assert torch.allclose(stored(torch.tensor([0])), network(network_input(splits, [0])), atol=1e-5)
    assert not stored.training


def test_what_is_stored_already_serves_another_stage(tmp_path, splits):
    store, said = ViewStore(folder=str(tmp_path), num_workers=0), []
    first = open_store(store, splits, amounts={"views": 1}, student=backbone())["student"]
    second = open_store(store, splits, amounts={"views": 2}, student=first)["student"]
    assert second.table.rows == first.table.rows + len(splits.train)
    again = open_store(store, splits, amounts={"views": 2}, said=said, student=second)["student"]
    assert again.table is second.table
    assert not said


def test_stores_on_disk_are_found_again(tmp_path, splits):
    """The name is a digest of what describes the features, which no import path of the store is part of."""
    about = {"network": "small", "weights": "w", "split": splits.fingerprint, "order": "o", "transform": {"size": 16}}
    about |= {"precision": "float32", "seed": 0}
    store = FeatureStore(tmp_path, about | {"split": "s"}, images=7, train=4, num_features=3, dtype="float16")
    assert store.fingerprint == "f854f4c0a5eda0af"
    open_store(ViewStore(folder=str(tmp_path), num_workers=0), splits, student=backbone())
    (folder,) = tmp_path.iterdir()
    described = json.loads((folder / "manifest.json").read_text())["about"]
    assert described.keys() == about.keys() | {"version", "images", "train", "num_features", "dtype"}
    assert "brcd_lightning" not in json.dumps(described)


def test_a_store_that_would_outgrow_its_cap_is_refused(tmp_path, splits):
    with pytest.raises(InputError, match=r"more than view_store.max_gb=1e-06; raise it, lower view_store.views"):
        open_store(ViewStore(folder=str(tmp_path), max_gb=1e-6), splits, student=backbone())
    assert not list(tmp_path.iterdir())


def test_the_digest_is_of_names_and_values():
    one, same, other = backbone(0), backbone(0), backbone(1)
    assert state_digest(one) == state_digest(same) != state_digest(other)
    one.network[1].num_batches_tracked += 1
    assert state_digest(one) != state_digest(same)


@pytest.fixture(scope="module")
def stored_run(tmp_path_factory):
    """The folder of one run of stored features, and what it said."""
    folder = tmp_path_factory.mktemp("stored")
    done = run_command(*STORED, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture
def outputs(stored_run, tmp_path):
    """What this run has left, copied to where the test runs."""
    return shutil.copytree(stored_run[0] / "outputs", tmp_path / "outputs")


@pytest.mark.slow
def test_a_stored_run_repeats_byte_for_byte_and_the_next_reuses_everything(stored_run, outputs, tmp_path):
    _, first = stored_run
    assert "Features: teacher stored, student stored (stored: 4 views" in first.stdout
    assert first.stdout.count("View store:") == 2
    second = run_command(*STORED, cwd=tmp_path)
    assert "View store:" not in second.stdout
    students = [path.read_bytes() for path in outputs.glob("runs/*/student.safetensors")]
    assert len(students) == 2
    assert students[0] == students[1]


@pytest.mark.slow
def test_a_student_of_the_store_is_tested_online_to_the_same_codes(tmp_path):
    assert run_command(*STORED, "view_store.dtype=float32", cwd=tmp_path).returncode == 0
    (student,) = (tmp_path / "outputs" / "runs").glob("*/student.safetensors")
    (teacher,) = (tmp_path / "outputs" / "teachers").glob("*/teacher.safetensors")
    options = ["stage=test", f"student.checkpoint={student}", f"teacher.checkpoint={teacher}", "view_store.mode=off"]
    done = run_command(*STORED, *options, "view_store.dtype=float32", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = [
        json.loads(path.read_text())["metrics"]
        for path in sorted((tmp_path / "outputs" / "runs").glob("*/results.json"))
    ]
    assert metrics[0] == pytest.approx(metrics[1], abs=0.02)  # a logit next to 0 may round to the other side


@pytest.mark.slow
def test_a_teacher_that_read_stored_features_sees_images_beside_a_student_in_training(tmp_path):
    done = run_command(*STORED, "student.backbone.freeze=none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Features: teacher stored, student online" in done.stdout
    assert len(list((tmp_path / "outputs" / "runs").glob("*/DONE"))) == 1


@pytest.mark.slow
def test_two_jobs_that_start_together_build_one_store(tmp_path):
    jobs = [StartedCommand(*STORED, f"kd_method.alpha={alpha}", cwd=tmp_path) for alpha in (0.3, 0.6)]
    assert [job.wait() for job in jobs] == [0, 0], [job.stderr for job in jobs]
    assert len(list((tmp_path / "outputs" / "features").glob("*/manifest.json"))) == 2  # teacher's and student's
    assert not list((tmp_path / "outputs" / "features").rglob("*.building"))
    assert len(list((tmp_path / "outputs" / "runs").glob("*/DONE"))) == 2


@pytest.mark.slow
def test_a_job_killed_while_building_is_completed_by_the_next(tmp_path):
    options = [*STORED, "view_store.views=64"]
    job = StartedCommand(*options, cwd=tmp_path)
    features = tmp_path / "outputs" / "features"
    job.wait_for(lambda: list(features.glob("*/views_*")))
    job.kill()
    assert not list((tmp_path / "outputs" / "runs").glob("*/DONE"))
    done = run_command(*options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(features.rglob("*.building"))
    assert all("views_32_64" in path.read_text() for path in features.glob("*/manifest.json"))


@pytest.mark.slow
def test_a_flipped_byte_stops_a_run_with_one_line(outputs, tmp_path):
    part = next(outputs.glob("features/*/evaluation"))
    content = bytearray(part.read_bytes())
    content[100] ^= 4
    part.write_bytes(content)
    done = run_command(*STORED, cwd=tmp_path)
    assert done.returncode == 2
    assert "evaluation is damaged at images 0 to" in done.stderr
    assert "Traceback" not in done.stderr


def test_insisting_in_a_run_is_refused_before_training(tmp_path):
    done = run_command(*TINY, "view_store.mode=on", "dry_run=true", cwd=tmp_path)
    assert done.returncode == 2
    assert "view_store.mode=on needs teacher.backbone.freeze=full, got none" in done.stderr


def test_a_killed_build_is_resumed_under_the_same_cap(tmp_path, splits):
    network = backbone()
    open_store(ViewStore(folder=str(tmp_path), num_workers=0), splits, amounts={"views": 8}, student=network)
    (folder,) = tmp_path.iterdir()
    size = sum(file.stat().st_size for file in folder.glob("[ev]*"))
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["parts"]["views_4_8"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "views_4_8").rename(folder / "views_4_8.building")
    open_store(
        ViewStore(folder=str(tmp_path), num_workers=0, max_gb=1.1 * size / 1e9),
        splits,
        amounts={"views": 8},
        student=network,
    )
    assert (folder / "views_4_8").exists()


def test_what_another_job_is_building_counts_under_the_cap(tmp_path, splits):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "evaluation.building").write_bytes(bytes(1 << 20))
    with pytest.raises(InputError, match="the view store would take"):
        open_store(ViewStore(folder=str(tmp_path), max_gb=1e-3), splits, student=backbone())


@pytest.mark.slow
def test_a_test_alone_may_have_to_train_its_teacher_again(outputs, tmp_path):
    (student,) = outputs.glob("runs/*/student.safetensors")
    shutil.rmtree(outputs / "teachers")
    done = run_command(*STORED, "stage=test", f"student.checkpoint={student}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
