"""How sure a mean over queries is."""

from __future__ import annotations

import torch
from torch import Tensor

from brcd_lightning.errors import InputError, require_positive_int

_BLOCK = 1 << 24  # drawn values held at a time


def bootstrap_interval(
    values: Tensor, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Quantile bootstrap interval of the mean: queries are drawn again with replacement.

    Args:
        values: (Q,) one number per query.
        confidence: share of the resampled means inside the interval, in (0, 1).
        resamples: number of draws of Q queries.
        seed: of the draws.

    Returns:
        Lower and upper end.
    """
    require_positive_int("resamples", resamples)
    if values.ndim != 1 or len(values) == 0:
        raise InputError(f"values must have shape (queries,) with at least one, got {tuple(values.shape)}.")
    if not 0 < confidence < 1:
        raise InputError(f"confidence must be in (0, 1), got {confidence!r}.")
    values = values.double().cpu()
    generator = torch.Generator().manual_seed(seed)
    step = max(1, _BLOCK // len(values))
    blocks = []
    for done in range(0, resamples, step):
        drawn = torch.randint(len(values), (min(step, resamples - done), len(values)), generator=generator)
        blocks.append(values[drawn].mean(dim=1))
    means = torch.cat(blocks)
    tail = (1 - confidence) / 2
    low, high = means.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high
