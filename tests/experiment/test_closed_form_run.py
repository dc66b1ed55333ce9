"""Runs whose networks are fitted instead of trained, as a user starts them."""

import json

import pytest
from PIL import Image

from brcd_lightning.storage.atomic import sha256_of
from conftest import TINY, run_command

FITTED = [option for option in TINY if not option.startswith("kd_method")]
FITTED += ["kd_method=none", "teacher.backbone.freeze=full", "student.backbone.freeze=full", "view_store.views=2"]


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    done = run_command(*FITTED, "hashing_model=itq", "hydra.run.dir=first", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_run_without_training_leaves_everything(finished):
    folder, done = finished
    run_dir = folder / "first"
    names = {entry.name for entry in run_dir.iterdir()}
    assert {"DONE", "results.json", "gallery.png", "codes.safetensors", "student.safetensors"} <= names
    assert len(list((folder / "outputs" / "teachers").glob("*/teacher.safetensors"))) == 1
    results = results_of(run_dir)
    assert results["epochs"] == 0
    assert 0 < results["validation"] <= 1
    assert {"teacher_seconds", "student_seconds", "test_seconds"} <= results["timings"].keys()
    assert results["row"]["hashing_model"] == "itq"
    assert (run_dir / "metrics" / "student" / "metrics.csv").exists()
    assert "teacher fitted without training (to be fitted), student fitted without training" in done.stdout
    stores = [json.loads(path.read_text()) for path in (folder / "outputs" / "features").glob("*/manifest.json")]
    assert "views" not in json.dumps([store.get("parts") for store in stores])  # nothing needs a view


def test_a_second_run_reuses_the_teacher_and_repeats_byte_for_byte(finished):
    folder, _ = finished
    done = run_command(*FITTED, "hashing_model=itq", "hydra.run.dir=second", cwd=folder)
    assert "stored already" in done.stdout
    for name in ("student.safetensors", "codes.safetensors"):
        assert sha256_of(folder / "first" / name) == sha256_of(folder / "second" / name), name
    one, two = (results_of(folder / run) for run in ("first", "second"))
    assert (one["metrics"], one["validation"]) == (two["metrics"], two["validation"])


def test_a_fitted_student_is_tested_alone(finished):
    folder, _ = finished
    given = ["stage=test", "student.checkpoint=first/student.safetensors", "hydra.run.dir=third"]
    done = run_command(*FITTED, "hashing_model=itq", *given, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert results_of(folder / "third")["metrics"] == results_of(folder / "first")["metrics"]


def test_online_features_and_a_student_that_trains(finished):
    """Without a view store, and with a distillation loss on an own head."""
    folder, _ = finished
    options = [*FITTED, "hashing_model=pca_rr", "view_store.mode=off", "kd_method=sp", "hydra.run.dir=fourth"]
    done = run_command(*options, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert results_of(folder / "fourth")["epochs"] == 1
    assert "teacher fitted without training (to be fitted), student at most 1 epochs" in done.stdout


def test_a_student_that_is_solved_for_and_its_mark(finished):
    folder, _ = finished
    options = [option for option in FITTED if not option.startswith("kd_method")]
    options += ["hashing_model=itq", "kd_method=lsq", "hydra.sweep.dir=sweep", "student.train_on=train,database"]
    done = run_command("-m", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    train, database = (results_of(folder / "sweep" / job) for job in "01")
    assert (train["transductive"], database["transductive"]) == (False, True)
    assert train["epochs"] == 0
    assert 0 < train["validation"] <= 1
    students = {sha256_of(folder / "sweep" / job / "student.safetensors") for job in "01"}
    assert len(students) == 2
    assert (folder / "sweep" / "0" / "teacher_codes.safetensors").exists()
    assert "fit/lambda" in (folder / "sweep" / "0" / "metrics" / "student" / "metrics.csv").read_text()
    assert "LSQ (on database images) †" in done.stdout
    assert "† trained on database images, without labels" in done.stdout


def test_a_student_trains_from_a_closed_form_on_the_database(finished):
    """Its teacher alone has no training, and is the one of the first run."""
    folder, _ = finished
    options = [option for option in FITTED if not option.startswith("kd_method")]
    options += ["hashing_model@teacher.hashing_model=itq", "kd_method=cosine", "student.init=lsq"]
    options += ["+student.init_options.lambda_=0.01"]
    options += ["student.hashing_weight=0", "student.train_on=database", "hydra.run.dir=warm"]
    done = run_command(*options, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Distillation: cosine on itq>cibhash from the head of lsq" in done.stdout
    assert "stored already" in done.stdout
    assert "COSINE (from lsq, on database images) †" in done.stdout
    results = results_of(folder / "warm")
    assert results["transductive"]
    assert results["epochs"] == 1
    assert results["row"]["hashing_model"] == "itq>cibhash"
    stores = [json.loads(path.read_text()) for path in (folder / "outputs" / "features").glob("*/manifest.json")]
    assert "views" not in json.dumps([store.get("parts") for store in stores])  # the loss sees anchors alone
    given = ["stage=test", "student.checkpoint=warm/student.safetensors", "hydra.run.dir=warm_again"]
    done = run_command(*options[:-1], *given, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert results_of(folder / "warm_again")["metrics"] == results["metrics"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["teacher.backbone.freeze=none"], "teacher.backbone.freeze must be full where the head is fitted"),
        (["student.backbone.freeze=params"], "set student.backbone.freeze=full, or choose a hashing_model and a"),
        (["student.head=mlp"], "student.head must be linear where the head is fitted without training, got mlp"),
        (["bits=256"], "bits must be at most "),
        (["hashing_model=sh", "kd_method=lsq"], "student.head must be one linear layer for a kd_method that solves"),
        (["hashing_model=cibhash", "kd_method=lsq", "student.head=mlp"], "student.head must be linear where the head"),
        (["+trainer.limit_val_batches=0"], "trainer.limit_val_batches must not be 0"),
        (
            ["kd_method=kl", "student.init=kl"],
            "student.init must be random or a kd_method that solves for a",
        ),
        (["kd_method=kl", "student.init=best"], "student.init must be one of random, "),
        (["kd_method=kl", "student.init=lsq", "student.head=mlp"], "student.head must be one linear layer"),
        (["kd_method=kl", "+student.init_options.lambda_=1"], "student.init_options belong to a student.init"),
        (
            ["kd_method=kl", "student.init=lsq", "student.init_options=3"],
            "student.init_options must be options by",
        ),
        (["kd_method=kl", "student.init=lsq", "+student.init_options.l=1"], "student.init: got an unexpected keyword"),
        (["kd_method=lsq", "student.init=lsq"], "kd_method LSQ solves for the head and trains nothing"),
        (["student.hashing_weight=0"], "student.hashing_weight must be above 0 for a kd_method without a loss"),
        (["student.hashing_weight=-1"], "student.hashing_weight must be a number of at least 0, got -1"),
        (["student.train_on=all"], "student.train_on must be one of train, database, got 'all'"),
        (
            ["kd_method=packd", "student.train_on=database"],
            "uses no labels of the database, which kd_method PACKD",
        ),
        (["feature_baselines=true", "bits=20"], "bits must be a multiple of 8 for product quantisation, got 20"),
        (["feature_baselines=true"], "product quantisation needs at least 256 training images, got "),
        (["+teacher.hashing_model=itq"], "chosen by hashing_model@teacher.hashing_model=NAME, got 'itq'"),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, arguments, message):
    done = run_command(*FITTED, "hashing_model=itq", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1


def test_images_without_labels_from_end_to_end(tmp_path):
    for number in range(48):
        picture = Image.effect_noise((24, 20), 40 + 4 * number).convert("RGB")
        (tmp_path / "photos" / str(number % 3)).mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "photos" / str(number % 3) / f"{number}.jpg")
    options = [option for option in FITTED if option not in ("dataset=fake", "kd_method=none")]
    options += ["dataset=images", "dataset.root=photos", "transform.size=16", "hashing_model=itq", "bits=8"]
    options += ["student.head=linear"]
    done = run_command(*options, "kd_method=lsq", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = results_of(tmp_path / "run")
    relevance = "the 4 nearest images by cosine of the teacher backbone's features"
    assert results["metric_protocol"]["relevance"] == relevance
    assert f"Relevance: {relevance}; no labels" in done.stdout
    assert 0 < results["metrics"]["test/recall_sshp"] <= 1
    done = run_command(*options, "kd_method=packd", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "kd_method PACKD uses labels of the training images, and this data set has none" in done.stderr
