"""Verification of a search against an exact scan, and detection of near-duplicates.

Shapes: Q queries, k results of each, N images.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from brcd_lightning.deployment.image_index.image_index import ImageIndex
from brcd_lightning.deployment.image_index.searched import SearchedImages
from brcd_lightning.search import HammingIndex, SearchResult

_FLIPPED = 0.03
"""Share of bits in which a verification query differs from an image of the index."""

_QUERIES_AT_A_TIME = 1024


class Verification(NamedTuple):
    """Measurements of an index against an exact scan of the same codes."""

    queries: int
    k: int
    recall: float
    """Share of the k results no farther than the k-th true neighbour, so that ties count as correct."""
    empty_slots: int
    """Number of results that the index did not return."""
    p50_ms: float
    """Median time of single queries."""
    p95_ms: float
    exact_p50_ms: float
    exact_p95_ms: float


def verify(index: SearchedImages, *, queries: int = 200, k: int = 10, seed: int = 0) -> Verification:
    """Searches for codes of the index with a few flipped bits, and compares the results with an exact scan in memory.

    Args:
        index: to be verified. Its codes must fit in memory.
        queries: number of queries Q.
        k: results per query.
        seed: of the queries.
    """
    codes, bits, k = index.packed_codes(), index.bits, min(k, len(index))
    generator = np.random.default_rng(seed)
    rows = codes[generator.integers(len(index), size=queries)]
    flips = np.packbits(generator.random((queries, 8 * rows.shape[1])) < _FLIPPED, axis=1, bitorder="little")
    if bits % 8:
        flips[:, -1] &= (1 << bits % 8) - 1
    asked = torch.from_numpy(rows ^ flips)
    exact = HammingIndex.build(torch.from_numpy(codes.copy()), bits=bits, kind="flat")
    distances, times = _timed(index.search_codes, asked, k)
    truth, exact_times = _timed(exact.search, asked, k)
    return Verification(
        queries=queries,
        k=k,
        recall=float((distances <= truth[:, -1:]).mean()),
        empty_slots=int((distances > bits).sum()),
        p50_ms=float(np.percentile(times, 50)),
        p95_ms=float(np.percentile(times, 95)),
        exact_p50_ms=float(np.percentile(exact_times, 50)),
        exact_p95_ms=float(np.percentile(exact_times, 95)),
    )


def _timed(
    search: Callable[[torch.Tensor, int], SearchResult], queries: torch.Tensor, k: int
) -> tuple[np.ndarray, list[float]]:
    """Distances (Q, k) and milliseconds of each query."""
    distances, times = [], []
    for query in queries:
        started = time.perf_counter()
        distances.append(search(query[None], k).distances.numpy())
        times.append(1e3 * (time.perf_counter() - started))
    return np.concatenate(distances), times


def near_duplicates(index: ImageIndex, max_distance: int) -> list[list[str]]:
    """Finds groups of images whose codes are connected by steps of at most `max_distance` bits.

    Args:
        index: of the images.
        max_distance: Hamming distance, at least 0.

    Returns:
        Paths of each group of two or more, in the order of the index, with the largest group first.
    """
    codes, of_image = np.unique(index.images.codes, axis=0, return_inverse=True)
    exact = HammingIndex.build(torch.from_numpy(codes), bits=index.manifest.bits, kind="flat")
    rows, columns = [], []
    for start in range(0, len(codes), _QUERIES_AT_A_TIME):
        part = torch.from_numpy(codes[start : start + _QUERIES_AT_A_TIME])
        hits = exact.search_radius(part, max_distance)
        rows.append(start + np.repeat(np.arange(len(part)), np.diff(hits.offsets.numpy())))
        columns.append(hits.ids.numpy())
    edges = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(edges[0]), bool), edges), shape=(len(codes), len(codes)))
    _, component = connected_components(graph, directed=False)
    groups: dict[int, list[str]] = {}
    for path, number in zip(index.images.paths, component[of_image.reshape(-1)].tolist(), strict=True):
        groups.setdefault(number, []).append(path)
    return sorted((group for group in groups.values() if len(group) > 1), key=len, reverse=True)
