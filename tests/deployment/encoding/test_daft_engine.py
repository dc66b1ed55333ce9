"""Worker processes of Daft write the files of threads, and what happens to them is told in one line."""

import os
import sys
from functools import partial

import pytest

pytest.importorskip("daft", reason="the extra 'daft' is not installed")

from brcd_lightning.data.image_names import image_names
from brcd_lightning.deployment.encoding.corpus import EncodeOptions, encode_corpus
from brcd_lightning.deployment.encoding.daft_engine import DaftEngine
from brcd_lightning.deployment.encoding.encoder import HashEncoder
from brcd_lightning.deployment.encoding.parts import part_path
from brcd_lightning.errors import InputError, RunEnded
from conftest import run_command
from small_encoder import make_encoder, write_images

OPTIONS = EncodeOptions(batch_size=4, part_size=6, progress=False)


class Failing:
    """Writes down the process of each batch; ends the process, or fails, where a file says so."""

    name = "torch"

    def __init__(self, encoder, folder):
        self._encoder, self._folder = encoder, folder

    def __call__(self, pixels):
        (self._folder / f"seen-{os.getpid()}").touch()
        if (self._folder / "kill").exists():
            os.kill(os.getpid(), 9)
        if (self._folder / "fail").exists():
            raise RuntimeError("no\nmemory")
        return self._encoder.encode_pixels(pixels)


def load(folder):
    encoder = HashEncoder.from_pretrained(folder / "model")
    return HashEncoder(encoder.network, encoder.description, Failing(encoder, folder))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # workers import this file
    write_images(tmp_path / "photos", 33)
    (tmp_path / "photos" / "005.png").write_bytes(b"")
    make_encoder().save_pretrained(tmp_path / "model")
    return tmp_path


def encoded(place, out, engine=None):
    return encode_corpus(make_encoder(), image_names(place / "photos"), place / out, OPTIONS, engine=engine)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_two_processes_write_the_files_of_one(place):
    expected = encoded(place, "threads")
    found = encoded(place, "daft", DaftEngine(partial(load, place), workers=2))
    assert content(place / "daft") == content(place / "threads")
    assert found.unreadable == expected.unreadable == {"005.png": "the file is empty"}
    assert (found.images, found.finished) == (33, True)
    seen = {path.name for path in place.glob("seen-*")}
    assert len(seen) == 2
    assert f"seen-{os.getpid()}" not in seen


@pytest.mark.slow
@pytest.mark.parametrize(("how", "message"), [("fail", "RuntimeError: no memory"), ("kill", "closed the connection")])
def test_a_worker_that_fails_takes_one_line_and_the_same_command_continues(place, how, message):
    engine = DaftEngine(partial(load, place), workers=1, threads=2)
    encoded(place, "expected")
    encoded(place, "codes")
    for number in (0, 3):
        part_path(place / "codes", number).unlink()
    (place / how).touch()
    with pytest.raises(RunEnded) as raised:
        encoded(place, "codes", engine)
    assert message in str(raised.value)
    assert str(raised.value).endswith("; the same command continues.")
    assert "\n" not in str(raised.value)
    assert not part_path(place / "codes", 0).exists()
    (place / how).unlink()
    assert encoded(place, "codes", engine).images == 12, "only what is missing"
    assert content(place / "codes") == content(place / "expected")


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["native", "ray"])
def test_the_command_writes_the_files_of_threads(place, runner):
    if runner == "ray":
        pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    command = ["encode", "model", "photos", "--part-size", "6", "--out"]
    environment = {"DAFT_RUNNER": runner, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    assert run_command(*command, "threads", cwd=place, module="brcd_lightning").returncode == 0
    command += ["daft", "--engine", "daft", "--workers", "2"]
    done = run_command(*command, cwd=place, module="brcd_lightning", env=environment)
    assert done.returncode == 0, done.stderr
    assert "Encoded 33 of 33 images" in done.stdout
    assert content(place / "daft") == content(place / "threads")


@pytest.mark.parametrize(("runner", "message"), [("ray", "install Ray"), ("other", "see DAFT_RUNNER")])
def test_a_runner_that_does_not_start_is_named(place, monkeypatch, runner, message):
    def refuse():
        raise ImportError("No module named 'ray'") if runner == "ray" else ValueError("Invalid runner type")

    monkeypatch.setattr("daft.get_or_create_runner", refuse)
    with pytest.raises(InputError, match=rf"Daft's runner does not start \(.*\); {message}"):
        encoded(place, "codes", DaftEngine(partial(load, place)))


@pytest.mark.slow
def test_a_worker_with_another_encoder_is_refused(place):
    make_encoder(seed=1).save_pretrained(place / "model")
    with pytest.raises(InputError, match="a worker has loaded encoder .* instead of .*all machines must see the same"):
        encoded(place, "codes", DaftEngine(partial(load, place), workers=1))


@pytest.mark.parametrize("option", ["workers", "threads"])
def test_wrong_options_are_named(option):
    with pytest.raises(InputError, match=f"--{option} must be a positive integer or null, got 0"):
        DaftEngine(print, **{option: 0})
