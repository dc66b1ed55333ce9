"""Samplers whose order depends on (seed, epoch) only: not on workers, ranks or what was drawn before."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from brcd_lightning.distributed.seeding import stream_seed


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, position): a new permutation each epoch, the ranks' shares interleaved and equally long.

    Args:
        size: number of training images.
        seed: of the permutations.
        rank: this process.
        world_size: number of processes; up to ``world_size - 1`` images sit out an epoch.
        epoch: of the first pass. Loader workers begin it before Lightning says which one it is.
        seen: how many of this process's positions the first pass leaves out, because an interrupted epoch had them.
    """

    def __init__(self, size: int, seed: int, rank: int = 0, world_size: int = 1, epoch: int = 0, seen: int = 0) -> None:
        self.size = size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = epoch
        self.seen = seen

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size // self.world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(stream_seed(self.seed, self.epoch))
        order = torch.randperm(self.size, generator=generator)[self.rank :: self.world_size]
        seen, self.seen = self.seen, 0
        return ((self.epoch, position) for position in order[seen : len(self)].tolist())


class ShardSampler(Sampler[int]):
    """Yields every ``world_size``-th position: each image once over all ranks, without padding."""

    def __init__(self, size: int, rank: int = 0, world_size: int = 1) -> None:
        self.positions = range(rank, size, world_size)

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions)
