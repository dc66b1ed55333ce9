"""Values of each query under any functions of its ranking, from one search for all of them.

Shapes: Q queries, N database items, b bits, K the cut of the ranking, C classes, R ids in a list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from brcd_lightning.codes import as_packed, require_same_bits
from brcd_lightning.errors import require_positive_int
from brcd_lightning.metrics.lists import (
    RankedLists,
    check_label_kinds,
    check_label_values,
    check_one_label_each,
    chunks,
    relevance_of,
    relevant_totals,
)
from brcd_lightning.search import nearest_codes
from brcd_lightning.search.popcounts import nearest_groups

MEMORY_BUDGET = 1 << 27
"""Bytes of working memory; with more, fetching it from the system takes longer than the sums in it."""
_BYTES_PER_GROUP = 128  # of the sums over one distance
_LONGEST = 16  # assumed length of a list with whole groups of ties, in multiples of K


class TieCounts(NamedTuple):
    """Database items at each Hamming distance, for functions that average over the order of equal distances.

    Counts are complete for every distance that reaches into the top K; those of larger distances may be too small.
    """

    items: Tensor
    """(Q, G) int64, at distances 0..G - 1; G is at least b + 1, and more where packing has padded the codes."""
    relevant: Tensor
    """(Q, G) int64, the relevant ones among them."""
    total: Tensor | None = None
    """(Q,) int64, relevant items in the whole database; None where no function asks for it."""

    def at(self, rows: slice) -> TieCounts:
        """Counts of some queries."""
        return TieCounts(self.items[rows], self.relevant[rows], _at(self.total, rows))


ListFunction = Callable[[RankedLists, int], Tensor]
"""From ranked lists, equal distances in database order, and K to one value per query (Q,) float64."""
TieFunction = Callable[[TieCounts, int], Tensor]
"""The same from counts by distance, independent of the order of equal distances."""


@dataclass(frozen=True)
class RankingFunctions:
    """Functions to evaluate together.

    Args:
        of_lists: by name.
        of_ties: by name; for them, the group of equal distances at the K-th place is counted to its end.
        need_totals: count the relevant items in the whole database for them.
    """

    of_lists: Mapping[str, ListFunction] = field(default_factory=dict)
    of_ties: Mapping[str, TieFunction] = field(default_factory=dict)
    need_totals: bool = False


def values_per_query(
    query_codes: Tensor,
    database_codes: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    k: int,
    functions: RankingFunctions,
) -> dict[str, Tensor]:
    """Values of all functions for every query; queries are taken in as many parts as `MEMORY_BUDGET` needs.

    Args:
        query_codes: (Q, b) in {-1, +1}, or packed (Q, B) uint8.
        database_codes: (N, b), the same form.
        query_labels: (Q,) class indices, (Q, C) multi-hot, or (Q, R) lists of relevant ids, see `lists`.
        database_labels: (N,) or (N, C), the same kind; of lists (N,) ids.
        k: cut of the ranking; the whole database when larger than N.
        functions: at least one.

    Returns:
        (Q,) float64 by name of the function.
    """
    require_positive_int("k", k)
    query = _checked_side("query", query_codes, query_labels)
    database = _checked_side("database", database_codes, database_labels)
    check_label_kinds(query_labels, database_labels)
    check_label_values(query_labels, database_labels)
    require_same_bits(query_codes, database_codes)
    if not query_codes.is_cuda:  # once, not for every part of the queries
        query, database = query.packed(), database.packed()
    total = relevant_totals(query.labels, database.labels) if functions.need_totals else None
    counts = _no_counts(query, total) if functions.of_ties else None
    names = (*functions.of_lists, *functions.of_ties)
    values = {name: query.codes.new_empty(len(query.codes), dtype=torch.float64) for name in names}
    for rows in chunks(len(query.codes), _bytes_per_query(database, k, whole_ties=counts is not None), MEMORY_BUDGET):
        some = query.at(rows)
        distances, positions = (nearest_codes if counts is None else nearest_groups)(some.codes, database.codes, k)
        relevance = relevance_of(some.labels, database.labels, positions)
        lists = RankedLists(relevance[:, :k], _at(total, rows), len(database.codes))
        for name, list_function in functions.of_lists.items():
            values[name][rows] = one_value_each(name, list_function(lists, k), len(relevance))
        if counts is not None:
            counts.items[rows], counts.relevant[rows] = _counts_of_lists(distances, relevance, counts.items.shape[1])
    if counts is not None:  # all queries at once: a sum over one distance takes as long for few
        for part in chunks(len(query.codes), _BYTES_PER_GROUP * counts.items.shape[1], MEMORY_BUDGET):
            counted = counts.at(part)
            for name, tie_function in functions.of_ties.items():
                values[name][part] = one_value_each(name, tie_function(counted, k), len(counted.items))
    return values


def one_value_each(name: str, values: Tensor, queries: int) -> Tensor:
    """Returns the values of a function; raises `TypeError` unless they are (queries,) float64."""
    if values.shape != (queries,) or values.dtype != torch.float64:  # a scalar would be spread over all queries
        raise TypeError(
            f"{name} must return one value per query, ({queries},) float64, got {values.dtype} of shape "
            f"{tuple(values.shape)}."
        )
    return values


class _Side(NamedTuple):
    """Codes and labels of the queries or of the database."""

    codes: Tensor
    labels: Tensor

    def at(self, rows: slice) -> _Side:
        return _Side(self.codes[rows], self.labels[rows])

    def packed(self) -> _Side:
        return _Side(as_packed(self.codes), self.labels)


def _checked_side(name: str, codes: Tensor, labels: Tensor) -> _Side:
    check_one_label_each(name, codes, labels)
    return _Side(codes, labels.to(codes.device))


def _at(total: Tensor | None, rows: slice) -> Tensor | None:
    return None if total is None else total[rows]


def _bytes_per_query(database: _Side, k: int, *, whole_ties: bool) -> int:
    """Working memory of one ranked list of K places, or of one that may be far longer for a whole group of ties."""
    width = 1 if database.labels.ndim == 1 else database.labels.shape[1]
    per_label = width * (database.labels.element_size() + 2)  # gathered, as bool, and compared
    return min(_LONGEST * k if whole_ties else k, len(database.labels)) * (64 + per_label)


def _no_counts(query: _Side, total: Tensor | None) -> TieCounts:
    """Zeros for each distance 0..b."""
    bits = query.codes.shape[1] * (8 if query.codes.dtype == torch.uint8 else 1)
    items = torch.zeros(len(query.codes), bits + 1, dtype=torch.long, device=query.codes.device)
    return TieCounts(items, items.clone(), total)


def _counts_of_lists(distances: Tensor, relevance: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Items and relevant items (Q, G) at each distance 0..G - 1, from distances (Q, D) that ascend."""
    bounds = torch.arange(groups, dtype=distances.dtype, device=distances.device).expand(len(distances), groups)
    items = torch.searchsorted(distances, bounds.contiguous(), right=True)  # (Q, G) up to each distance
    hits = F.pad(relevance.cumsum(dim=1, dtype=torch.int32), (1, 0)).gather(1, items).long()
    return _differences(items), _differences(hits)


def _differences(sums: Tensor) -> Tensor:
    return torch.diff(sums, dim=1, prepend=torch.zeros_like(sums[:, :1]))
