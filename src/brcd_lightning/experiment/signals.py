"""The end of a run that was asked to end (SIGTERM)."""

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
    """From here on SIGTERM ends this process at once, and tells how to continue; `ResumePoint` does better."""
    process = os.getpid()

    def end(*_: object) -> None:
        if os.getpid() != process:  # a child that has not come to handlers of its own
            os._exit(ExitCode.PREEMPTED)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # on its way out already
        raise asked_to_end(run_dir)

    signal.signal(signal.SIGTERM, end)
