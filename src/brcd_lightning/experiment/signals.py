"""Termination of a run by SIGTERM."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from brcd_lightning.errors import ExitCode, RunEnded


def asked_to_end(run_dir: Path) -> RunEnded:
    """The error of a run that received SIGTERM; its message says how to continue."""
    how = f"continue with the same options, resume=auto and hydra.run.dir={run_dir}."
    return RunEnded(f"asked to end (SIGTERM); {how}", ExitCode.PREEMPTED)


def end_when_asked(run_dir: Path) -> None:
    """Makes SIGTERM end this process at once, with a message on resuming; `ResumePoint` also saves a checkpoint."""
    process = os.getpid()

    def end(*_: object) -> None:
        if os.getpid() != process:  # a child that has not installed its own handlers yet
            os._exit(ExitCode.PREEMPTED)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # already terminating
        raise asked_to_end(run_dir)

    signal.signal(signal.SIGTERM, end)
