"""The command as a process: it listens, answers, and ends as documented."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from brcd_lightning.cli.main import run
from small_encoder import make_encoder, write_images


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    write_images(folder / "photos", 6)
    make_encoder().save_pretrained(folder / "model")
    assert run(["index", str(folder / "model"), str(folder / "photos"), "--out", str(folder / "index")]) == 0
    return folder


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_serves_until_it_is_asked_to_end(place, number, code):
    command = [sys.executable, "-m", "brcd_lightning", "serve", place / "index", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        line = process.stdout.readline()
        assert line.startswith("6 images, 16 bits, SSHP: http://127.0.0.1:"), line + process.stderr.read()
        with urllib.request.urlopen(line.split(": ", 1)[1].split()[0] + "/healthz", timeout=30) as answer:
            assert answer.status == 200
    finally:
        process.send_signal(number)
        told = process.communicate(timeout=30)[1]
    assert process.returncode in (code, 0), told
    assert "Traceback" not in told


def test_a_port_in_use_takes_one_line(place, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert run(["serve", str(place / "index"), "--port", str(taken.getsockname()[1])]) == 2
    told = capsys.readouterr().err
    assert "Address already in use; choose another --host or --port." in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "99999"], "--port must be in 0..65535, got 99999"),
        (["--threads", "0"], "threads must be a positive integer"),
        (["--max-megapixels", "200"], "max_megapixels must be at most 89"),
        (["--port", "0", "--root", "/nowhere"], "which is gone; say where they are by --root"),
    ],
)
def test_mistakes_take_one_line(place, capsys, arguments, message):
    assert run(["serve", str(place / "index"), *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_a_folder_that_is_no_index_is_named(place, capsys):
    assert run(["serve", str(place), "--port", "0"]) == 2
    assert "is no image index; make one with: brcd index" in capsys.readouterr().err
