"""Exact search: a multithreaded scan of all packed codes on a CPU, matrix products on a GPU.

Equal distances come in database order.

Shapes: Q queries, N database codes, B bytes per code.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import faiss
import numpy as np
import torch
from torch import Tensor

from brcd_lightning.codes import as_packed, as_signs, hamming_distance, require_same_bits
from brcd_lightning.errors import require_positive_int

PAIRS = 1 << 24
"""Distances that a GPU holds at a time."""
_QUERIES_PER_THREAD = 16
"""Queries that share one read of the database; more queries need more counters."""
_COUNTER_BYTES = 1 << 22
"""Bytes of counters that a thread fills at a time; the scan takes twice as long if they exceed its cache."""
_SHARES_PER_THREAD = 4
"""Shares of the queries per thread, so that threads that finish early take another share."""
_FAST_BYTES = (4, 8, 16, 20, 32, 64)
"""Bytes of codes that faiss counts by whole words; others take up to twice as long."""
_ROWS_PER_PART = 1 << 17
"""Fewest rows per part; a smaller part is scanned before a second thread has woken up."""


class RadiusHits(NamedTuple):
    """Database rows within a radius of each query, nearest first."""

    offsets: np.ndarray
    """(Q + 1,) int64: hits of query q are rows ``offsets[q]:offsets[q + 1]``."""
    distances: np.ndarray
    """(hits,) int32, ascending per query."""
    positions: np.ndarray
    """(hits,) int64, ascending inside one distance."""


class FoundCodes(NamedTuple):
    """Nearest codes of each query, with the codes themselves; equal distances come in database order."""

    distances: np.ndarray
    """(Q, k) int32, ascending, apart from empty slots."""
    positions: np.ndarray
    """(Q, k) int64 database positions; -1 in an empty slot."""
    codes: np.ndarray
    """(M, B) uint8; the whole database, or a copy of the codes found."""
    rows: np.ndarray
    """(Q, k) int64 rows of `codes`; -1 in an empty slot."""


def nearest_codes(queries: Tensor, database: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest database codes of each query; equal distances come in database order.

    Args:
        queries: (Q, b) codes in {-1, +1}, or packed (Q, B) uint8.
        database: (N, b) codes, the same form.
        k: neighbours per query; the whole database when larger than N.

    Returns:
        distances (Q, min(k, N)), ascending, and database positions (Q, min(k, N)) int64, on the queries' device.

    Examples:
        >>> import torch
        >>> database = torch.tensor([[1, 1, 1], [-1, -1, -1], [1, 1, -1], [1, -1, 1]])
        >>> distances, positions = nearest_codes(torch.tensor([[1, 1, 1]]), database, k=3)
        >>> distances.tolist(), positions.tolist()
        ([[0, 1, 1]], [[0, 2, 3]])
    """
    require_positive_int("k", k)
    require_same_bits(queries, database)
    k = min(k, len(database))
    if len(queries) == 0 or k == 0:
        return queries.new_empty((len(queries), k), dtype=torch.int32), queries.new_empty((len(queries), k)).long()
    if queries.is_cuda:
        return _nearest_by_products(as_signs(queries), as_signs(database), k)
    distances, positions = scan(as_bytes(queries), as_bytes(database), k)
    return torch.from_numpy(distances), torch.from_numpy(positions)


def use_threads(count: int) -> None:
    """Sets the number of threads of torch and faiss.

    One thread is best for single queries on a busy machine, since a team of threads waits for its slowest member.
    """
    torch.set_num_threads(count)
    faiss.omp_set_num_threads(count)


def as_bytes(codes: Tensor, bits: int | None = None, name: str = "codes") -> np.ndarray:
    """Codes in either form as a contiguous array (N, B) uint8, see `codes.as_packed`."""
    return np.ascontiguousarray(as_packed(codes, bits, name).cpu().numpy())


