"""Samplers whose order depends only on (seed, epoch), not on workers, ranks or earlier draws."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from brcd_lightning.distributed.seeding import stream_seed


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, position): a new permutation each epoch, split into interleaved shares of equal length per rank.

    Args:
        size: number of training images.
        seed: of the permutations.
        rank: rank of this process.
        world_size: number of processes; up to ``world_size - 1`` images are dropped in an epoch.
        epoch: of the first pass, which loader workers start before Lightning calls `set_epoch`.
        seen: number of this process's positions that the first pass skips, because an interrupted epoch used them.
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
    """Yields every ``world_size``-th position: all ranks together yield each image once, without padding."""

    def __init__(self, size: int, rank: int = 0, world_size: int = 1) -> None:
        self.positions = range(rank, size, world_size)

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions)
