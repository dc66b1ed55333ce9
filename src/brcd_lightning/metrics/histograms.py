"""Metrics that need only how many items, and how many relevant ones, lie at each Hamming distance.

None of them depends on the order inside a tie. Histograms hold the whole database, so that every K has its answer: a
database smaller than K is ranked as a whole, and P@K still divides by K (see `metrics.lists`).

Shapes: Q queries, N database items, b bits, K the cut of the ranking.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from brcd_lightning.codes import as_signs, hamming_distance, require_same_bits
from brcd_lightning.errors import InputError, require_choice, require_positive_int
from brcd_lightning.metrics.lists import chunks, relevance_matrix

AVERAGES = ("macro", "micro", "nonzero")
_BUDGET = 1 << 26  # bytes; larger parts are slower, by the memory they have to fetch
_BYTES_PER_PAIR = 32  # of a distance, a relevance and a histogram key


class DistanceHistograms(NamedTuple):
    """Counts by distance 0..b for each query."""

    items: Tensor
    """(Q, b + 1) int64, database items."""
    relevant: Tensor
    """(Q, b + 1) int64, the relevant ones among them."""


class RadiusCurve(NamedTuple):
    """Precision and recall of what lies within each radius."""

    precision: Tensor
    """(b + 1,) float64."""
    recall: Tensor
    """(b + 1,) float64."""


def distance_histograms(
    query_codes: Tensor,
    database_codes: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    *,
    bits: int | None = None,
    memory_budget: int = _BUDGET,
) -> DistanceHistograms:
    """Counts database items and relevant ones at each Hamming distance.

    Args:
        query_codes: (Q, b) in {-1, +1}, or packed (Q, B) uint8.
        database_codes: (N, b), the same form.
        query_labels: (Q,) class indices, (Q, C) multi-hot, or (Q, R) lists of relevant ids, see `lists`.
        database_labels: (N,) or (N, C), the same kind; of lists (N,) ids.
        bits: code length b. Packed codes do not know it: it is taken for 8 B when None, so give it unless it is a
            multiple of 8.
        memory_budget: bytes of working memory; queries are taken in as many parts as that needs.

    Examples:
        >>> import torch
        >>> queries, database = torch.tensor([[1, 1]]), torch.tensor([[1, 1], [1, -1], [-1, 1]])
        >>> histograms = distance_histograms(queries, database, torch.tensor([0]), torch.tensor([0, 0, 1]))
        >>> histograms.items.tolist(), histograms.relevant.tolist()
        ([[1, 2, 0]], [[1, 1, 0]])
    """
    require_same_bits(query_codes, database_codes)
    queries, database = as_signs(query_codes, bits, "query_codes"), as_signs(database_codes, bits, "database_codes")
    width = queries.shape[1] + 1
    parts = []
    for rows in chunks(len(queries), _BYTES_PER_PAIR * len(database), memory_budget):
        keys = hamming_distance(queries[rows], database)
        keys += width * relevance_matrix(query_labels[rows], database_labels)
        keys += 2 * width * torch.arange(len(keys), device=keys.device)[:, None]
        counts = keys.flatten().bincount(minlength=2 * width * len(keys))
        parts.append(counts.view(len(keys), 2, width))
    counts = torch.cat(parts)
    return DistanceHistograms(counts.sum(dim=1), counts[:, 1])


def expected_hits(histograms: DistanceHistograms, k: int) -> Tensor:
    """Expected number of relevant items in the top K (Q,) float64, over all orders of equal distances."""
    require_positive_int("k", k)
    items, relevant = histograms
    before = items.cumsum(dim=1) - items
    kept = (k - before).clamp(min=0).minimum(items)
    return (relevant * kept / items.clamp_min(1).double()).sum(dim=1)


def expected_precision_at_k(histograms: DistanceHistograms, k: int) -> Tensor:
    """P@K (Q,) float64: relevant items in the top K over K (the denominator is K even for a smaller database).

    Examples:
        >>> import torch
        >>> queries, database = torch.tensor([[1, 1]]), torch.tensor([[1, 1], [1, -1], [-1, 1]])
        >>> histograms = distance_histograms(queries, database, torch.tensor([0]), torch.tensor([0, 0, 1]))
        >>> expected_precision_at_k(histograms, k=2).tolist()  # the second place is one of two ties
        [0.75]
    """
    return expected_hits(histograms, k) / k


def expected_recall_at_k(histograms: DistanceHistograms, k: int) -> Tensor:
    """R@K (Q,) float64: relevant items in the top K over all relevant ones; 0 for a query that has none.

    Examples:
        >>> import torch
        >>> queries, database = torch.tensor([[1, 1]]), torch.tensor([[1, 1], [1, -1], [-1, 1]])
        >>> histograms = distance_histograms(queries, database, torch.tensor([0]), torch.tensor([0, 0, 1]))
        >>> expected_recall_at_k(histograms, k=2).tolist()
        [0.75]
    """
    return expected_hits(histograms, k) / histograms.relevant.sum(dim=1).clamp_min(1)


def precision_within_radius(histograms: DistanceHistograms, radius: int = 2) -> tuple[Tensor, Tensor]:
    """Precision inside a Hamming ball.

    Args:
        histograms: of all queries.
        radius: of the ball, at least 0.

    Returns:
        Precision of each query (Q,) float64, 0 for an empty ball, and the share of empty balls (scalar).

    Examples:
        >>> import torch
        >>> queries, database = torch.tensor([[1, 1]]), torch.tensor([[1, 1], [1, -1], [-1, 1]])
        >>> histograms = distance_histograms(queries, database, torch.tensor([0]), torch.tensor([0, 0, 1]))
        >>> precision, empty = precision_within_radius(histograms, radius=0)
        >>> precision.tolist(), empty.item()
        ([1.0], 0.0)
    """
    if isinstance(radius, bool) or not isinstance(radius, int) or radius < 0:
        raise InputError(f"radius must be an integer of at least 0, got {radius!r}.")
    found, hits = (counts[:, : radius + 1].sum(dim=1) for counts in histograms)
    return hits / found.clamp_min(1).double(), (found == 0).double().mean()


def precision_recall_by_radius(histograms: DistanceHistograms, average: str = "macro") -> RadiusCurve:
    """Precision and recall within every radius 0..b.

    Args:
        histograms: of all queries.
        average: ``macro`` the mean over queries (precision 0 where nothing is found), ``micro`` from counts pooled
            over queries, ``nonzero`` the mean over queries with a hit within the radius.

    Examples:
        >>> import torch
        >>> queries, database = torch.tensor([[1, 1]]), torch.tensor([[1, 1], [1, -1], [-1, 1]])
        >>> histograms = distance_histograms(queries, database, torch.tensor([0]), torch.tensor([0, 0, 1]))
        >>> precision_recall_by_radius(histograms).recall.tolist()
        [0.5, 1.0, 1.0]
    """
    require_choice("average", average, AVERAGES)
    found, hits = (counts.cumsum(dim=1).double() for counts in histograms)  # (Q, b + 1)
    total = hits[:, -1:]
    if average == "micro":
        found, hits, total = found.sum(dim=0), hits.sum(dim=0), total.sum()
        return RadiusCurve(hits / found.clamp_min(1), hits / total.clamp_min(1))
    precision, recall = hits / found.clamp_min(1), hits / total.clamp_min(1)
    if average == "macro":
        return RadiusCurve(precision.mean(dim=0), recall.mean(dim=0))
    queries = (hits > 0).sum(dim=0).clamp_min(1)
    return RadiusCurve(precision.sum(dim=0) / queries, recall.sum(dim=0) / queries)
