"""Average precision that does not depend on the order inside a tie: its exact expectation over all orders.

McSherry & Najork (ECIR 2008), cut at K as in He et al. (CVPR 2018). A ranking enters as two histograms over
distance: how many database items lie at each distance, and how many of them are relevant.

Shapes: Q queries, G distances (groups), K the cut.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from brcd_lightning.errors import require_choice, require_positive_int

NORMALIZERS = ("topk", "min", "all")
_TERMS = 1 << 18  # of sums over possible arrangements that are held at a time


def expected_average_precision(
    items: Tensor, relevant: Tensor, k: int, normalizer: str = "topk", total: Tensor | None = None
) -> Tensor:
    """Exact mean of AP@K over all orders of items at equal distance.

    Args:
        items: (Q, G) int64, database items in each distance group, nearest first; complete for every group that
            reaches into the top K, groups beyond may be missing.
        relevant: (Q, G) int64, how many of them are relevant.
        k: cut of the ranking.
        normalizer: what the sum of precisions is divided by: ``topk`` the relevant items inside the top K (the
            convention of the hashing literature), ``min`` the smaller of K and all relevant items, ``all`` all
            relevant items.
        total: (Q,) int64, all relevant items of each query, where groups are missing.

    Returns:
        (Q,) float64 in [0, 1]; 0 where nothing relevant can be retrieved.
    """
    require_positive_int("k", k)
    require_choice("normalizer", normalizer, NORMALIZERS)
    items, relevant = items.long(), relevant.long()
    harmonic = _harmonic_numbers(int(items.sum(dim=1).max())).to(items.device)
    before = items.cumsum(dim=1) - items  # (Q, G) items nearer than the group
    hits_before = relevant.cumsum(dim=1) - relevant
    kept = (k - before).clamp(min=0).minimum(items)  # items of the group inside the top K
    whole = kept == items
    gain = _group_gain(before, hits_before, items, relevant, kept, harmonic)  # (Q, G) expected, cut or whole
    if normalizer != "topk":
        total = relevant.sum(dim=1) if total is None else total
        bound = total.clamp(max=k) if normalizer == "min" else total
        return gain.sum(dim=1) / bound.clamp_min(1)

    complete = (gain * whole).sum(dim=1)  # (Q,) numerator of the groups that are not cut
    complete_hits = (relevant * whole).sum(dim=1)
    value = complete / complete_hits.clamp_min(1)
    cut = (~whole & (kept > 0)).nonzero()  # at most one group a query
    if len(cut):
        rows, groups = cut.T
        value[rows] = _cut_group(
            complete[rows],
            hits_before[rows, groups],
            before[rows, groups],
            items[rows, groups],
            relevant[rows, groups],
            kept[rows, groups],
            harmonic,
        )
    return value


def _harmonic_numbers(size: int) -> Tensor:
    """H_0 .. H_size."""
    numbers = torch.zeros(size + 1, dtype=torch.float64)
    numbers[1:] = (1 / torch.arange(1, size + 1, dtype=torch.float64)).cumsum(dim=0)
    return numbers


def _group_gain(before: Tensor, hits: Tensor, n: Tensor, p: Tensor, kept: Tensor, harmonic: Tensor) -> Tensor:
    """Expected sum of precision at the relevant places among the first `kept` of a group.

    Place t of the group (t = 1..kept) is relevant with probability p / n, and then (t - 1)(p - 1) / (n - 1)
    relevant ones are expected before it inside the group: sum of (p / n) (hits + 1 + (t - 1) slope) / (before + t),
    in closed form by harmonic numbers.
    """
    slope = (p - 1).double() / (n - 1).clamp_min(1)
    slope = torch.where(n > 1, slope, 0.0)
    inner = kept * slope + (hits + 1 - slope * (before + 1)) * (harmonic[before + kept] - harmonic[before])
    return torch.where(p > 0, p / n.clamp_min(1).double() * inner, 0.0)


def _cut_group(
    complete: Tensor, hits: Tensor, before: Tensor, n: Tensor, p: Tensor, kept: Tensor, harmonic: Tensor
) -> Tensor:
    """``topk``: the denominator is random, so average over m, the relevant items among the `kept` places.

    m is hypergeometric; given m, the kept places hold a uniformly random arrangement of m relevant items.
    """
    log_factorial = torch.lgamma(torch.arange(1, int(n.max()) + 2, dtype=torch.float64, device=n.device))

    def log_choose(n: Tensor, k: Tensor) -> Tensor:
        return log_factorial[n] - log_factorial[k] - log_factorial[n - k]

    least = (p - (n - kept)).clamp(min=0)
    possible = p.minimum(kept) - least + 1  # values of m
    values = []
    for rows in _parts(possible):
        row = torch.arange(rows.start, rows.stop, device=n.device).repeat_interleave(possible[rows])
        ends = possible[rows].cumsum(dim=0)
        m = torch.arange(len(row), device=n.device) - (ends - possible[rows] - least[rows])[row - rows.start]
        its_p, its_n, its_kept, its_hits = p[row], n[row], kept[row], hits[row]
        log_weight = log_choose(its_p, m) + log_choose(its_n - its_p, its_kept - m) - log_choose(its_n, its_kept)
        gain = _group_gain(before[row], its_hits, its_kept, m, its_kept, harmonic)
        terms = log_weight.exp() * ((complete[row] + gain) / (its_hits + m).clamp_min(1))
        values.append(torch.segment_reduce(terms, "sum", lengths=possible[rows]))
    return torch.cat(values)


def _parts(terms: Tensor) -> Iterator[slice]:
    """Slices of rows with at most `_TERMS` terms together, or of one row, from the terms of each row."""
    ends, start = terms.cumsum(dim=0), 0
    while start < len(terms):
        limit = ends[start] - terms[start] + _TERMS
        stop = max(start + 1, int(torch.searchsorted(ends, limit, right=True)))
        yield slice(start, stop)
        start = stop
