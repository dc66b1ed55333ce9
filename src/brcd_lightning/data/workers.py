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


def _wait(signals: Iterable[signal.Signals], main_process: int) -> None:
    while signal.sigwaitinfo(signals).si_pid != main_process:
        pass
    os._exit(0)
