"""Values of each query when real query values are ranked against stored bits; no Hamming scores.

Shapes: Q queries, N database items, b bits, K the cut of the ranking, R results of the Hamming search, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from brcd_lightning.codes import as_signs
from brcd_lightning.errors import require_positive_int
from brcd_lightning.metrics.lists import (
    RankedLists,
    check_label_kinds,
    check_one_label_each,
    chunks,
    relevance_of,
    relevant_totals,
)
from brcd_lightning.metrics.per_query import MEMORY_BUDGET, ListFunction, one_value_each
from brcd_lightning.search import nearest_by_values
from brcd_lightning.search.exact import as_bytes, scan
from brcd_lightning.search.values import CANDIDATES_PER_RESULT, as_values, rescore_candidates

_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)
"""Number of ones of every byte."""
_BYTES_PER_PLACE = 64  # of a list: position, score, relevance and their sums


class FloatQueries(NamedTuple):
    """Queries in both forms."""

    codes: Tensor
    """(Q, b) in {-1, +1}, or packed (Q, B) uint8: for the Hamming search."""
    values: Tensor
    """(Q, b) real values v(q): for the score ``<v(q), c(x)>``."""


@dataclass(frozen=True)
class ScoreFunctions:
    """Functions of lists that are ranked by score.

    Args:
        of_database: by name, for rankings of the whole database.
        of_rescored: by name, for rankings of the best `CANDIDATES_PER_RESULT` K items of a Hamming search.
        need_totals: count the relevant items in the whole database for them.
    """

    of_database: Mapping[str, ListFunction] = field(default_factory=dict)
    of_rescored: Mapping[str, ListFunction] = field(default_factory=dict)
    need_totals: bool = False


def values_per_float_query(
    queries: FloatQueries,
    database_codes: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    k: int,
    functions: ScoreFunctions,
) -> dict[str, Tensor]:
    """Values of all functions for every query, computed on the CPU.

    Args:
        queries: of the same length as the database codes.
        database_codes: (N, b) in {-1, +1}, or packed (N, B) uint8.
        query_labels: (Q,) class indices or (Q, C) multi-hot.
        database_labels: (N,) or (N, C), the same kind.
        k: cut of the ranking; the whole database when larger than N.
        functions: at least one.

    Returns:
        (Q,) float64 by name of the function.
    """
    require_positive_int("k", k)
    query_labels, database_labels = query_labels.cpu(), database_labels.cpu()
    check_label_kinds(query_labels, database_labels)
    for name, rows, labels in (
        ("query", queries.values, query_labels),
        ("database", database_codes, database_labels),
    ):
        check_one_label_each(name, rows, labels)
    total = relevant_totals(query_labels, database_labels) if functions.need_totals else None
    packed = torch.from_numpy(as_bytes(database_codes, queries.values.shape[1], "database_codes"))
    width = 1 if database_labels.ndim == 1 else database_labels.shape[1]
    per_place = _BYTES_PER_PLACE + width * (database_labels.element_size() + 2)  # gathered, as bool, and compared
    by_name = {**functions.of_database, **functions.of_rescored}
    values = {name: torch.empty(len(query_labels), dtype=torch.float64) for name in by_name}
    for part in chunks(len(query_labels), min(k, len(packed)) * per_place, MEMORY_BUDGET):
        its = FloatQueries(queries.codes[part], queries.values[part])
        best = nearest_by_values(its.values, packed, k + 1)  # one more tells whether the last place is tied
        rankings = [(functions.of_database, best[1][:, :k])] if functions.of_database else []
        if functions.of_rescored:
            rankings.append((functions.of_rescored, _rescored(its, packed, k, *best)))
        for some, positions in rankings:
            relevance = relevance_of(query_labels[part], database_labels, positions)
            lists = RankedLists(relevance, None if total is None else total[part], len(database_codes))
            for name, function in some.items():
                values[name][part] = one_value_each(name, function(lists, k), len(relevance))
    return values


def _rescored(queries: FloatQueries, packed: Tensor, k: int, scores: Tensor, best: Tensor) -> Tensor:
    """Positions of the best items by score among the R nearest of a Hamming search.

    The best items of the whole database are the answer for a query that has all of them among its R nearest, and no
    equal scores whose order the distance decides. For the other queries the search is made.

    Args:
        queries: of `nearest_by_values`.
        packed: (N, B) uint8 database codes.
        k: cut of the ranking.
        scores: (Q, min(k + 1, N)) of the best items of the whole database.
        best: their positions.

    Returns:
        (Q, min(k, N)) int64.
    """
    database, candidates = packed.numpy(), min(CANDIDATES_PER_RESULT * k, len(packed))
    codes = as_bytes(queries.codes, queries.values.shape[1], "query_codes")
    cut = min(k, len(packed))
    distances = torch.from_numpy(_ONES[codes[:, None] ^ database[best.numpy()]].sum(axis=2, dtype=np.int64))
    tied = scores[:, 1:] == scores[:, :-1]
    undecided = tied & (distances[:, 1:] != distances[:, :-1])
    undecided[:, cut - 1 :] |= tied[:, cut - 1 :]
    farthest = distances[:, :cut].amax(dim=1)
    sure = (_counts_within(codes, database, farthest) <= candidates) & ~undecided.any(dim=1)
    positions = best[:, :cut].clone()
    searched = (~sure).nonzero().flatten()
    values = as_values(queries.values)
    for some in chunks(len(searched), candidates * _BYTES_PER_PLACE, MEMORY_BUDGET):
        rows = searched[some]
        found = scan(codes[rows.numpy()], database, candidates)[1]
        places = torch.from_numpy(rescore_candidates(values[rows.numpy()], database, found, cut)[1])
        positions[rows] = torch.from_numpy(found).gather(1, places)
    return positions


def _counts_within(codes: np.ndarray, database: np.ndarray, radius: Tensor) -> Tensor:
    """Database items (Q,) int64 within a distance (Q,) of each query, by matrix products of packed codes."""
    bits = 8 * codes.shape[1]
    queries, signs = (as_signs(torch.from_numpy(each), bits).float() for each in (codes, database))
    counts = torch.empty(len(codes), dtype=torch.int64)
    for rows in chunks(len(codes), 5 * len(database), MEMORY_BUDGET):
        counts[rows] = (queries[rows] @ signs.T >= (bits - 2 * radius[rows])[:, None]).sum(dim=1)
    return counts
