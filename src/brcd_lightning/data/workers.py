"""Loader workers under batch systems that signal every process of a job, not only the main one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from threading import Thread

from brcd_lightning.errors import InputError

_MOST_PER_PROCESSOR = 64


def require_workers(name: str, value: int) -> None:
    """Raises `InputError` if `value` is more processes than this machine should start.

    Args:
        name: of the option, for the message.
        value: its value.
    """
    most = _MOST_PER_PROCESSOR * (os.cpu_count() or 1)
    if value > most:
        raise InputError(
            f"{name} must be at most {most} on this machine, {_MOST_PER_PROCESSOR} per processor, got {value}."
        )


def block_worker_signals(worker: int) -> None:
    """Makes a loader worker ignore termination signals that do not come from its main process.

    After such a signal, the main process still needs its workers to finish the step, to validate and to write a
    checkpoint.

    Args:
        worker: number of the worker, as passed by `torch.utils.data.DataLoader`.
    """
    if not hasattr(signal, "sigwaitinfo"):  # macOS, which has no batch system
        return
    signals = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    Thread(target=_wait, args=(signals, os.getppid()), daemon=True).start()


def lost_worker(error: RuntimeError) -> str | None:
    """The message for a run whose loader worker was killed; None for any other error.

    Args:
        error: error of a run; torch raises a plain `RuntimeError` for a lost worker.
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
