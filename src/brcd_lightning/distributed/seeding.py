"""Random streams that depend only on a key, such as (seed, epoch, index, view), and not on earlier draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def stream_seed(*key: int) -> int:
    """A 63-bit seed for the random stream of a key such as (seed, epoch, index, view)."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1


@contextmanager
def random_stream(*key: int) -> Iterator[None]:
    """Runs a block on the CPU random stream of `key` and restores torch's global stream afterwards.

    This is far cheaper than `torch.random.fork_rng` with `torch.manual_seed`, which process every device.
    """
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(stream_seed(*key))
    try:
        yield
    finally:
        torch.set_rng_state(state)
