"""Launcher that submits the jobs of a multirun to SLURM with the plugin hydra-submitit-launcher."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from brcd_lightning.errors import ExitCode, InputError, RunEnded
from brcd_lightning.options import NonNegativeInt, PositiveInt, Text, require_option

_Word = Text | NonNegativeInt | None  # names of clusters may be numbers
_OPTIONS: dict[str, Any] = {
    "tasks_per_node (trainer.devices)": PositiveInt,
    "gpus_per_node": NonNegativeInt | None,
    "max_num_timeout": NonNegativeInt,
    "submitit_folder": Text,
    "name": Text,
    **dict.fromkeys(("partition", "account", "qos", "constraint", "exclude", "comment", "gres"), _Word),
    **dict.fromkeys(("gpus_per_task", "cpus_per_task", "cpus_per_gpu", "mem_gb"), PositiveInt | None),
    **dict.fromkeys(("mem_per_gpu", "mem_per_cpu"), _Word),
    **dict.fromkeys(("nodes", "timeout_min", "signal_delay_s", "array_parallelism"), PositiveInt),
    "stderr_to_stdout": bool,
    "additional_parameters": Mapping[str, str | int | float | bool | None],
    "setup": Sequence[Text] | None,
}
"""Types of the plugin's options."""


class SlurmLauncher(Launcher):
    """Submits every job to SLURM and waits for all; a job that times out is requeued and resumed.

    With ``resume=never`` such a job would start over, so it is not requeued.

    Args:
        tasks_per_node: processes per node, for `trainer.devices`.
        gpus_per_node: None asks for one per process, unless the trainer is for CPUs; 0 asks for none.
        max_num_timeout: maximum number of times that a timed-out job is requeued.
        options: other options of the plugin's launcher ``submitit_slurm``.

    Raises:
        InputError: if the plugin is not installed, and for invalid options.
    """

    def __init__(
        self, tasks_per_node: int, gpus_per_node: int | None = None, max_num_timeout: int = 100, **options: Any
    ) -> None:
        given = {"tasks_per_node (trainer.devices)": tasks_per_node, "gpus_per_node": gpus_per_node}
        for name, value in {**given, "max_num_timeout": max_num_timeout, **options}.items():
            if name in _OPTIONS:  # the plugin has further options
                require_option(f"hydra.launcher.{name}", value, _OPTIONS[name])
        try:
            from hydra_plugins.hydra_submitit_launcher import submitit_launcher  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise InputError("hydra/launcher=slurm needs a plugin: pip install hydra-submitit-launcher.") from error
        self._make_plugin = submitit_launcher.SlurmLauncher
        self._gpus_per_node, self._max_num_timeout = gpus_per_node, max_num_timeout
        self._options = {"tasks_per_node": tasks_per_node, **options}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `launch`; exit codes of failed jobs go to the task's `exit_codes`."""
        self._exit_codes: list[int] = getattr(task_function, "exit_codes", [])  # of `cli.train.TrainTask`
        gpus = self._gpus_per_node
        if gpus is None and config.trainer.accelerator != "cpu":
            gpus = self._options["tasks_per_node"]
        requeues = self._max_num_timeout if config.resume == "auto" else 0
        self._plugin = self._make_plugin(gpus_per_node=gpus or None, max_num_timeout=requeues, **self._options)
        self._plugin.setup(hydra_context=hydra_context, task_function=_Task(task_function), config=config)
        self._sweep_dir = Path(config.hydra.sweep.dir).resolve()
        self._dry_run = config.dry_run

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs the jobs; the value of each is its watched test metric, None if it did not finish."""
        from submitit.core.utils import FailedSubmissionError, UncompletedJobError  # noqa: PLC0415 (comes with it)

        if shutil.which("sbatch") is None:
            raise InputError("hydra/launcher=slurm: there is no command sbatch on this machine.")
        logs = self._sweep_dir / ".submitit"
        try:
            done = self._plugin.launch(job_overrides, initial_job_idx)
        except FailedSubmissionError as error:
            raise InputError(f"SLURM rejected the jobs: {' '.join(str(error).split())}") from error
        except UncompletedJobError as error:
            raise RunEnded(
                f"a job of SLURM ended without a result ({str(error).splitlines()[0]}); the others go on. Its output "
                f"is in {logs}; repeat the command with resume=auto to run the unfinished jobs again."
            ) from error
        for number, job in enumerate(done, initial_job_idx):
            if not self._has_finished(job):
                self._exit_codes.append(ExitCode.CRASH)
                sys.stdout.write(f"#{number} did not finish, see {logs}\n")
                # Otherwise Hydra would drop the results of all other jobs.
                job.status, job.return_value = JobStatus.COMPLETED, None
        return done

    def _has_finished(self, job: JobReturn) -> bool:
        from brcd_lightning.results.run_files import DONE, PRUNED  # noqa: PLC0415 (Hydra imports this file for every command)

        if self._dry_run:
            return True
        if job.hydra_cfg is None:  # it did not even start
            return False
        folder = Path(job.hydra_cfg.hydra.runtime.output_dir)
        return any((folder / name).exists() for name in (DONE, PRUNED))


class _Task:
    """The task of one SLURM job, which submitit signals by SIGUSR2 some time before its limit.

    submitit would requeue it at once, in the middle of a step. Here the run first ends as for SIGTERM, with a
    checkpoint, and submitit requeues it afterwards.
    """

    def __init__(self, function: TaskFunction) -> None:
        self._function = function

    def __call__(self, cfg: DictConfig) -> Any:
        requeue = signal.getsignal(signal.SIGUSR2)
        received: list[tuple[int, Any]] = []

        def end(number: int, frame: Any) -> None:
            received.append((number, frame))
            os.kill(os.getpid(), signal.SIGTERM)

        signal.signal(signal.SIGUSR2, end)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitCode.PREEMPTED))  # until the run has a handler
        try:
            return self._function(cfg)
        except SystemExit as ended:
            if received and callable(requeue):
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which SLURM sends to a requeued job
                requeue(*received[0])  # does not return, in the first process
            elif ended.code == ExitCode.PREEMPTED:
                raise  # cancelled, or pre-empted: then SLURM itself queues it again
        return None
