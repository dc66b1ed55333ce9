import json
import shutil

import pytest
import torch

from brcd_lightning.deployment.encoding.encoder import HashEncoder
from brcd_lightning.errors import InputError
from brcd_lightning.storage.checkpoints import read_architecture, save_network
from conftest import TINY, run_command
from small_encoder import make_encoder, write_images


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    options = [*TINY, "hydra.run.dir=run", "hashing_model@teacher.hashing_model=itq", "teacher.backbone.freeze=full"]
    done = run_command(*options, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_student_and_teacher_of_a_run(run, tmp_path):
    student, teacher = (HashEncoder.from_pretrained(run, role=role) for role in ("student", "teacher"))
    assert (student.bits, teacher.bits) == (16, 16)
    assert student.description.hashing_model["type"] == "cibhash"
    assert teacher.description.hashing_model["type"] == "itq"
    assert student.description.teacher == teacher.description.teacher
    names = write_images(tmp_path / "images")
    paths = [tmp_path / "images" / name for name in names]
    student.save_pretrained(tmp_path / "model", teacher=teacher)
    for role, encoder in (("student", student), ("teacher", teacher)):
        assert torch.equal(
            HashEncoder.from_pretrained(tmp_path / "model", role=role).encode(paths), encoder.encode(paths)
        )


def test_provenance_is_kept_without_paths(run):
    about = HashEncoder.from_pretrained(run).description.about
    results = json.loads((run / "results.json").read_text())
    assert about["metrics"] == results["metrics"]
    assert about["row"] == results["row"]
    assert str(run.parent) not in json.dumps(about)


def test_a_teacher_that_is_gone_is_named(run, tmp_path):
    copy = tmp_path / "deep" / "copy"
    shutil.copytree(run, copy)
    results = json.loads((copy / "results.json").read_text())
    results["config"]["output_dir"] = str(tmp_path / "elsewhere")
    (copy / "results.json").write_text(json.dumps(results))
    assert HashEncoder.from_pretrained(copy).bits == 16
    with pytest.raises(InputError, match=r"the teacher \w+ of .* is not in its output folder any more"):
        HashEncoder.from_pretrained(copy, role="teacher")


def test_a_student_without_its_configuration_is_refused(run, tmp_path):
    architecture = read_architecture(run / "student.safetensors")
    del architecture["about"]["config"]
    save_network(tmp_path / "student.safetensors", make_encoder().network, architecture)
    with pytest.raises(InputError, match="lacks its configuration; train the student again"):
        HashEncoder.from_pretrained(tmp_path)
