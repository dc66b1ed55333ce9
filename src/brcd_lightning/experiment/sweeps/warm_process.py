"""Processes that start with the libraries of a run loaded, as forks of one server that has imported them."""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import wait
from pathlib import Path
from threading import Lock, Thread
from typing import cast

_FORKS = sys.platform == "linux"
"""Elsewhere, system libraries do not survive a fork, so each process starts from scratch and imports by itself."""
_LOADED = ["brcd_lightning.cli.train", "brcd_lightning.cli.libraries", "brcd_lightning.experiment.run"]
"""Modules that the server imports for its processes."""
_ENVIRONMENT_OF_SERVER = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
"""Prevents imports from initialising CUDA, which a fork cannot use."""
_changing = Lock()
"""Held while multiprocessing starts a process or reads an exit code, because it polls all processes at once."""


class WarmProcess:
    """Runs ``python -m MODULE ARGUMENTS`` in its own session, without the seconds that imports take.

    Environment variables that libraries read when they are loaded, such as ``OMP_NUM_THREADS``, keep the values of the
    first process.

    Args:
        module: module with a main function that runs under ``__name__ == "__main__"``.
        arguments: command-line arguments.
        folder: working directory.
        environment: all variables of the process.
        stdout: file for standard output; it is truncated.
        stderr: file for standard error; the same as `stdout` for both in one.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        stdout: Path,
        stderr: Path,
    ) -> None:
        context = multiprocessing.get_context("forkserver") if _FORKS else multiprocessing.get_context("spawn")
        command = (module, list(arguments), folder.resolve(), dict(environment), stdout.resolve(), stderr.resolve())
        self._process = context.Process(target=_run, args=command)
        with _changing:
            _start_server(environment)
            self._process.start()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Waits for the end of the process.

        Args:
            timeout_s: maximum time to wait in seconds; None for no limit.

        Returns:
            The exit code, negative for a signal; None if the process still runs.
        """
        if not wait([self._process.sentinel], timeout_s):
            return None
        with _changing:
            self._process.join()
            return cast(int, self._process.exitcode)

    def stop(self, grace_s: float) -> None:
        """Sends SIGTERM, so that the process writes a checkpoint and ends; kills it after `grace_s` seconds."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        self.wait(grace_s)
        self.end()

    def end(self) -> None:
        """Kills all remaining processes of the session."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    @property
    def pid(self) -> int:
        """Process id, which is also the session id."""
        return cast(int, self._process.pid)


def _start_server(environment: Mapping[str, str]) -> None:
    """Starts the server if none runs."""
    if not _FORKS:
        return
    multiprocessing.set_forkserver_preload(_LOADED)
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update({**environment, **_ENVIRONMENT_OF_SERVER})
    try:
        import_module("multiprocessing.forkserver").ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _run(
    module: str, arguments: list[str], folder: Path, environment: dict[str, str], stdout: Path, stderr: Path
) -> None:
    """The process itself; `SystemExit` sets its exit code."""
    gc.freeze()  # loaded libraries never become garbage, see `cli.loading`
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    Thread(target=_end_with_starter, daemon=True).start()
    written = os.open(stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(written, 1)
    os.dup2(written if stderr == stdout else os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), 2)
    multiprocessing.set_start_method(None, force=True)  # the processes that a run starts are not forks of the server
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends its processes without them


def _end_with_starter() -> None:
    """Sends SIGTERM to this process when its parent is gone, so that its folder becomes free."""
    starter = multiprocessing.parent_process()
    if starter is not None:
        wait([starter.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
