"""mAP@K of Hamming rankings, with equal distances in database order or averaged over all their orders.

Shapes: Q queries, N database items, b bits, K the cut of the ranking, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from brcd_lightning.errors import InputError, require_choice, require_positive_int
from brcd_lightning.metrics.ties import NORMALIZERS, expected_average_precision
from brcd_lightning.search import nearest_codes

TIES = ("stable", "expected")
DEFAULT_BUDGET = 1 << 29
"""Bytes of working memory."""


def relevance_of(query_labels: Tensor, database_labels: Tensor, positions: Tensor) -> Tensor:
    """Whether each retrieved item is relevant to its query.

    Args:
        query_labels: (Q,) class indices, or (Q, C) multi-hot.
        database_labels: (N,) or (N, C), the same kind.
        positions: (Q, K) int64 database positions.

    Returns:
        (Q, K) bool: the same class, or at least one shared label.
    """
    _check_label_kinds(query_labels, database_labels)
    found = database_labels[positions]
    if query_labels.ndim == 1:
        return found == query_labels[:, None]
    return (found.bool() & query_labels[:, None].bool()).any(dim=-1)


def relevance_matrix(query_labels: Tensor, database_labels: Tensor) -> Tensor:
    """Relevance of every database item to every query: (Q, N) bool."""
    _check_label_kinds(query_labels, database_labels)
    if query_labels.ndim == 1:
        return query_labels[:, None] == database_labels[None, :]
    return query_labels.float() @ database_labels.float().T > 0


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
    total = relevance.sum(dim=1)
    if ties == "stable":
        order = distances.argsort(dim=1, stable=True)[:, :k]
        return _stable(relevance.gather(1, order), k, normalizer, total)
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
) -> Tensor:
    """AP@K of every query, see `mean_average_precision`.

    Returns:
        (Q,) float64 in [0, 1].
    """
    _check_options(k, ties, normalizer)
    for name, codes, labels in (
        ("query", query_codes, query_labels),
        ("database", database_codes, database_labels),
    ):
        if len(codes) == 0 or len(codes) != len(labels):
            raise InputError(f"{name} needs one label per code, got {len(codes)} codes and {len(labels)} labels.")
    _check_label_kinds(query_labels, database_labels)
    query_labels, database_labels = query_labels.to(query_codes.device), database_labels.to(database_codes.device)
    per_query = _bytes_per_query(len(database_codes), min(k, len(database_codes)), database_labels, ties, normalizer)
    values = []
    for rows in chunks(len(query_codes), per_query, memory_budget):
        distances, positions = nearest_codes(query_codes[rows], database_codes, k)
        relevance = relevance_of(query_labels[rows], database_labels, positions)
        total = None
        if normalizer != "topk":
            total = relevance_matrix(query_labels[rows], database_labels).sum(dim=1)
        if ties == "stable":
            values.append(_stable(relevance, k, normalizer, total))
            continue
        items, relevant = _histograms(distances.long(), relevance, query_codes.shape[1] + 1)
        _complete_last_group(
            items, relevant, distances, query_codes[rows], database_codes, query_labels[rows], database_labels
        )
        values.append(expected_average_precision(items, relevant, k, normalizer, total))
    return torch.cat(values)


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
) -> Tensor:
    """mAP@K of Hamming ranking: the mean of AP@K over all queries, those without any hit included.

    Args:
        query_codes: (Q, b) in {-1, +1}.
        database_codes: (N, b) in {-1, +1}.
        query_labels: (Q,) class indices or (Q, C) multi-hot.
        database_labels: (N,) or (N, C), the same kind.
        k: cut of the ranking; the whole database when larger than N.
        ties: see `average_precision`.
        normalizer: see `average_precision`.
        memory_budget: bytes of working memory; queries are taken in as many parts as that needs.

    Returns:
        Scalar float64 in [0, 1].
    """
    options = {"ties": ties, "normalizer": normalizer, "memory_budget": memory_budget}
    return average_precisions(query_codes, database_codes, query_labels, database_labels, k, **options).mean()


def _stable(relevance: Tensor, k: int, normalizer: str, total: Tensor | None) -> Tensor:
    """AP of ranked lists (Q, K), best first."""
    hits = relevance.double()
    places = torch.arange(1, hits.shape[1] + 1, dtype=torch.float64, device=hits.device)
    gain = (hits.cumsum(dim=1) / places * hits).sum(dim=1)
    if normalizer == "topk":
        return gain / hits.sum(dim=1).clamp_min(1)
    return gain / (total.clamp(max=k) if normalizer == "min" else total).clamp_min(1)


def _histograms(group: Tensor, relevance: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Counts (Q, size) of all members and of the relevant ones in each group, from group ids (Q, n)."""
    empty = torch.zeros(len(group), size, dtype=torch.long, device=group.device)
    return empty.scatter_add(1, group, torch.ones_like(group)), empty.scatter_add(1, group, relevance.long())


def _complete_last_group(
    items: Tensor,
    relevant: Tensor,
    distances: Tensor,
    query_codes: Tensor,
    database_codes: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
) -> None:
    """Counts the group at the K-th place (in place), which may go on beyond it: searches deeper where it does."""
    last = distances[:, -1:].long()
    unfinished = torch.arange(len(distances), device=distances.device)
    depth = distances.shape[1]
    while len(unfinished) and depth < len(database_codes):
        depth = min(2 * depth, len(database_codes))
        found, positions = nearest_codes(query_codes[unfinished], database_codes, depth)
        group = last[unfinished]
        tied = found == group
        hits = tied & relevance_of(query_labels[unfinished], database_labels, positions)
        items[unfinished[:, None], group] = tied.sum(dim=1, keepdim=True)
        relevant[unfinished[:, None], group] = hits.sum(dim=1, keepdim=True)
        unfinished = unfinished[tied[:, -1]]


def _bytes_per_query(database: int, k: int, labels: Tensor, ties: str, normalizer: str) -> int:
    """Working memory of one query: ranked lists in float64, their labels, and rows over the whole database."""
    width = 1 if labels.ndim == 1 else labels.shape[1]
    per_label = width * (labels.element_size() + 2)  # gathered, as bool, and compared
    per_place = 64 + per_label
    whole = ties == "expected" or normalizer != "topk"  # lists or relevance over the whole database
    return k * per_place + whole * database * (24 + per_label)


def chunks(rows: int, per_row: int, budget: int) -> Iterator[slice]:
    """Slices of `rows` rows that stay within `budget` bytes at `per_row` bytes a row, one row at least."""
    require_positive_int("memory_budget", budget)
    step = max(1, budget // per_row)
    return (slice(start, start + step) for start in range(0, rows, step))


def _check_options(k: int, ties: str, normalizer: str) -> None:
    require_positive_int("k", k)
    require_choice("ties", ties, TIES)
    require_choice("normalizer", normalizer, NORMALIZERS)


def _check_label_kinds(query_labels: Tensor, database_labels: Tensor) -> None:
    if query_labels.ndim != database_labels.ndim:
        raise InputError("query_labels and database_labels must both be class indices or both be multi-hot.")