def scan(queries: np.ndarray, database: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest rows (k <= N) by counting: one bucket per distance, filled in database order.

    Args:
        queries: (Q, B) uint8.
        database: (N, B) uint8, contiguous; may be memory-mapped.
        k: rows per query.

    Returns:
        distances (Q, k) int32 and positions (Q, k) int64.
    """
    distances = np.empty((len(queries), k), dtype=np.int32)
    positions = np.empty((len(queries), k), dtype=np.int64)
    if len(queries) >= _QUERIES_PER_THREAD:  # for fewer, copying the database takes longer
        queries, database = _padded(queries), _padded(database)
    threads = faiss.omp_get_max_threads()
    share = max(1, -(-len(queries) // (threads * _SHARES_PER_THREAD)))
    parts = [slice(start, start + share) for start in range(0, len(queries), share)]

    def fill(rows: slice) -> None:
        distances[rows], positions[rows] = _count(queries[rows], database, k)

    if threads == 1:
        fill(slice(None))
    else:
        list(thread_pool(threads).map(fill, parts))
    return distances, positions


def _padded(codes: np.ndarray) -> np.ndarray:
    """Codes (n, B) with zero bytes up to the next of `_FAST_BYTES`, which change no distance."""
    missing = next((size for size in _FAST_BYTES if size >= codes.shape[1]), codes.shape[1]) - codes.shape[1]
    return np.pad(codes, ((0, 0), (0, missing))) if missing else codes


def _count(queries: np.ndarray, database: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """`scan` on the calling thread."""
    distances = np.empty((len(queries), k), dtype=np.int32)
    positions = np.empty((len(queries), k), dtype=np.int64)
    counters = max(1, 8 * k * (8 * queries.shape[1] + 1))  # bytes that faiss allocates per query
    step = max(1, min(_QUERIES_PER_THREAD, _COUNTER_BYTES // counters))
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        # Counting instead of a heap is several times faster for k in the hundreds, and gives the same stable order.
        distances[rows], positions[rows] = faiss.knn_hamming(queries[rows], database, k, variant="mc")
    return distances, positions


def scan_in_parts(queries: np.ndarray, database: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Same as `scan`, for fewer queries than threads: each thread scans a part of the database."""
    parts = min(faiss.omp_get_max_threads(), len(database) // max(k, _ROWS_PER_PART))
    if parts <= len(queries):
        return scan(queries, database, k)
    starts = [len(database) * part // parts for part in range(parts + 1)]
    scans = thread_pool(parts).map(lambda i: _count(queries, database[starts[i] : starts[i + 1]], k), range(parts))
    found = list(scans)  # faiss releases the GIL while it scans
    distances = np.concatenate([part[0] for part in found], axis=1)
    positions = np.concatenate([part[1] + start for part, start in zip(found, starts, strict=False)], axis=1)
    # Parts are in database order, so a stable sort keeps that order among equal distances.
    order = distances.astype(np.int16).argsort(axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(positions, order, axis=1)


@cache
def thread_pool(threads: int) -> ThreadPoolExecutor:
    """Threads that share the scans of a process."""
    # One OpenMP thread for each of ours: on a busy machine, a team waits for its slowest thread at the end of every
    # call, and deep scans consist of many short calls.
    return ThreadPoolExecutor(threads, initializer=faiss.omp_set_num_threads, initargs=(1,))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=thread_pool.cache_clear)  # threads do not survive a fork


def scan_radius(queries: np.ndarray, database: np.ndarray, radius: int) -> RadiusHits:
    """All rows within `radius` (inclusive) of each query.

    Args:
        queries: (Q, B) uint8.
        database: (N, B) uint8, contiguous; may be memory-mapped.
        radius: Hamming distance, at least 0.
    """
    found = faiss.RangeSearchResult(len(queries))
    pointers = (faiss.swig_ptr(queries), faiss.swig_ptr(database))
    search_range = faiss.hamming_range_search  # type: ignore[attr-defined]  # absent from faiss's stubs
    search_range(*pointers, len(queries), len(database), radius + 1, queries.shape[1], found)  # its bound is exclusive
    offsets = faiss.rev_swig_ptr(found.lims, len(queries) + 1).astype(np.int64)
    distances = faiss.rev_swig_ptr(found.distances, int(offsets[-1])).astype(np.int32)
    positions = faiss.rev_swig_ptr(found.labels, int(offsets[-1])).copy()
    return sorted_hits(offsets, distances, positions)


def sorted_hits(offsets: np.ndarray, distances: np.ndarray, positions: np.ndarray) -> RadiusHits:
    """Sorts the hits of each query by distance, then by position."""
    query = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((positions, distances, query))
    return RadiusHits(offsets, distances[order], positions[order])


def _nearest_by_products(queries: Tensor, database: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`nearest_codes` by matrix products, for a GPU; one integer key sorts by distance, then by position."""
    positions = torch.arange(len(database), device=database.device)
    step = max(1, PAIRS // len(database))
    parts = []
    for start in range(0, len(queries), step):
        keys = hamming_distance(queries[start : start + step], database) * len(database) + positions
        parts.append(keys.topk(k, dim=1, largest=False, sorted=True).values)
    nearest = torch.cat(parts)
    return nearest // len(database), nearest % len(database)


class ScannedCodes:
    """An exact index that consists only of packed codes, in database order.

    Args:
        codes: (N, B) uint8, contiguous; not copied.
        in_parts: scan parts of the database in parallel if there are fewer queries than threads.
    """

    exact = True
    removal_shifts = True
    """True: rows after a removed one move up."""

    def __init__(self, codes: np.ndarray, in_parts: bool) -> None:
        self._buffer, self._count = codes, len(codes)
        self._scan = scan_in_parts if in_parts else scan

    def __len__(self) -> int:
        return self._count

    @property
    def codes(self) -> np.ndarray:
        """(N, B) uint8."""
        return self._buffer[: self._count]

    def add(self, codes: np.ndarray, positions: np.ndarray) -> None:
        """Appends rows; a full buffer grows at least by a factor of two, so many small additions are cheap."""
        needed = self._count + len(codes)
        if needed > len(self._buffer):
            grown = np.empty((max(needed, 2 * self._count), codes.shape[1]), dtype=np.uint8)
            grown[: self._count] = self.codes
            self._buffer = grown
        self._buffer[self._count : needed] = codes
        self._count = needed

    def remove(self, positions: np.ndarray) -> None:
        """Removes rows; the others keep their order."""
        self._buffer = np.delete(self.codes, positions, axis=0)
        self._count = len(self._buffer)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Distances (Q, k) int32 and positions (Q, k) int64."""
        return self._scan(queries, self.codes, k)

    def search_codes(self, queries: np.ndarray, k: int) -> FoundCodes:
        """`search`, with the codes that it finds."""
        distances, positions = self.search(queries, k)
        return FoundCodes(distances, positions, self.codes, positions)

    def search_radius(self, queries: np.ndarray, radius: int) -> RadiusHits:
        """See `scan_radius`."""
        return scan_radius(queries, self.codes, radius)

    def write(self, write: Callable[[Any], object]) -> None:
        """Writes the packed codes."""
        write(np.ascontiguousarray(self.codes).reshape(-1).data)
