"""Processes of commands end at once, and leave nothing undone."""

import os
import subprocess
import sys

import pytest

DAEMON = "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
WAITED_FOR = "threading.Thread(target=lambda: (time.sleep(0.3), print('thread done'))).start()"


def end(code, *, before="", stdout=subprocess.PIPE):
    """A process that prints a line without a flush and ends."""
    script = (
        "import atexit, threading, time\nfrom brcd_lightning.process import end_process\n"
        "class Slow:\n    def __del__(self): print('taken apart', flush=True)\n"
        f"kept = Slow()\natexit.register(print, 'registered')\n{before}\nprint('printed')\nend_process({code})"
    )
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-c", script],
        env=buffered,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("code", [0, 2, 130])
@pytest.mark.parametrize("before", ["", DAEMON])
def test_output_is_flushed_and_registered_functions_run(code, before):
    ended = end(code, before=before)
    assert ended.returncode == code
    assert ended.stdout.splitlines() == ["printed", "registered"], "and nothing was taken apart"
    assert ended.stderr == ""


def test_threads_are_waited_for():
    ended = end(2, before=WAITED_FOR)
    assert ended.returncode == 2
    assert ended.stdout.splitlines() == ["printed", "thread done", "registered"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_lost_output_is_no_success():
    with open("/dev/full", "w") as full:
        assert end(0, stdout=full).returncode == 1
        assert end(2, stdout=full).returncode == 2
