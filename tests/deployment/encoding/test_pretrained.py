import json
from types import SimpleNamespace

import pytest
import torch

from brcd_lightning.deployment.encoding import pretrained
from brcd_lightning.deployment.encoding.encoder import HashEncoder
from brcd_lightning.errors import InputError
from small_encoder import make_encoder, write_images

ABOUT = {
    "dataset": {"type": "cifar10"},
    "kd_method": {"type": "brcd"},
    "seed": 3,
    "row": {"student": "small"},
    "metrics": {"test/map_sshp": 0.5, "test/map_ashp": 0.25},
    "metric_protocol": {"k": 1000, "ties": "database order"},
    "commit": "c0ffee",
}


def test_round_trip(tmp_path):
    names = write_images(tmp_path / "images")
    paths = [tmp_path / "images" / name for name in names]
    student, teacher = make_encoder(), make_encoder("teacher")
    folder = student.save_pretrained(tmp_path / "model", teacher=teacher)
    for role, encoder in (("student", student), ("teacher", teacher)):
        found = HashEncoder.from_pretrained(folder, role=role)
        assert found.role == role
        assert found.fingerprint == encoder.fingerprint
        assert torch.equal(found.encode(paths), encoder.encode(paths))
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "README.md", "teacher"}


def test_a_missing_role_and_a_foreign_teacher_are_refused(tmp_path):
    student = make_encoder()
    student.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="holds no teacher"):
        HashEncoder.from_pretrained(tmp_path, role="teacher")
    with pytest.raises(InputError, match="this student belongs to teacher 0123456789abcdef"):
        student.save_pretrained(tmp_path, teacher=make_encoder("teacher", teacher="another"))


def test_a_folder_without_its_last_file_is_none(tmp_path):
    make_encoder().save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match="holds no student"):
        HashEncoder.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json is not readable JSON"):
        HashEncoder.from_pretrained(tmp_path)


def test_the_card_says_what_it_is(tmp_path):
    import dataclasses

    encoder = make_encoder()
    encoder.description = dataclasses.replace(encoder.description, about=ABOUT)
    text = (encoder.save_pretrained(tmp_path) / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: brcd_lightning\n")
    for expected in (
        "16-bit",
        "cifar10",
        "| distillation | brcd |",
        "K = 1000",
        "| test/map_ashp | 0.2500 |",
        "c0ffee",
    ):
        assert expected in text
    assert encoder.fingerprint in text
    assert json.loads((tmp_path / "config.json").read_text())["about"] == ABOUT


def test_the_card_names_the_data_set_as_its_run_does(tmp_path):
    import dataclasses

    encoder = make_encoder()
    about = ABOUT | {"row": {"dataset": "cats", "student": "small"}}
    encoder.description = dataclasses.replace(encoder.description, about=about)
    assert "| data set | cats |" in (encoder.save_pretrained(tmp_path) / "README.md").read_text()


@pytest.mark.parametrize("wrong", [None, 5, ["a"], b"a"])
def test_what_is_no_folder_is_said(wrong):
    with pytest.raises(InputError, match="folder must be text or a path, got"):
        make_encoder().save_pretrained(wrong)
    with pytest.raises(InputError, match="source must be text or a path, got"):
        HashEncoder.from_pretrained(wrong)


def test_any_kind_of_path_is_a_folder(tmp_path):
    class Place:
        def __fspath__(self):
            return str(tmp_path / "saved")

    for place in (Place(), tmp_path / "saved", str(tmp_path / "saved")):
        assert make_encoder().save_pretrained(place) == tmp_path / "saved"
        assert HashEncoder.from_pretrained(place).fingerprint == make_encoder().fingerprint


def test_a_teacher_that_is_no_encoder_is_said(tmp_path):
    with pytest.raises(InputError, match="teacher must be a HashEncoder, got str"):
        make_encoder().save_pretrained(tmp_path / "saved", teacher="teacher")
    assert not (tmp_path / "saved").exists()


def test_upload_sends_the_folder(monkeypatch):
    sent = {}

    class Hub:
        def __init__(self, token):
            sent["token"] = token

        def create_repo(self, repo_id, private, exist_ok):
            sent.update(repo_id=repo_id, private=private)

        def upload_folder(self, repo_id, folder_path, commit_message):
            sent["files"] = sorted(path.name for path in folder_path.iterdir())
            return SimpleNamespace(commit_url="https://hub/commit")

    monkeypatch.setattr(pretrained, "HfApi", Hub)
    assert make_encoder().push_to_hub("me/codes", private=True, token="t") == "https://hub/commit"
    assert sent == {
        "token": "t",
        "repo_id": "me/codes",
        "private": True,
        "files": ["README.md", "config.json", "model.safetensors"],
    }


def test_a_hub_that_refuses_is_named(monkeypatch):
    class Hub:
        def __init__(self, token):
            pass

        def create_repo(self, *_, **__):
            raise OSError("no network\nmore")

    monkeypatch.setattr(pretrained, "HfApi", Hub)
    with pytest.raises(InputError, match="the hub did not take me/codes: no network$"):
        make_encoder().push_to_hub("me/codes")
