"""What release 0.1.0 left on disk still serves: tests/files_of_0_1_0."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from brcd_lightning.errors import InputError
from brcd_lightning.experiment.fingerprint import first_release_fingerprint
from brcd_lightning.experiment.run_folder import claim_run_folder
from brcd_lightning.report.records import Records
from brcd_lightning.results.record import read_results
from brcd_lightning.storage.checkpoints import read_architecture
from conftest import TINY, run_command
from test_configs import composed

FILES = Path(__file__).parent / "files_of_0_1_0"
TEACHER = FILES / "teachers" / "b9c72bbe63be24d3" / "teacher.safetensors"
RUN = FILES / "run"
METRICS = read_results(RUN)["metrics"]


def plain(*overrides):
    return OmegaConf.to_container(composed([*TINY, *overrides]), resolve=True)


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    """A test of the old student with the old teacher in the store, and the same with the teacher given."""
    folder = tmp_path_factory.mktemp("tested")
    shutil.copytree(TEACHER.parents[1], folder / "outputs" / "teachers")
    student = f"student.checkpoint={RUN / 'student.safetensors'}"
    options = [*TINY, "stage=test", student]
    stored = run_command(*options, "hydra.run.dir=stored", cwd=folder)
    given = run_command(*options, f"teacher.checkpoint={TEACHER}", "hydra.run.dir=given", cwd=folder)
    return folder, stored, given


def test_a_student_is_tested_as_it_was(tested):
    folder, stored, given = tested
    for done, name in ((stored, "stored"), (given, "given")):
        assert done.returncode == 0, done.stderr
        metrics = read_results(folder / name)["metrics"]
        assert {key: value for key, value in metrics.items() if key in METRICS} == METRICS
    assert "teacher at most 1 epochs (stored already)" in stored.stdout


def test_a_teacher_in_the_store_is_not_trained_again(tested):
    folder, *_ = tested
    assert [path.name for path in (folder / "outputs" / "teachers").iterdir()] == [TEACHER.parent.name]


def test_the_runs_of_both_releases_share_a_table(tested, tmp_path):
    folder, *_ = tested
    shutil.copytree(RUN, tmp_path / "old")
    shutil.copytree(folder / "stored", tmp_path / "new")
    records = Records([tmp_path])
    assert len(records.runs) == 1
    assert "repeats" in records.problems[0], "the same options and seed: the same run, by both releases"


def test_new_files_hold_names_and_no_import_paths(tested):
    folder, *_ = tested
    text = (folder / "stored" / "results.json").read_text()
    assert json.loads(text)["schema_version"] == 3
    assert "_target_" not in text
    assert json.loads(text)["config"]["kd_method"]["type"] == "brcd"
    assert "_target_" not in (folder / "stored" / "config.json").read_text()


def test_descriptions_are_read_as_names():
    found = read_architecture(RUN / "student.safetensors")
    assert found["backbone"]["type"] == "small"
    assert found["hashing_model"] == "cibhash"
    assert found["about"]["method"]["type"] == "brcd"


def test_the_old_fingerprint_is_still_known():
    split = read_results(RUN)["fingerprints"]["split"]
    assert first_release_fingerprint(plain(), split) == TEACHER.parent.name
    for ignored_then in ("collapse_monitor.stop=true", "gather_distributed=false"):
        assert first_release_fingerprint(plain(ignored_then), split) is None


def test_an_interrupted_run_is_continued(tmp_path):
    shutil.copy(RUN / "config.json", tmp_path)
    claim_run_folder(tmp_path, plain())
    assert "_target_" not in (tmp_path / "config.json").read_text()
    shutil.copy(RUN / "config.json", tmp_path)
    with pytest.raises(InputError, match=r"kd_method\.alpha=0\.8, this one has 0\.9"):
        claim_run_folder(tmp_path, plain("kd_method.alpha=0.9"))


def test_codes_are_unchanged():
    assert torch.is_tensor(Records([RUN]).runs[0].codes("student", "query").packed)
