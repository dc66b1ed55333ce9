"""Confidence intervals of a mean over queries."""

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
    if values.ndim != 1:
        raise InputError(f"values must have shape (queries,), got {tuple(values.shape)}.")
    low, high = bootstrap_intervals(values[None], confidence=confidence, resamples=resamples, seed=seed)[0].tolist()
    return low, high


def bootstrap_intervals(values: Tensor, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> Tensor:
    """Intervals of several means over the same queries, from the same draws; see `bootstrap_interval`.

    Args:
        values: (m, Q) one number per metric and query.
        confidence: see `bootstrap_interval`.
        resamples: see `bootstrap_interval`.
        seed: see `bootstrap_interval`.

    Returns:
        (m, 2) float64, lower and upper ends.
    """
    require_positive_int("resamples", resamples)
    if values.ndim != 2 or values.shape[1] == 0:
        raise InputError(
            f"values must have shape (metrics, queries) with at least one query, got {tuple(values.shape)}."
        )
    if not 0 < confidence < 1:
        raise InputError(f"confidence must be in (0, 1), got {confidence!r}.")
    values = values.double().cpu()
    queries = values.shape[1]
    generator = torch.Generator().manual_seed(seed)
    means = []
    for rows in torch.arange(resamples).split(max(1, _BLOCK // queries)):
        drawn = torch.randint(queries, (len(rows), queries), generator=generator)
        drawn += queries * torch.arange(len(rows))[:, None]
        # How often each query was drawn, so that one product serves all metrics.
        times = drawn.flatten().bincount(minlength=drawn.numel()).view(drawn.shape)
        means.append(values @ times.double().T / queries)
    tail = (1 - confidence) / 2
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    return torch.cat(means, dim=1).quantile(ends, dim=1).T
