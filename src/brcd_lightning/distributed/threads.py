"""Linear algebra on one thread, for bitwise reproducible results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def single_thread() -> Iterator[None]:
    """Runs a block with a single torch thread on the CPU.

    With several threads, the order in which partial sums are added changes the last bits of a product.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
