"""Hamming distances of one query from a whole database, by counting the bits of 64-bit words.

Shapes: Q queries, N database codes, b bits, B bytes and W words per code.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from brcd_lightning.codes import hamming_distance, require_same_bits
from brcd_lightning.search.exact import as_bytes


def positions_at(queries: Tensor, database: Tensor, distances: Tensor) -> Iterator[Tensor]:
    """Positions of all database codes at exactly the given Hamming distance of each query.

    Args:
        queries: (Q, b) codes in {-1, +1}, or packed (Q, B) uint8.
        database: (N, b) codes, the same form.
        distances: (Q,) integers.

    Yields:
        (n,) int64 for each query, ascending, on the queries' device.

    Examples:
        >>> import torch
        >>> database = torch.tensor([[1, -1], [1, 1], [-1, 1]])
        >>> [positions.tolist() for positions in positions_at(torch.tensor([[1, 1]]), database, torch.tensor([1]))]
        [[0, 2]]
    """
    require_same_bits(queries, database)
    if queries.is_cuda:
        for query, distance in zip(queries, distances, strict=True):
            yield (hamming_distance(query[None], database)[0] == distance).nonzero().flatten()
        return
    words = as_words(as_bytes(database))
    for code, distance in zip(as_words(as_bytes(queries)).T, distances.numpy(), strict=True):
        yield torch.from_numpy(np.flatnonzero(hamming_distances(code, words) == distance))


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
