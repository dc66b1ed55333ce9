"""Two processes on one GPU against one process, with NCCL if it allows that, else with gloo."""

from __future__ import annotations

import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from benchmarks.gpu.part import Task
from benchmarks.gpu.record import Findings
from brcd_lightning.data.fake import fake
from small_cases import trained

CASES = (("cibhash", "brcd"), ("cibhash", "crd"), ("bihalf", "sp"))
_PATIENCE_S = 15
"""NCCL may wait forever for a GPU that it cannot share."""


def on_rank(rank: int, folder: str, backend: str, device: str) -> None:
    """Trains on every second row, and writes the results."""
    torch.set_num_threads(1)
    if device == "cuda":
        torch.cuda.set_device(0)
    dist.init_process_group(backend, init_method=f"file://{folder}/meet-{backend}", rank=rank, world_size=2)
    outcomes = {case: trained(case, fake(), rank, 2, device) for case in CASES}
    torch.save(outcomes, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def processes(found: Findings, task: Task) -> None:
    """Compares losses and gradients of a few trainings."""
    device = task.device.type
    alone = {case: trained(case, fake(), device=device) for case in CASES}
    for backend in ("nccl", "gloo") if device == "cuda" else ("gloo",):
        started = time.perf_counter()
        reason = _run(str(task.folder), backend, device)
        if reason:
            found.skipped[backend] = reason
            continue
        gap = _difference([torch.load(task.folder / f"{rank}.pt", weights_only=True) for rank in range(2)], alone)
        found.values.append((f"two processes, {backend}", gap, "largest relative difference to one"))
        found.values.append((f"their time, {backend}", time.perf_counter() - started, "s, imports included"))
        found.require(gap < 1e-4, f"{backend}: two processes differ from one by {gap}")
        return
    found.require(False, "no backend ran")


def _run(folder: str, backend: str, device: str) -> str:
    """Trains in two processes. Returns the reason if that failed, else an empty string."""
    context = mp.spawn(on_rank, args=(folder, backend, device), nprocs=2, join=False)
    end = time.perf_counter() + (_PATIENCE_S if backend == "nccl" else 600)
    try:
        while not context.join(timeout=1):
            if time.perf_counter() > end:
                return f"nothing happened for {_PATIENCE_S} s"
    except (mp.ProcessRaisedException, mp.ProcessExitedException) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        told = [line for line in lines if "Error" in line or "uplicate GPU" in line]
        return " ".join((told or lines)[-2:])[:300]
    finally:
        for process in context.processes:
            process.kill()
    return ""


def _difference(ranks: list[dict], alone: dict) -> float:
    """Largest difference of losses and first gradients, relative to the largest value of each tensor or 1."""
    gaps = []
    for case, expected in alone.items():
        for rank in ranks:
            pairs = [(rank[case]["losses"], expected["losses"])]
            pairs += [(rank[case]["gradients"][name], value) for name, value in expected["gradients"].items()]
            gaps += [float((one - other).abs().max() / other.abs().max().clamp_min(1)) for one, other in pairs]
    return max(gaps)
