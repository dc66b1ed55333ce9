import multiprocessing
import os
import signal
import subprocess
import time

import pytest

from brcd_lightning.data.workers import block_worker_signals, require_workers
from brcd_lightning.errors import InputError


def worker(ready):
    block_worker_signals(0)
    ready.set()
    time.sleep(60)


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="the signals of this system do not name their sender")
def test_a_worker_ends_only_when_its_main_process_says_so():
    context = multiprocessing.get_context("spawn")  # in forks, threads of other tests' libraries would take signals
    ready = context.Event()
    process = context.Process(target=worker, args=(ready,), daemon=True)
    process.start()
    assert ready.wait(30)
    for name in ("TERM", "USR1", "USR2"):
        subprocess.run(["kill", f"-{name}", str(process.pid)], check=True)
    process.join(0.5)
    assert process.is_alive()
    os.kill(process.pid, signal.SIGTERM)
    process.join(30)
    assert process.exitcode == 0


def test_more_workers_than_a_machine_can_start_are_refused(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    require_workers("data.num_workers", 128)
    with pytest.raises(
        InputError, match="data.num_workers must be at most 128 on this machine, 64 a processor, got 129"
    ):
        require_workers("data.num_workers", 129)
