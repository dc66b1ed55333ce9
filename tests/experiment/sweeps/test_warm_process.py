import json
import os
import signal
import sys
from contextlib import suppress

import pytest

from brcd_lightning.experiment.sweeps.warm_process import WarmProcess

PROGRAMS = {
    "facts": """
import atexit, json, multiprocessing, os, sys
atexit.register(print, "at exit")
facts = {
    "argv": sys.argv[1:], "name": __name__, "spec": sys.modules["__main__"].__spec__.name, "folder": os.getcwd(),
    "environment": dict(os.environ), "leader": os.getsid(0) == os.getpid(),
    "start_method": multiprocessing.get_start_method(), "loaded": "lightning" in sys.modules,
}
print(json.dumps(facts))
print("an error", file=sys.stderr)
sys.exit(7)
""",
    "endless": """
import signal, subprocess, sys, time
subprocess.Popen(["sleep", "600"])
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("started", flush=True)
time.sleep(600)
""",
    "broken": "1 / 0",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with programs that can be imported from there."""
    folder = tmp_path_factory.mktemp("programs")
    for name, text in PROGRAMS.items():
        (folder / f"program_{name}.py").write_text(text)
    return folder


@pytest.fixture
def started(folder, tmp_path, monkeypatch):
    def start(name, *arguments, stderr="stderr", **environment):
        monkeypatch.syspath_prepend(folder)
        files = [tmp_path / "stdout", tmp_path / stderr]
        return WarmProcess(f"program_{name}", arguments, tmp_path, environment, *files)

    return start


def wait_for(path, text):
    while not path.is_file() or text not in path.read_text():
        os.sched_yield()


def test_a_module_runs_as_a_command_of_its_own(started, tmp_path):
    process = started("facts", "a", "b=c d", ONLY="this")
    assert process.wait(120) == 7
    line, last = (tmp_path / "stdout").read_text().splitlines()
    assert json.loads(line) == {
        "argv": ["a", "b=c d"],
        "name": "__main__",
        "spec": "program_facts",
        "folder": str(tmp_path),
        "environment": {"ONLY": "this"},
        "leader": True,
        "start_method": "fork" if sys.version_info < (3, 14) else "forkserver",
        "loaded": True,
    }
    assert last == "at exit"
    assert (tmp_path / "stderr").read_text() == "an error\n"


def test_both_outputs_can_go_to_one_file_and_a_crash_is_told(started, tmp_path):
    assert started("broken", stderr="stdout").wait(120) == 1
    assert "ZeroDivisionError" in (tmp_path / "stdout").read_text()
    assert not (tmp_path / "stderr").exists()


@pytest.mark.parametrize(("arguments", "ending"), [((), signal.SIGTERM), (("stubborn",), signal.SIGKILL)])
def test_a_process_is_ended_with_what_it_started(started, tmp_path, arguments, ending):
    process = started("endless", *arguments)
    wait_for(tmp_path / "stdout", "started")
    assert process.wait(0.1) is None
    session = process.pid
    process.stop(grace_s=0.5)
    assert process.wait() == -ending
    with suppress(ProcessLookupError):
        while True:  # until all are gone
            os.killpg(session, 0)
            os.sched_yield()
