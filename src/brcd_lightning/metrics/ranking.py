"""mAP@K of Hamming rankings, with equal distances in database order or averaged over all their orders.

Shapes: Q queries, N database items, b bits, K the cut of the ranking, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from brcd_lightning.codes import as_packed, require_same_bits
from brcd_lightning.errors import InputError, require_choice, require_positive_int
from brcd_lightning.metrics.lists import (
    check_label_kinds,
    chunks,
    list_average_precision,
    relevance_of,
    relevant_totals,
)
from brcd_lightning.metrics.ties import NORMALIZERS, expected_average_precision
from brcd_lightning.search import nearest_codes

TIES = ("stable", "expected")
DEFAULT_BUDGET = 1 << 27
"""Bytes of working memory; with more, fetching it from the system takes longer than the sums in it."""
_BYTES_PER_GROUP = 128  # of the sums over one distance


def average_precision(
    distances: Tensor, relevance: Tensor, k: int, *, ties: str = "stable", normalizer: str = "topk"
) -> Tensor:
    """AP@K of given distances.

    Args:
        distances: (Q, N), any ordered numbers; equal ones are ties.
        relevance: (Q, N) bool or 0/1.
        k: cut of the ranking; the whole database when larger than N.
        ties: ``stable`` ranks equal distances by database position, ``expected`` is the exact mean over all orders.
        normalizer: denominator: ``topk`` the relevant items inside the top K (the convention of the hashing
            literature), ``min`` the smaller of K and all relevant items, ``all`` all relevant items.

    Returns:
        (Q,) float64 in [0, 1]; 0 for a query that retrieves nothing relevant.
    """
    _check_options(k, ties, normalizer)
    if distances.shape != relevance.shape or distances.ndim != 2:
        raise InputError(
            f"distances and relevance must have the same shape (queries, database), got {tuple(distances.shape)} "
            f"and {tuple(relevance.shape)}."
        )
    relevance = relevance.bool()
    if ties == "stable":
        order = distances.argsort(dim=1, stable=True)[:, :k]
        return list_average_precision(relevance.gather(1, order), k, normalizer, relevance.sum(dim=1))
    levels, group = distances.unique(return_inverse=True)  # group ids ascend with distance
    items, relevant = _histograms(group, relevance, levels.numel())
    return expected_average_precision(items, relevant, k, normalizer)


def average_precisions(
    query_codes: Tensor,
    database_codes: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    k: int,
    *,
    ties: str = "stable",
    normalizer: str = "topk",
    memory_budget: int = DEFAULT_BUDGET,
    permutation_seed: int | None = None,
) -> Tensor:
    """AP@K of every query, see `mean_average_precision`.

    Returns:
        (Q,) float64 in [0, 1].
    """
    values = average_precisions_by_ties(
        query_codes,
        database_codes,
        query_labels,
        database_labels,
        k,
        ties=(ties,),
        normalizer=normalizer,
        memory_budget=memory_budget,
        permutation_seed=permutation_seed,
    )
    return values[ties]


def average_precisions_by_ties(
    query_codes: Tensor,
    database_codes: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    k: int,
    *,
    ties: Sequence[str] = TIES,
    normalizer: str = "topk",
    memory_budget: int = DEFAULT_BUDGET,
    permutation_seed: int | None = None,
) -> dict[str, Tensor]:
    """AP@K of every query under several rules for ties, from one search; see `mean_average_precision`.

    Returns:
        (Q,) float64 in [0, 1] by rule.
    """
    for rule in ties:
        _check_options(k, rule, normalizer)
    for name, codes, labels in (
        ("query", query_codes, query_labels),
        ("database", database_codes, database_labels),
    ):
        if len(codes) == 0 or len(codes) != len(labels):
            raise InputError(f"{name} needs one label per code, got {len(codes)} codes and {len(labels)} labels.")
    check_label_kinds(query_labels, database_labels)
    require_same_bits(query_codes, database_codes)
    query_labels, database_labels = query_labels.to(query_codes.device), database_labels.to(database_codes.device)
    if permutation_seed is not None:
        generator = torch.Generator().manual_seed(permutation_seed)
        order = torch.randperm(len(database_codes), generator=generator).to(database_codes.device)
        database_codes, database_labels = database_codes[order], database_labels[order]
    if not query_codes.is_cuda:  # once, not for every part of the queries
        query_codes, database_codes = as_packed(query_codes), as_packed(database_codes)
    query, database = _Side(query_codes, query_labels), _Side(database_codes, database_labels)
    total = None if normalizer == "topk" else relevant_totals(query_labels, database_labels)

    def totals(rows: slice | Tensor) -> Tensor | None:
        return None if total is None else total[rows]

    count, expected = len(query_codes), "expected" in ties
    values = {rule: torch.empty(count, dtype=torch.float64, device=query_codes.device) for rule in ties}
    items, relevant = _no_counts(query) if expected else (None, None)
    for rows, distances, relevance in _ranked(query, database, k, memory_budget, whole_ties=expected):
        if "stable" in ties:
            values["stable"][rows] = list_average_precision(relevance[:, :k], k, normalizer, totals(rows))
        if expected:
            items[rows], relevant[rows] = _counts_of_lists(distances, relevance, items.shape[1])
    if expected:  # all queries at once: a sum over one distance takes as long for few
        for rows in chunks(count, _BYTES_PER_GROUP * items.shape[1], memory_budget):
            found = expected_average_precision(items[rows], relevant[rows], k, normalizer, totals(rows))
            values["expected"][rows] = found
    return values


def mean_average_precision(
    query_codes: Tensor,
    database_codes: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    k: int,
    *,
    ties: str = "stable",
    normalizer: str = "topk",
    memory_budget: int = DEFAULT_BUDGET,
    permutation_seed: int | None = None,
) -> Tensor:
    """mAP@K of Hamming ranking: the mean of AP@K over all queries, those without any hit included.

    Args:
        query_codes: (Q, b) in {-1, +1}, or packed (Q, B) uint8.
        database_codes: (N, b), the same form.
        query_labels: (Q,) class indices or (Q, C) multi-hot.
        database_labels: (N,) or (N, C), the same kind.
        k: cut of the ranking; the whole database when larger than N.
        ties: see `average_precision`.
        normalizer: see `average_precision`.
        memory_budget: bytes of working memory; queries are taken in as many parts as that needs.
        permutation_seed: shuffle the database first, so that ``stable`` does not favour the class that comes first
            in a database sorted by class; as it is when None.

    Returns:
        Scalar float64 in [0, 1].
    """
    options = {
        "ties": ties,
        "normalizer": normalizer,
        "memory_budget": memory_budget,
        "permutation_seed": permutation_seed,
    }
    return average_precisions(query_codes, database_codes, query_labels, database_labels, k, **options).mean()


class _Side(NamedTuple):
    """Codes and labels of the queries or of the database."""

    codes: Tensor
    labels: Tensor

    def at(self, rows: slice | Tensor) -> _Side:
        return _Side(self.codes[rows], self.labels[rows])


def _retrieve(query: _Side, database: _Side, k: int) -> tuple[Tensor, Tensor]:
    """Distances and relevance (Q, K) of the nearest items."""
    distances, positions = nearest_codes(query.codes, database.codes, k)
    return distances, relevance_of(query.labels, database.labels, positions)


def _ranked(
    query: _Side, database: _Side, k: int, memory_budget: int, *, whole_ties: bool
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows of queries with distances and relevance (rows, depth) of their nearest items, in parts.

    With `whole_ties` a list holds the whole group of equal distances at the K-th place, which may go on beyond it: the
    search goes twice as deep, and deeper where it must.
    """
    unfinished = torch.arange(len(query.codes), device=query.codes.device)
    cut, depth = min(k, len(database.codes)), 2 * k if whole_ties else k
    while len(unfinished):
        depth = min(depth, len(database.codes))
        open_ended = []
        for rows in chunks(len(unfinished), _bytes_per_query(database, depth), memory_budget):
            part = unfinished[rows]
            distances, relevance = _retrieve(query.at(part), database, depth)
            if whole_ties and depth < len(database.codes):
                whole = distances[:, -1] != distances[:, cut - 1]
                open_ended.append(part[~whole])
                part, distances, relevance = part[whole], distances[whole], relevance[whole]
            yield part, distances, relevance
        unfinished = torch.cat(open_ended) if open_ended else unfinished[:0]
        depth *= 2


