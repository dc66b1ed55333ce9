"""Values of each query when real query values are ranked against stored bits; no Hamming scores.

Shapes: Q queries, N database items, b bits, K the cut of the ranking, C classes; R ids in a list of relevant items, or
results of the Hamming search.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

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
from brcd_lightning.metrics.per_query import MEMORY_BUDGET, ListFunction, one_value_each
from brcd_lightning.search import nearest_by_values
from brcd_lightning.search.exact import as_bytes
from brcd_lightning.search.rescoring import CANDIDATES_PER_RESULT, Ranking, rescored_positions
from brcd_lightning.search.values import as_values

_BYTES_PER_PLACE = 64  # of a list: position, score, relevance and their sums
_DEPTH = 1.25
"""Places ranked by score for each of K: nearly always K of them are candidates of the Hamming search."""


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
        query_labels: (Q,) class indices, (Q, C) multi-hot, or (Q, R) lists of relevant ids, see `lists`.
        database_labels: (N,) or (N, C), the same kind; of lists (N,) ids.
        k: cut of the ranking; the whole database when larger than N.
        functions: at least one.

    Returns:
        (Q,) float64 by name of the function.
    """
    require_positive_int("k", k)
    query_labels, database_labels = query_labels.cpu(), database_labels.cpu()
    check_label_kinds(query_labels, database_labels)
    check_label_values(query_labels, database_labels)
    for name, rows, labels in (
        ("query", queries.values, query_labels),
        ("database", database_codes, database_labels),
    ):
        check_one_label_each(name, rows, labels)
    total = relevant_totals(query_labels, database_labels) if functions.need_totals else None
    packed = torch.from_numpy(as_bytes(database_codes, queries.values.shape[1], "database_codes"))
    width = 1 if database_labels.ndim == 1 else database_labels.shape[1]
    per_place = _BYTES_PER_PLACE + width * (database_labels.element_size() + 2)  # gathered, as bool, and compared
    every = functions.of_database.keys() | functions.of_rescored.keys()
    values = {name: torch.empty(len(query_labels), dtype=torch.float64) for name in every}
    for part, rankings in _rankings(queries, packed, min(k, len(packed)), per_place, bool(functions.of_rescored)):
        for by_name, positions in zip((functions.of_database, functions.of_rescored), rankings, strict=False):
            relevance = relevance_of(query_labels[part], database_labels, positions)
            lists = RankedLists(relevance, None if total is None else total[part], len(database_codes))
            for name, function in by_name.items():
                values[name][part] = one_value_each(name, function(lists, k), len(relevance))
    return values


def _rankings(
    queries: FloatQueries, packed: Tensor, k: int, per_place: int, rescored: bool
) -> Iterator[tuple[slice, list[Tensor]]]:
    """Positions (rows, k) of the best items, of parts of the queries: by score, and rescored if asked."""
    values, database = as_values(queries.values), packed.numpy()
    codes = as_bytes(queries.codes, values.shape[1], "query_codes")
    depth = min(math.ceil(k * _DEPTH), len(packed)) if rescored else k
    candidates = min(CANDIDATES_PER_RESULT * k, len(packed))
    for rows in chunks(len(values), depth * per_place, MEMORY_BUDGET):
        scores, positions = nearest_by_values(queries.values[rows], packed, depth)
        rankings = [positions[:, :k]]
        if rescored:
            ranking = Ranking(scores.numpy(), positions.numpy())
            best = rescored_positions(values[rows], codes[rows], database, candidates, k, ranking)
            rankings.append(torch.from_numpy(best))
        yield rows, rankings
