"""The processes of one run: strategy, rank, and errors caused by lost processes."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Annotated

import lightning as L
import torch.distributed as dist
from annotated_types import Interval
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.strategies import DDPStrategy
from rich.console import Console

from brcd_lightning.errors import InputError
from brcd_lightning.options import checked

_Timeout = Annotated[float, Interval(gt=0, le=1e7)]  # larger values overflow a C++ clock

# Parts of messages of gloo, NCCL and sockets when the peer is lost or silent. Some of gloo's messages do not name it.
_LOST = (
    "gloo",
    "nccl",
    "pair closure",
    "pair is not connected",
    "socket closed",
    "socket timeout",
    "connection closed",
    "connection reset",
    "connection refused",
    "broken pipe",
)


def is_rank_zero() -> bool:
    """True in the process that prints and writes on behalf of the run."""
    rank: int = rank_zero_only.rank  # type: ignore[attr-defined]  # Lightning sets it on the function
    return rank == 0


def print_rank_zero(text: str) -> None:
    """Prints text for the user, from the process of rank 0 only."""
    if is_rank_zero():
        Console(soft_wrap=True, highlight=False, markup=False).print(text)


@checked("trainer.strategy")
def data_parallel(timeout_s: _Timeout = 300) -> DDPStrategy:
    """Data-parallel training with a timeout for processes that hang.

    Args:
        timeout_s: longest wait for the other processes, in seconds. Work that one process does while the others wait
            (k-means, writing a checkpoint) must finish within this time.
    """
    return DDPStrategy(timeout=timedelta(seconds=timeout_s))


def cluster() -> list[SLURMEnvironment]:
    """Trainer plugins for a process that SLURM started.

    By default, Lightning would requeue the job itself and save its own checkpoints, which any later stage would load.
    """
    by_slurm = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()
    return [SLURMEnvironment(auto_requeue=False)] if by_slurm else []


def tells_of_lost_process(error: RuntimeError) -> bool:
    """True if an error of a collective operation means that another process of the run ended or hangs."""
    return isinstance(error, dist.DistError) or any(words in str(error).lower() for words in _LOST)


def require_processes(trainer: L.Trainer) -> None:
    """Checks that the number of processes is that of the trainer; otherwise data would be skipped or used twice.

    Raises:
        InputError: naming the actual and the requested number of processes.
    """
    asked = trainer.world_size
    starter, count = _started()
    rank: int = getattr(rank_zero_only, "rank", 0)  # Lightning sets it from the environment
    if starter == "srun" and not count:
        if asked > 1:
            raise InputError(f"trainer asks for {asked} processes, and SLURM starts them: put srun before the command.")
        return
    if starter and (count != asked or rank >= asked):
        raise InputError(
            f"{starter} says that this is process {rank} of {count}, but trainer.devices and "
            f"trainer.num_nodes ask for {asked}; give both the same number (trainer=ddp for several), or unset "
            "variables that another run left."
        )
    environment = getattr(trainer.strategy, "cluster_environment", None)
    try:
        if environment is not None:
            environment.validate_settings(trainer.num_devices, trainer.num_nodes)
    except ValueError as error:
        raise InputError(f"trainer: {' '.join(str(error).split())}") from error


def _started() -> tuple[str, int]:
    """Launcher of this process and number of processes, from the environment; ("", 0) if Lightning starts them."""
    if TorchElasticEnvironment.detect():
        return "torchrun", int(os.environ["WORLD_SIZE"])
    if SLURMEnvironment.detect():
        return "srun", int(os.environ.get("SLURM_STEP_NUM_TASKS", "0"))  # 0: in a batch script, without srun
    if "LOCAL_RANK" in os.environ:
        return "LOCAL_RANK", int(os.environ.get("WORLD_SIZE", "1"))
    return "", 0