def _no_counts(query: _Side) -> tuple[Tensor, Tensor]:
    """Zeros (Q, G): items and relevant items at each distance 0..b."""
    bits = query.codes.shape[1] * (8 if query.codes.dtype == torch.uint8 else 1)
    items = torch.zeros(len(query.codes), bits + 1, dtype=torch.long, device=query.codes.device)
    return items, items.clone()


def _histograms(group: Tensor, relevance: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Counts (Q, size) of all members and of the relevant ones in each group, from group ids (Q, n)."""
    keys = group + size * relevance
    keys += 2 * size * torch.arange(len(keys), device=keys.device)[:, None]
    counts = keys.flatten().bincount(minlength=2 * size * len(keys)).view(len(keys), 2, size)
    return counts.sum(dim=1), counts[:, 1]


def _counts_of_lists(distances: Tensor, relevance: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """The same as `_histograms`, several times faster, for distances (Q, D) that ascend."""
    bounds = torch.arange(groups, dtype=distances.dtype, device=distances.device).expand(len(distances), groups)
    items = torch.searchsorted(distances, bounds.contiguous(), right=True)  # (Q, G) up to each distance
    hits = torch.nn.functional.pad(relevance.cumsum(dim=1, dtype=torch.int32), (1, 0)).gather(1, items).long()
    return tuple(torch.diff(sums, dim=1, prepend=torch.zeros_like(sums[:, :1])) for sums in (items, hits))


def _bytes_per_query(database: _Side, depth: int) -> int:
    """Working memory of one ranked list of `depth` places."""
    width = 1 if database.labels.ndim == 1 else database.labels.shape[1]
    per_label = width * (database.labels.element_size() + 2)  # gathered, as bool, and compared
    return min(depth, len(database.labels)) * (64 + per_label)


def _check_options(k: int, ties: str, normalizer: str) -> None:
    require_positive_int("k", k)
    require_choice("ties", ties, TIES)
    require_choice("normalizer", normalizer, NORMALIZERS)
