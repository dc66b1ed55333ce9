"""Hamming distances of one query from a whole database, by counting the bits of 64-bit words.

Shapes: Q queries, N database codes, D places of a list, b bits, B bytes and W words per code.
"""

from __future__ import annotations

import faiss
import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from brcd_lightning.codes import as_signs, hamming_distance, require_same_bits
from brcd_lightning.errors import require_positive_int
from brcd_lightning.search.exact import PAIRS, as_bytes, thread_pool

_SAMPLED = 16
"""Sampling step of the distances that a guess reads."""


def nearest_groups(queries: Tensor, database: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest database codes of each query and all others at the distance of the k-th.

    Args:
        queries: (Q, b) codes in {-1, +1}, or packed (Q, B) uint8; at least one.
        database: (N, b) codes, the same form.
        k: neighbours per query; the whole database when larger than N.

    Returns:
        distances and database positions (Q, D) int64, on the queries' device; equal distances come in database order.
        D is the length of the longest list; a shorter list ends in distances above every real one and positions 0.

    Examples:
        >>> import torch
        >>> database = torch.tensor([[1, -1], [1, 1], [-1, 1], [-1, -1]])
        >>> distances, positions = nearest_groups(torch.tensor([[1, 1]]), database, k=2)
        >>> distances.tolist(), positions.tolist()
        ([[0, 1, 1]], [[1, 0, 2]])
    """
    require_positive_int("k", k)
    require_same_bits(queries, database)
    k = min(k, len(database))
    if queries.is_cuda:
        lists = _lists_by_products(queries, database, k)
    else:
        lists = _lists_by_counting(as_words(as_bytes(queries)), as_words(as_bytes(database)), k)
    beyond = queries.shape[1] * (8 if queries.dtype == torch.uint8 else 1) + 1
    distances = pad_sequence([distances for distances, _ in lists], batch_first=True, padding_value=beyond)
    return distances, pad_sequence([positions for _, positions in lists], batch_first=True)


def _lists_by_products(queries: Tensor, database: Tensor, k: int) -> list[tuple[Tensor, Tensor]]:
    """Distances and positions of each query, by matrix products, for a GPU."""
    lists = []
    queries, database = as_signs(queries), as_signs(database)
    for some in queries.split(max(1, PAIRS // len(database))):
        for distances in hamming_distance(some, database):
            ordered, positions = distances.sort(stable=True)
            length = int((ordered <= ordered[k - 1]).sum())
            lists.append((ordered[:length], positions[:length]))
    return lists


def _lists_by_counting(queries: np.ndarray, database: np.ndarray, k: int) -> list[tuple[Tensor, Tensor]]:
    """Distances and positions of each query, from words (W, Q) and (W, N), on as many threads as faiss has."""

    def found(code: np.ndarray) -> tuple[Tensor, Tensor]:
        distances = hamming_distances(code, database)
        positions = nearest_positions(distances, k)
        return torch.from_numpy(distances.take(positions).astype(np.int64)), torch.from_numpy(positions)

    threads = faiss.omp_get_max_threads()
    return list(map(found, queries.T) if threads == 1 else thread_pool(threads).map(found, queries.T))


def nearest_positions(distances: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k smallest of the distances (N,) and of all others that equal the k-th, in stable order."""
    positions = np.flatnonzero(distances <= _kth_smallest(distances, k))
    order: np.ndarray = positions[np.argsort(distances.take(positions), kind="stable")]  # counts small integers
    return order


def _kth_smallest(distances: np.ndarray, k: int) -> int:
    """The k-th smallest distance: a guess from a sample, corrected by counting."""
    sample = distances[::_SAMPLED]
    place = min(k // _SAMPLED, len(sample) - 1)
    radius = int(np.partition(sample, place)[place])
    while np.count_nonzero(distances <= radius) < k:
        radius += 1
    while radius and np.count_nonzero(distances < radius) >= k:
        radius -= 1
    return radius


def as_words(codes: np.ndarray) -> np.ndarray:
    """Packed codes (n, B) as words (W, n) uint64, padded with zeros."""
    missing = -codes.shape[1] % 8
    padded = np.pad(codes, ((0, 0), (0, missing))) if missing else codes
    return np.ascontiguousarray(padded.view(np.uint64).T)


def hamming_distances(query: np.ndarray, database: np.ndarray) -> np.ndarray:
    """Hamming distances (N,) of one query (W,) from a database (W, N), both of `as_words`."""
    total: np.ndarray = np.bitwise_count(database[0] ^ query[0])
    for word, column in zip(query[1:], database[1:], strict=True):
        total = np.add(total, np.bitwise_count(column ^ word), dtype=np.uint16)
    return total
