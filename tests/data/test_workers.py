import multiprocessing
import os
import signal
import subprocess
import time

import pytest

from brcd_lightning.data.workers import block_worker_signals


def worker(ready):
    block_worker_signals(0)
    ready.set()
    time.sleep(60)


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="the signals of this system do not name their sender")
def test_a_worker_ends_only_when_its_main_process_says_so():
    context = multiprocessing.get_context(
        "spawn"
    )  # libraries of other tests start threads in forks
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
