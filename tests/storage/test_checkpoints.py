import json
import multiprocessing
import os
import pickle
import tempfile
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from brcd_lightning.errors import InputError
from brcd_lightning.storage.atomic import remove_temporaries, sha256_of
from brcd_lightning.storage.checkpoints import (
    AtomicCheckpointIO,
    load_network,
    read_architecture,
    read_tensors,
    save_network,
)
from conftest import make_network

ARCHITECTURE = {"bits": 16, "backbone": {"name": "small"}}


@pytest.fixture(params=["safetensors", "ckpt"])
def checkpoint(tmp_path, request):
    network = make_network(seed=1)
    path = tmp_path / f"model.{request.param}"
    if request.param == "safetensors":
        save_network(path, network, ARCHITECTURE | {"about": {"seed": 1}})
    else:
        state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
        content = {"state_dict": state | {"kd_method.bank": torch.ones(2)}}
        AtomicCheckpointIO().save_checkpoint(content | {"hyper_parameters": {"architecture": ARCHITECTURE}}, str(path))
    return path, network


def test_round_trip(checkpoint):
    path, network = checkpoint
    other = make_network(seed=2)
    found = load_network(path, other, ARCHITECTURE, "student")
    assert found["bits"] == 16
    for name, tensor in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)


def test_another_architecture_is_refused(checkpoint):
    path, _ = checkpoint
    with pytest.raises(InputError, match="teacher checkpoint .* has bits 16 but the configuration asks for 32"):
        load_network(path, make_network(bits=32), ARCHITECTURE | {"bits": 32}, "teacher")
    with pytest.raises(InputError, match="has backbone {'name': 'small'} but the configuration asks for"):
        load_network(path, make_network(), ARCHITECTURE | {"backbone": {"name": "resnet18"}}, "student")


def test_another_shape_under_the_same_description_is_refused(checkpoint):
    path, _ = checkpoint
    with pytest.raises(InputError, match="student checkpoint .* does not fit the network"):
        load_network(path, make_network(widths=(8,)), ARCHITECTURE, "student")


def test_damaged_and_foreign_files_are_refused(checkpoint, tmp_path):
    path, _ = checkpoint
    truncated = tmp_path / f"truncated{path.suffix}"
    truncated.write_bytes(path.read_bytes()[:100])
    text = tmp_path / f"text{path.suffix}"
    text.write_text("hello")
    for file in (truncated, text):
        with pytest.raises(InputError, match=file.name):
            load_network(file, make_network(), ARCHITECTURE, "student")
    with pytest.raises(InputError, match="does not exist"):
        read_tensors(tmp_path / "missing.ckpt")


def test_weights_without_a_description_are_refused(tmp_path):
    torch.save({"state_dict": make_network().state_dict()}, tmp_path / "bare.ckpt")
    with pytest.raises(InputError, match="does not say what network it holds"):
        read_architecture(tmp_path / "bare.ckpt")


def _rewritten(path, change_tensors=dict, change_description=str):
    """A safetensors file with other tensors or another description (text)."""
    with safe_open(path, framework="pt") as file:
        text = file.metadata()["brcd_lightning"]
    changed = path.with_name("changed.safetensors")
    save_file(change_tensors(read_tensors(path)), changed, {"brcd_lightning": change_description(text)})
    return changed


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "saved.safetensors"
    save_network(path, make_network(seed=1), ARCHITECTURE | {"about": {"seed": 1}})
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda tensor: -tensor,
        lambda tensor: tensor.double(),
        lambda tensor: tensor.to(torch.int32),
        lambda tensor: tensor.flatten(),
    ],
)
def test_weights_that_are_not_those_that_were_written_are_refused(saved, change):
    changed = _rewritten(saved, lambda tensors: {name: change(tensor) for name, tensor in tensors.items()})
    with pytest.raises(InputError, match=r"changed\.safetensors is damaged: its weights do not match their checksum"):
        load_network(changed, make_network(), ARCHITECTURE, "student")


def _without_digest(text):
    return json.dumps({key: value for key, value in json.loads(text).items() if key != "weights_sha256"})


def test_a_file_of_the_release_before_has_no_checksum(saved):
    old = _rewritten(saved, change_description=_without_digest)
    assert "weights_sha256" not in read_architecture(saved)
    assert load_network(old, make_network(), ARCHITECTURE, "student") == read_architecture(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensor: tensor / 0, "holds non-finite values in "),
        (lambda tensor: tensor.to(torch.complex64), "holds torch.complex64 as "),
        (lambda tensor: tensor > 0, "holds torch.bool as "),
    ],
)
def test_values_that_are_no_weights_are_refused(saved, change, message):
    def changed(tensors):
        return {name: change(value) if value.is_floating_point() else value for name, value in tensors.items()}

    with pytest.raises(InputError, match=rf"changed\.safetensors {message}"):
        load_network(_rewritten(saved, changed, _without_digest), make_network(), ARCHITECTURE, "student")


