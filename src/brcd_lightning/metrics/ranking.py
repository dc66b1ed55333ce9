"""mAP@K of Hamming rankings, with equal distances in database order or averaged over all their orders.

Shapes: Q queries, N database items, b bits, K the cut of the ranking, C classes, R ids in a list.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from brcd_lightning.errors import InputError, require_choice, require_non_negative_int, require_positive_int
from brcd_lightning.metrics.lists import RankedLists, check_one_label_each, list_average_precision
from brcd_lightning.metrics.per_query import RankingFunctions, TieCounts, values_per_query
from brcd_lightning.metrics.ties import NORMALIZERS, expected_average_precision

TIES = ("stable", "expected")


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

    Examples:
        >>> import torch
        >>> distances, relevance = torch.tensor([[2, 2, 3]]), torch.tensor([[0, 1, 0]])
        >>> average_precision(distances, relevance, k=3).tolist()
        [0.5]
        >>> average_precision(distances, relevance, k=3, ties="expected").tolist()
        [0.75]
    """
    _check_options(k, ties, normalizer)
    for name, values in (("distances", distances), ("relevance", relevance)):
        if not isinstance(values, Tensor):
            raise InputError(f"{name} must be a tensor, got {type(values).__name__}; use torch.as_tensor.")
    if distances.shape != relevance.shape or distances.ndim != 2:
        raise InputError(
            f"distances and relevance must have the same shape (queries, database), got {tuple(distances.shape)} "
            f"and {tuple(relevance.shape)}."
        )
    if distances.shape[1] == 0 or bool(distances.isnan().any()):
        raise InputError("distances must be numbers, to at least one database item.")
    if not bool(((relevance == 0) | (relevance == 1)).all()):
        raise InputError("relevance must hold only 0 and 1.")
    relevance = relevance.bool()
    if len(distances) == 0:
        return distances.new_empty(0, dtype=torch.float64)
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
) -> Tensor:
    """AP@K of every query, see `mean_average_precision`.

    Returns:
        (Q,) float64 in [0, 1].

    Examples:
        >>> import torch
        >>> queries, database = torch.tensor([[1, 1, 1]]), torch.tensor([[1, 1, 1], [1, 1, -1], [1, -1, -1]])
        >>> average_precisions(queries, database, torch.tensor([0]), torch.tensor([0, 1, 0]), k=3).tolist()
        [0.8333333333333333]
    """
    values = average_precisions_by_ties(
        query_codes, database_codes, query_labels, database_labels, k, ties=(ties,), normalizer=normalizer
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
) -> dict[str, Tensor]:
    """AP@K of every query under several rules for ties, from one search; see `mean_average_precision`.

    Returns:
        (Q,) float64 in [0, 1] by rule.

    Examples:
        >>> import torch
        >>> queries, database = torch.tensor([[1, 1]]), torch.tensor([[1, -1], [-1, 1]])  # both at distance 1
        >>> values = average_precisions_by_ties(queries, database, torch.tensor([1]), torch.tensor([0, 1]), k=2)
        >>> values["stable"].tolist(), values["expected"].tolist()
        ([0.5], [0.75])
    """
    for rule in ties:
        _check_options(k, rule, normalizer)

    def stable(lists: RankedLists, k: int) -> Tensor:
        return list_average_precision(lists.top(k), k, normalizer, lists.total)

    def expected(counts: TieCounts, k: int) -> Tensor:
        return expected_average_precision(counts.items, counts.relevant, k, normalizer, counts.total)

    functions = RankingFunctions(
        of_lists={"stable": stable} if "stable" in ties else {},
        of_ties={"expected": expected} if "expected" in ties else {},
        need_totals=normalizer != "topk",
    )
    values = values_per_query(query_codes, database_codes, query_labels, database_labels, k, functions)
    return {rule: values[rule] for rule in ties}


def mean_average_precision(
    query_codes: Tensor,
    database_codes: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    k: int,
    *,
    ties: str = "stable",
    normalizer: str = "topk",
) -> Tensor:
    """mAP@K of Hamming ranking: the mean of AP@K over all queries, those without any hit included.

    Args:
        query_codes: (Q, b) in {-1, +1}, or packed (Q, B) uint8.
        database_codes: (N, b), the same form.
        query_labels: (Q,) class indices, (Q, C) multi-hot, or (Q, R) lists of relevant ids, see `lists`.
        database_labels: (N,) or (N, C), the same kind; of lists (N,) ids.
        k: cut of the ranking; the whole database when larger than N.
        ties: see `average_precision`. ``stable`` favours the class that comes first in a database sorted by class; see
            `permuted_database`.
        normalizer: see `average_precision`.

    Returns:
        Scalar float64 in [0, 1].

    Examples:
        >>> import torch
        >>> queries, database = torch.tensor([[1, 1, 1]]), torch.tensor([[1, 1, 1], [1, 1, -1], [1, -1, -1]])
        >>> mean_average_precision(queries, database, torch.tensor([0]), torch.tensor([0, 1, 0]), k=3).item()
        0.8333333333333333
        >>> mean_average_precision(queries, database, torch.tensor([0]), torch.tensor([0, 1, 0]), k=1).item()
        1.0
    """
    values = average_precisions(
        query_codes, database_codes, query_labels, database_labels, k, ties=ties, normalizer=normalizer
    )
    return values.mean()


def permuted_database(codes: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Shuffles a database, so that equal distances do not favour the class that comes first.

    Args:
        codes: (N, b) in {-1, +1}, or packed (N, B) uint8.
        labels: (N,) class indices or (N, C) multi-hot.
        seed: of the permutation.

    Returns:
        Codes and labels in the same new order.
    """
    check_one_label_each("database", codes, labels)
    require_non_negative_int("seed", seed)
    if seed >= 2**63:
        raise InputError(f"seed must be below 2^63, got {seed}.")
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))
    return codes[order.to(codes.device)], labels[order.to(labels.device)]


def _histograms(group: Tensor, relevance: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Counts (Q, size) of all members and of the relevant ones in each group, from group ids (Q, n)."""
    keys = group + size * relevance
    keys += 2 * size * torch.arange(len(keys), device=keys.device)[:, None]
    counts = keys.flatten().bincount(minlength=2 * size * len(keys)).view(len(keys), 2, size)
    return counts.sum(dim=1), counts[:, 1]


def _check_options(k: int, ties: str, normalizer: str) -> None:
    require_positive_int("k", k)
    require_choice("ties", ties, TIES)
    require_choice("normalizer", normalizer, NORMALIZERS)
