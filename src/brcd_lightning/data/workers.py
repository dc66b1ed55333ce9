"""Loader workers where a batch system signals every process of a job, not only the main one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from threading import Thread

from brcd_lightning.errors import InputError

_MOST_PER_PROCESSOR = 64


def require_workers(name: str, value: int) -> None:
    """Raises `InputError` unless `value` is a number of processes that this machine can start.

    Args:
        name: of the option, for the message.
        value: its value.
    """
    most = _MOST_PER_PROCESSOR * (os.cpu_count() or 1)
    if value > most:
        raise InputError(
            f"{name} must be at most {most} on this machine, {_MOST_PER_PROCESSOR} a processor, got {value}."
        )


def block_worker_signals(worker: int) -> None:
    """Has a loader worker end when its main process says so, and not by signals of anybody else.

    The main process needs its workers to end the running step, to validate, and to write a checkpoint.

    Args:
        worker: its number, as `torch.utils.data.DataLoader` gives it.
    """
    if not hasattr(signal, "sigwaitinfo"):  # macOS, which has no batch system
        return
    signals = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    Thread(target=_wait, args=(signals, os.getppid()), daemon=True).start()


def lost_worker(error: RuntimeError) -> str | None:
    """The message for a run whose loader worker was killed, None for any other error.

    Args:
        error: of a run; torch raises a plain `RuntimeError` for a lost worker.
    """
    told = str(error).partition("\n")[0].strip().rstrip(".")
    if not told.startswith("DataLoader worker"):
        return None
    return (
        f"a loader worker was lost ({told}), most often because memory has run out; free some, or lower "
        "data.num_workers, view_store.num_workers or data.batch_size, then continue with resume=auto."
    )


def _wait(signals: Iterable[signal.Signals], main_process: int) -> None:
    while signal.sigwaitinfo(signals).si_pid != main_process:
        pass
    os._exit(0)
