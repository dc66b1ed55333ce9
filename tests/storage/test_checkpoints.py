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
        weights = AtomicCheckpointIO().load_checkpoint(str(target))["w"]
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
