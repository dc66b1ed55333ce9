"""Launcher that runs the jobs of a multirun as separate processes on this machine.

Jobs in one process share its global state: torch.distributed's group, wandb's run, and the random generators. Here
each job has its own process, may use several devices, and may fail or hang without affecting the others. Only imports
are shared.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Annotated, Any

from annotated_types import Interval
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from brcd_lightning.errors import ExitCode, InputError
from brcd_lightning.experiment.sweeps.warm_process import WarmProcess
from brcd_lightning.options import NonNegativeInt, Positive, PositiveInt, checked
from brcd_lightning.results.run_files import SWEEP_STATUS

LOG = "console.log"
_Jobs = Annotated[int, Interval(ge=1, le=1024)]  # a thread waits for each
_GRACE_S = 30
# Variables that a data-parallel run sets, and that its child processes must not inherit.
_OF_A_RUN = ("LOCAL_RANK", "NODE_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED")


class ProcessLauncher(Launcher):
    """Runs every job as ``python -m brcd_lightning.train`` in its own session, several at once.

    Output goes to ``console.log`` in the job's folder, the state of all jobs to ``sweep_status.json`` in the sweep's.
    A failed job is listed there and does not stop the others.

    Args:
        jobs: maximum number of concurrent jobs; None for one, or as many as `gpus` allow.
        gpus: indices of the GPUs to distribute; None gives all GPUs to every job.
        gpus_per_job: number of these GPUs per job.
        timeout_s: time limit of a job in seconds; None for no limit.

    Raises:
        InputError: for invalid options.
    """

    @checked("hydra.launcher")
    def __init__(
        self,
        jobs: _Jobs | None = None,
        gpus: Sequence[NonNegativeInt] | None = None,
        gpus_per_job: PositiveInt = 1,
        timeout_s: Positive | None = None,
    ) -> None:
        shared = list(gpus or ())
        slots = len(shared) // gpus_per_job
        if gpus is not None and not slots:
            raise InputError(f"hydra.launcher.gpus={shared} are too few for gpus_per_job={gpus_per_job}.")
        self.jobs = jobs if jobs is not None else max(1, slots)
        if slots and self.jobs > slots:
            raise InputError(f"hydra.launcher.jobs must be at most {slots} with these GPUs, got {self.jobs}.")
        self.timeout_s = timeout_s
        self._slots: SimpleQueue[list[int] | None] = SimpleQueue()
        for number in range(self.jobs):
            self._slots.put(shared[number * gpus_per_job : (number + 1) * gpus_per_job] if slots else None)
        self._processes: set[WarmProcess] = set()
        self._status: dict[int, dict[str, Any]] = {}
        self._noting = Lock()

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `launch`; exit codes of failed jobs go to the task's `exit_codes`."""
        self.hydra_context, self.config = hydra_context, config
        self._exit_codes: list[int] = getattr(task_function, "exit_codes", [])  # of `cli.train.TrainTask`

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs the jobs; the value of each is its watched test metric, None if it failed."""
        setup_globals()
        self._sweep_dir = Path(self.config.hydra.sweep.dir).resolve()
        self._sweep_dir.mkdir(parents=True, exist_ok=True)
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        for number, overrides in zip(numbers, job_overrides, strict=True):
            self._note(number, state="waiting", overrides=list(overrides))
        self._say(f"{len(job_overrides)} jobs, {self.jobs} at once; sweep folder: {self._sweep_dir}")
        configs = [self._config(*job) for job in zip(numbers, job_overrides, strict=True)]
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitCode.PREEMPTED))
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                return list(pool.map(self._run, numbers, job_overrides, configs))
            except BaseException:  # jobs have their own sessions, which signals to this process do not reach
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list(self._processes):
                    process.stop(_GRACE_S)
                raise
            finally:
                signal.signal(signal.SIGTERM, before)

    def _config(self, number: int, overrides: Sequence[str]) -> DictConfig:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(number), number
        return config

    def _run(self, number: int, overrides: Sequence[str], config: DictConfig) -> JobReturn:
        folder = self._sweep_dir / config.hydra.sweep.subdir
        folder.mkdir(parents=True, exist_ok=True)
        gpus = self._slots.get()
        self._note(number, state="running", folder=str(folder))
        self._say(f"#{number} {' '.join(overrides)}")
        started = time.monotonic()
        code = self._run_process(overrides, folder, gpus)
        self._slots.put(gpus)
        seconds = round(time.monotonic() - started, 1)
        self._note(number, state="failed" if code else "finished", exit_code=int(code), seconds=seconds)
        if code:
            self._exit_codes.append(abs(code))
        what = f"ended after {self.timeout_s} s" if code == ExitCode.TIMED_OUT else f"failed with exit code {code}"
        self._say(f"#{number} {f'{what}, see {folder / LOG}' if code else f'finished in {seconds} s'}")
        from brcd_lightning.results.record import recorded_metric  # noqa: PLC0415 (as in `_note`)

        # Completed even if it failed, because Hydra would drop the results of all other jobs.
        return JobReturn(
            overrides=list(overrides),
            cfg=config,
            working_dir=str(folder),
            task_name="train",
            status=JobStatus.COMPLETED,
            _return_value=None if code else recorded_metric(folder, config.paradigm.monitor),
        )

    def _run_process(self, overrides: Sequence[str], folder: Path, gpus: Sequence[int] | None) -> int:
        """Runs a job to its end in its own process; returns its exit code."""
        arguments = [*overrides, f"hydra.run.dir={folder}", "hydra.mode=RUN", "hydra/launcher=basic"]
        log = folder / LOG
        log.unlink(missing_ok=True)  # a link would lead to a file somewhere else
        process = WarmProcess("brcd_lightning.train", arguments, Path.cwd(), self._environment(gpus), log, log)
        self._processes.add(process)
        code = process.wait(self.timeout_s)
        if code is None:
            process.stop(_GRACE_S)
        process.end()  # its own processes end with it
        self._processes.discard(process)
        return ExitCode.TIMED_OUT if code is None else code

    def _environment(self, gpus: Sequence[int] | None) -> dict[str, str]:
        environment = {key: value for key, value in os.environ.items() if key not in _OF_A_RUN}
        if gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
        if self.jobs > 1:  # or every job would start a thread for every processor
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self.jobs)))
        return environment

    def _note(self, number: int, **facts: Any) -> None:
        from brcd_lightning.storage.atomic import write_text  # noqa: PLC0415 (Hydra imports this file for every command)

        with self._noting:  # or an older state could be written last
            self._status[number] = self._status.get(number, {"job": number}) | facts
            write_text(self._sweep_dir / SWEEP_STATUS, json.dumps(list(self._status.values()), indent=1) + "\n")

    def _say(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
