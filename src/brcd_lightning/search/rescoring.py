"""Rescoring: the results of a Hamming search, re-ordered by score.

Shapes: Q queries, N database codes, R candidates per query, L ranks of a ranking, b bits, B bytes per code.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

import numpy as np

from brcd_lightning.errors import InputError, require_positive_int
from brcd_lightning.search.popcounts import as_words, hamming_distances, nearest_positions
from brcd_lightning.search.values import best_places, exact_scores

CANDIDATES_PER_RESULT = 10
"""Default number of results of the Hamming search that are rescored per requested result."""


class Ranking(NamedTuple):
    """Best database codes of each query by score, with equal scores in database order."""

    scores: np.ndarray
    """(Q, L) float64, descending."""
    positions: np.ndarray
    """(Q, L) int64."""


def candidate_count(k: int, candidates: int | None) -> int:
    """Number of candidates for k results: the given number, or `CANDIDATES_PER_RESULT` times k.

    Raises:
        InputError: if it is below k.
    """
    count = CANDIDATES_PER_RESULT * k if candidates is None else candidates
    require_positive_int("candidates", count)
    if count < k:
        raise InputError(f"candidates must be at least k, got {count} for k={k}.")
    return count


def rescore_candidates(
    values: np.ndarray, codes: np.ndarray, positions: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Re-orders the candidates of each query by score; equal scores keep the order of the candidates.

    Only the candidates of one query are copied at a time.

    Args:
        values: (Q, b) float64, of `values.as_values`.
        codes: (N, B) uint8 packed codes; may be memory-mapped.
        positions: (Q, R) int64 rows of `codes`, best first; -1 in an empty slot.
        k: results per query, at most R.

    Returns:
        scores (Q, k) float64, descending, with minus infinity in an empty slot, and columns (Q, k) int64 in 0..R - 1.
    """
    scores = np.full(positions.shape, -np.inf)
    for query, candidates in enumerate(positions):
        found = np.flatnonzero(candidates >= 0)
        scores[query, found] = exact_scores(values[query], codes.take(candidates[found], axis=0))
    places = best_places(scores, k)
    return np.take_along_axis(scores, places, axis=1), places


def rescored_positions(
    values: np.ndarray, queries: np.ndarray, codes: np.ndarray, candidates: int, k: int, ranking: Ranking
) -> np.ndarray:
    """Positions of the k best codes by score among the `candidates` nearest codes by Hamming distance.

    Equal scores come in the order of the Hamming search: by distance, then by position. A ranking of the whole database
    by score answers most queries, because its first ranks are candidates. For the others all candidates are scored.

    Args:
        values: (Q, b) float64, of `values.as_values`.
        queries: (Q, B) uint8 packed codes of the same queries.
        codes: (N, B) uint8 packed database codes.
        candidates: number of candidates of the Hamming search, in k..N.
        k: results per query.
        ranking: ranking by the same values, slightly deeper than k.

    Returns:
        (Q, k) int64.
    """
    positions = np.empty((len(values), k), dtype=np.int64)
    database = as_words(codes)
    for query, words in enumerate(as_words(queries).T):
        distances = hamming_distances(words, database)
        found = _candidates_in_order(distances, candidates, k, ranking.scores[query], ranking.positions[query])
        if found is None or len(found) < k:
            nearest = nearest_positions(distances, candidates)[:candidates]
            scores = exact_scores(values[query], codes.take(nearest, axis=0))
            found = nearest[best_places(scores[None], k)[0]]
        positions[query] = found
    return positions


def _candidates_in_order(
    distances: np.ndarray, candidates: int, k: int, scores: np.ndarray, positions: np.ndarray
) -> np.ndarray | None:
    """Up to k first positions of a query's ranking that are candidates; None if equal scores are not in their order."""
    complete = len(positions) == len(distances)
    known = positions if complete else positions[: np.searchsorted(-scores, -scores[-1])]  # equals may follow the end
    its_scores, its_distances = scores[: len(known)], distances.take(known)
    equal = its_scores[1:] == its_scores[:-1]
    if (equal & (its_distances[1:] < its_distances[:-1])).any():
        return None
    farthest = its_distances[:k].max(initial=0)
    if np.count_nonzero(distances <= farthest) <= candidates:  # all codes as near as these are candidates
        return known[:k]
    radii = range(int(farthest) + 1)
    radius = bisect_left(radii, candidates, key=lambda each: int(np.count_nonzero(distances <= each)))
    at_radius = candidates - np.count_nonzero(distances < radius)
    last = np.flatnonzero(distances == radius)[at_radius - 1]  # candidates at the radius come in database order
    found: np.ndarray = known[(its_distances < radius) | ((its_distances == radius) & (known <= last))]
    return found[:k]