@pytest.mark.parametrize("text", ["{nope", "[" * 100_000, '{"hashing_model": {"_target_": 5}}'])
def test_a_damaged_description_is_named(saved, text):
    with pytest.raises(InputError, match=r"changed\.safetensors holds a damaged description"):
        read_architecture(_rewritten(saved, change_description=lambda _: text))


@pytest.mark.parametrize("about", [None, [1], "x"])
def test_facts_about_a_network_have_names(saved, about):
    changed = _rewritten(saved, change_description=lambda text: json.dumps(json.loads(text) | {"about": about}))
    with pytest.raises(InputError, match="does not say what network it holds"):
        read_architecture(changed)


@pytest.mark.parametrize("parameters", [None, [1], {"architecture": [1]}])
def test_a_checkpoint_of_another_program_is_named(tmp_path, parameters):
    torch.save({"state_dict": [1], "hyper_parameters": parameters}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="does not say what network it holds"):
        read_architecture(tmp_path / "other.ckpt")
    with pytest.raises(InputError, match=r"other\.ckpt must hold a dict of tensors by name"):
        read_tensors(tmp_path / "other.ckpt")
    torch.save({1: torch.ones(1)}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match=r"other\.ckpt must hold a dict of tensors by name"):
        read_tensors(tmp_path / "other.ckpt")


def test_a_pickle_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps(Evil()))
    torch.save({"state_dict": Evil()}, tmp_path / "evil2.ckpt")
    for name in ("evil.ckpt", "evil2.ckpt"):
        with pytest.raises(InputError, match="weights_only=True"):
            read_tensors(tmp_path / name)
    assert not (tmp_path / "owned").exists()


def test_equal_weights_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        save_network(tmp_path / f"{name}.safetensors", make_network(seed=3), ARCHITECTURE)
    assert sha256_of(tmp_path / "a.safetensors") == sha256_of(tmp_path / "b.safetensors")


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, pickle.dumps({"epoch": 1})])
def test_a_training_does_not_continue_from_a_damaged_file(tmp_path, content):
    (tmp_path / "resume.ckpt").write_bytes(content)
    with pytest.raises(InputError, match=r"resume\.ckpt is not a checkpoint that loads with weights_only=True"):
        AtomicCheckpointIO().load_checkpoint(str(tmp_path / "resume.ckpt"))


def test_a_training_does_not_continue_without_its_state(tmp_path):
    AtomicCheckpointIO().save_checkpoint({"state_dict": {}, "epoch": 1}, str(tmp_path / "resume.ckpt"))
    with pytest.raises(
        InputError, match=r"resume\.ckpt lacks callbacks, global_step, .*Remove it to restart the stage"
    ):
        AtomicCheckpointIO().load_checkpoint(str(tmp_path / "resume.ckpt"))


def test_a_training_does_not_continue_with_weights_that_are_no_numbers(tmp_path):
    content = dict.fromkeys(("callbacks", "epoch", "global_step", "loops", "optimizer_states"), 0)
    content["state_dict"] = {"network.weight": torch.tensor([1.0, float("nan")])}
    AtomicCheckpointIO().save_checkpoint(content, str(tmp_path / "resume.ckpt"))
    with pytest.raises(InputError, match=r"resume\.ckpt holds non-finite values in network\.weight; remove it"):
        AtomicCheckpointIO().load_checkpoint(str(tmp_path / "resume.ckpt"))


def test_an_unwritable_folder_is_an_error_not_a_silence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        AtomicCheckpointIO().save_checkpoint({}, str(tmp_path / "file" / "model.ckpt"))


def test_a_kill_while_writing_leaves_a_whole_checkpoint(tmp_path, monkeypatch):
    """Also where the system's temporary folder is on another file system, through which Lightning would write."""
    elsewhere = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    target, kills = tmp_path / "resume.ckpt", 0

    def write():
        torch.set_num_threads(1)  # threads do not survive a fork
        for version in count():
            AtomicCheckpointIO().save_checkpoint({"w": torch.full((3_000_000,), version)}, str(target))

    for _ in range(14):
        process = multiprocessing.get_context("fork").Process(target=write)
        process.start()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if target.exists() and _half_written(tmp_path):
                break
        process.kill()
        process.join()
        kills += any(tmp_path.glob(".*.tmp*"))
        weights = torch.load(target, weights_only=True)["w"]
        assert (weights == weights[0]).all()
        remove_temporaries(tmp_path)  # as every run does at its start
        assert list(tmp_path.iterdir()) == [target]
    assert kills >= 7  # the others were between two writes
    assert not list(elsewhere.iterdir())
    elsewhere.rmdir()


def _half_written(folder):
    for path in folder.glob(".*.tmp*"):
        with suppress(FileNotFoundError):
            if path.stat().st_size > 1_000_000:
                return True
    return False
