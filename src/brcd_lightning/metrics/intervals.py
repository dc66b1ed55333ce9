"""Confidence intervals of a mean over queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from brcd_lightning.errors import InputError, require_positive_int

_BLOCK = 1 << 24  # drawn values held at a time
_MOST_RESAMPLES = 10_000_000


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

    Examples:
        >>> import torch
        >>> low, high = bootstrap_interval(torch.tensor([0.0, 1.0]).repeat(50))
        >>> round(low, 1), round(high, 1)
        (0.4, 0.6)
    """
    if not isinstance(values, Tensor):
        raise InputError(f"values must be a tensor, got {type(values).__name__}; use torch.as_tensor.")
    if bool(values.isnan().any()):
        raise InputError("values must be numbers, got NaN.")
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

    Examples:
        >>> import torch
        >>> bootstrap_intervals(torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.5, 1.0]])).shape
        torch.Size([2, 2])
    """
    if values.ndim != 2 or values.shape[1] == 0:
        raise InputError(
            f"values must have shape (metrics, queries) with at least one query, got {tuple(values.shape)}."
        )
    _require_options(confidence, resamples)
    values = values.double().cpu()
    queries = values.shape[1]
    generator = torch.Generator().manual_seed(seed)
    means = []
    for rows in torch.arange(resamples).split(max(1, _BLOCK // queries)):
        times = _times_drawn(len(rows), queries, generator)  # one product serves all metrics
        means.append(values @ times.T / queries)
    tail = (1 - confidence) / 2
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    return torch.cat(means, dim=1).quantile(ends, dim=1).T


class Difference(NamedTuple):
    """Interval and p value of a mean."""

    low: float
    high: float
    p_value: float
    """Two-sided: twice the smaller share of resampled means on one side of 0, at least 1 / resamples."""


def bootstrap_over_seeds(
    values: Tensor, *, confidence: float = 0.95, resamples: int = 10000, seed: int = 0
) -> list[Difference]:
    """Quantile bootstrap of means over seeds and queries: both are drawn again with replacement, alike for all means.

    With few seeds the interval is a little too narrow, because so few values cannot show their whole spread.

    Args:
        values: (m, S, Q) one number per mean, seed and query, such as differences of m methods from another one.
        confidence: share of the resampled means inside the interval, in (0, 1).
        resamples: number of draws of S seeds and Q queries.
        seed: of the draws.

    Returns:
        For each mean, the ends of its interval and the p value of a mean of 0.
    """
    if values.ndim != 3 or 0 in values.shape:
        raise InputError(
            f"values must have shape (means, seeds, queries), one of each at least, got {tuple(values.shape)}."
        )
    _require_options(confidence, resamples)
    values = values.double().cpu()
    count, seeds, queries = values.shape
    generator = torch.Generator().manual_seed(seed)
    of_seeds = _times_drawn(resamples, seeds, generator)
    found = torch.empty(count, resamples, dtype=torch.float64)
    for rows in torch.arange(resamples).split(max(1, _BLOCK // queries)):
        by_seed = values.flatten(end_dim=1) @ _times_drawn(len(rows), queries, generator).T / queries
        found[:, rows] = (by_seed.view(count, seeds, -1) * of_seeds[rows].T).sum(dim=1) / seeds
    tail = (1 - confidence) / 2
    low, high = found.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=1).tolist()
    side = torch.minimum((found <= 0).double().mean(dim=1), (found >= 0).double().mean(dim=1))
    p_values = (2 * side).clamp(1 / resamples, 1).tolist()
    return [Difference(*each) for each in zip(low, high, p_values, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """P values of a family of comparisons by Holm's step-down correction (Holm 1979), in the same order."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def _times_drawn(rows: int, size: int, generator: torch.Generator) -> Tensor:
    """Counts (rows, size) float64: how often each of `size` things is among `size` draws, anew for each row."""
    drawn = torch.randint(size, (rows, size), generator=generator)
    drawn += size * torch.arange(rows)[:, None]
    return drawn.flatten().bincount(minlength=rows * size).view(rows, size).double()


def _require_options(confidence: float, resamples: int) -> None:
    require_positive_int("resamples", resamples)
    if resamples > _MOST_RESAMPLES:
        raise InputError(f"resamples must be at most {_MOST_RESAMPLES:,}, got {resamples}.")
    if not isinstance(confidence, int | float) or not 0 < confidence < 1:
        raise InputError(f"confidence must be in (0, 1), got {confidence!r}.")
