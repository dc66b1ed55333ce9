"""Gathers the shares of a batch from all processes, so that each computes on the batch of a single process."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def num_processes() -> int:
    """Number of processes that train together; 1 outside torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(rows: Tensor, dim: int = 0) -> Tensor:
    """Rows of all processes, in the order in which `EpochSampler` distributed them.

    Every process computes the loss of the whole batch from them. The gradients of parameters used after the gather are
    therefore equal in all processes, and so is their mean. The gradient of a process's own rows is multiplied by the
    number of processes, because each process only backpropagates through its own share. With data-parallel averaging,
    every parameter then gets the same gradient as in a single process.

    Args:
        rows: share of this process along `dim`, of the same size in every process.
        dim: dimension of the batch.

    Returns:
        The whole batch along `dim`; `rows` itself in a single process.
    """
    return rows if num_processes() == 1 else _Gather.apply(rows, dim)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, dim: int) -> Tensor:
        ctx.dim = dim
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(num_processes())]
        dist.all_gather(parts, rows.contiguous())
        return torch.stack(parts, dim=dim + 1).flatten(dim, dim + 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        shares = gradient.unflatten(ctx.dim, (-1, num_processes()))
        return num_processes() * shares.select(ctx.dim + 1, dist.get_rank()), None
