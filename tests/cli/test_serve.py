"""The command as a process: it listens, answers, and ends as documented."""

import io
import re
import signal
import socket
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from brcd_lightning.cli.main import run
from conftest import StartedCommand
from small_encoder import make_encoder, write_images


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    write_images(folder / "photos", 6)
    make_encoder().save_pretrained(folder / "model")
    assert run(["index", str(folder / "model"), str(folder / "photos"), "--out", str(folder / "index")]) == 0
    return folder


@contextmanager
def served(folder, *options):
    """A server as a process of its own, and its address."""
    process = StartedCommand("serve", folder, "--port", "0", *options, cwd=folder.parent, module="brcd_lightning")
    try:
        process.wait_for(lambda: "http://127.0.0.1:" in process.stdout)
        yield process, process.stdout.split(": ", 1)[1].split()[0]
    finally:
        process.end()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_serves_until_it_is_asked_to_end(place, number, code):
    with served(place / "index") as (process, address):
        with urllib.request.urlopen(address + "/healthz", timeout=30) as answer:
            assert answer.status == 200
        process.send(number)
        assert process.wait(timeout=30) in (code, 0), process.stderr
    assert "Traceback" not in process.stderr


def test_a_port_in_use_takes_one_line(place, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert run(["serve", str(place / "index"), "--port", str(taken.getsockname()[1])]) == 2
    told = capsys.readouterr().err
    assert "Address already in use; choose another --host or --port." in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "99999"], "--port must be an integer in 0..65535, got '99999'"),
        (["--threads", "0"], "--threads must be an integer in 1..1024, got '0'"),
        (["--max-megapixels", "200"], "max_megapixels must be an integer of at least 1 and at most 89"),
        (["--port", "0", "--root", "/nowhere"], "which is gone; give their folder by --root"),
    ],
)
def test_mistakes_take_one_line(place, capsys, arguments, message):
    assert run(["serve", str(place / "index"), *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_a_folder_that_is_no_index_is_named(place, capsys):
    assert run(["serve", str(place), "--port", "0"]) == 2
    assert "is not an image index; make one with: brcd index" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of a process from /proc")
def test_sixteen_clients_with_large_images_take_no_more_memory_than_one(place):
    buffer = io.BytesIO()
    Image.new("RGB", (4000, 3000), "teal").save(buffer, "PNG")  # 36 MB of pixels in a small file

    def peak_of(clients, requests):
        with served(place / "index") as (process, address), ThreadPoolExecutor(clients) as pool:

            def ask(_):
                with urllib.request.urlopen(address + "/search", buffer.getvalue(), timeout=120) as answer:
                    return answer.status

            assert set(pool.map(ask, range(requests))) == {200}
            status = Path(f"/proc/{process.pid}/status").read_text()
            return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024

    assert (
        peak_of(16, 48) < peak_of(1, 2) + 150
    )  # all sixteen at once have 576 MB of pixels, twice where they are converted
