"""Errors become messages and exit codes, and what was printed is there when a process has ended."""

import os
import subprocess
import sys

import pytest

from brcd_lightning.cli.run import exit_code_of
from brcd_lightning.errors import ExitCode, InputError, RunEnded


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (InputError("bits must be a positive integer, got 0."), 2, "error: bits must be a positive integer, got 0.\n"),
        (InputError("a\nb \x1b[2J \udcff é.png"), 2, "error: a\\nb \\x1b[2J \\udcff é.png\n"),
        (
            InputError(
                "Caught InputError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  .\n"
                "brcd_lightning.errors.InputError: image a.png cannot be decoded.\n"
            ),
            2,
            "error: image a.png cannot be decoded.\n",
        ),
        (RunEnded("a process was lost."), 1, "error: a process was lost.\n"),
        (RunEnded("pruned.", ExitCode.PRUNED), 0, "ended early: pruned.\n"),
        (RunEnded("asked to end.", ExitCode.PREEMPTED), 143, "error: asked to end.\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_expected_errors_take_one_line(capsys, error, code, text):
    def action():
        raise error

    assert exit_code_of(action) == code
    assert capsys.readouterr().err == text


def test_a_bug_keeps_its_traceback(capsys):
    assert exit_code_of(lambda: 1 // 0) == ExitCode.CRASH == 1
    assert "Traceback" in (text := capsys.readouterr().err)
    assert "ZeroDivisionError" in text


def end(code, stdout=subprocess.PIPE):
    """A process that prints a line without a flush and ends."""
    script = (
        "import atexit, threading, time\nfrom brcd_lightning.cli.run import finish\n"
        "atexit.register(print, 'registered', flush=True)\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('thread done'))).start()\n"
        f"print('printed')\nfinish({code})"
    )
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-c", script],
        env=buffered,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("code", [0, 2, 130])
def test_output_is_flushed_threads_are_waited_for_and_registered_functions_run(code):
    ended = end(code)
    assert ended.returncode == code
    assert ended.stdout.splitlines() == ["printed", "thread done", "registered"]
    assert ended.stderr == ""


def test_ctrl_c_once_more_does_not_disturb_the_end():
    script = (
        "import atexit, os, signal\nfrom brcd_lightning.cli.run import finish\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGINT)\nfinish(130)"
    )
    ended = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (130, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_lost_output_is_no_success():
    with open("/dev/full", "w") as full:
        assert end(0, stdout=full).returncode == 1
        assert end(2, stdout=full).returncode == 2
