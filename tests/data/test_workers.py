import multiprocessing
import os
import re
import signal
import subprocess
import time

import pytest
from torch.utils.data import DataLoader, Dataset

from brcd_lightning.data.workers import block_worker_signals, lost_worker, require_workers
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
        InputError, match="data.num_workers must be at most 128 on this machine, 64 per processor, got 129"
    ):
        require_workers("data.num_workers", 129)


class Killed(Dataset):
    """Its worker gets SIGKILL, as by a kernel without memory."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_was_killed_is_told_with_its_remedy():
    with pytest.raises(RuntimeError) as error:
        list(DataLoader(Killed(), num_workers=1, worker_init_fn=block_worker_signals))
    assert re.fullmatch(
        r"a loader worker was lost \(DataLoader worker \(pid.*\).*\), most often because memory has run out; free "
        r"some, or lower data\.num_workers, .* then continue with resume=auto\.",
        lost_worker(error.value),
    )
    assert lost_worker(RuntimeError("expected scalar type Float")) is None
