"""Search by real-valued features, without hashing: exact, and with product quantisation at the size of the codes.

Exact search gives the upper bound of a backbone. Both are reference values for codes: query features are never
binarised, and database features are at most quantised.

Shapes: Q queries, N database items, n training images, d features.
"""

from __future__ import annotations

import faiss
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from brcd_lightning.errors import InputError, require_choice, require_positive_int
from brcd_lightning.search.values import best_places

FEATURE_SEARCHES = ("features", "pq", "opq")
"""``features`` is exact; ``pq`` (Jegou et al. 2011) and ``opq`` (Ge et al. 2013) quantise only the database."""
QUANTISED = ("pq", "opq")
CENTROIDS = 256
_BYTE = 8
_DIMENSIONS_PER_BYTE = 16
_QUERIES = 64
"""Queries whose distances to the whole database are held at a time."""


def nearest_by_features(query: Tensor, database: Tensor, train: Tensor, *, kind: str, bits: int, k: int) -> Tensor:
    """The k nearest database items of each query by cosine of their features.

    Args:
        query: (Q, d) finite features.
        database: (N, d) features of the same network.
        train: (n, d) features of the images that a quantiser is fitted on, at least `CENTROIDS` rows.
        kind: one of `FEATURE_SEARCHES`.
        bits: size of a quantised item, a multiple of 8; not used by ``features``.
        k: items per query; the whole database when larger than N.

    Returns:
        (Q, min(k, N)) int64 positions, best first.

    Raises:
        InputError: for bits that are not a multiple of 8, or too few training images.
    """
    require_choice("kind", kind, FEATURE_SEARCHES)
    require_positive_int("k", k)
    rows = {"query": query, "database": database, "train": train}
    unit = {name: F.normalize(each.detach().cpu().float(), dim=1).numpy() for name, each in rows.items()}
    k = min(k, len(database))
    if kind == "features":
        index = faiss.IndexFlatIP(query.shape[1])
        index.add(unit["database"])
        return torch.from_numpy(index.search(unit["query"], k)[1])
    require_bytes(bits, len(train))
    parts = bits // _BYTE
    unit = {name: _padded(each, parts) for name, each in unit.items()}
    if kind == "opq":
        rotation = _rotation(unit["train"], parts)
        unit = {name: rotation.apply(each) for name, each in unit.items()}
    quantiser = _quantiser(unit["train"].shape[1], parts)
    quantiser.train(unit["train"])
    return torch.from_numpy(_nearest_by_tables(quantiser, unit["query"], quantiser.compute_codes(unit["database"]), k))


def _rotation(train: np.ndarray, parts: int) -> faiss.OPQMatrix:
    """OPQ's rotation into a few dimensions per byte, as faiss recommends, which also makes the fit fast."""
    rotation = faiss.OPQMatrix(train.shape[1], parts, min(train.shape[1], _DIMENSIONS_PER_BYTE * parts))
    its_own = _quantiser(rotation.d_out, parts)
    rotation.pq = its_own
    rotation.train(train)
    rotation.pq = None  # it is freed by Python
    return rotation


def _quantiser(width: int, parts: int) -> faiss.ProductQuantizer:
    quantiser = faiss.ProductQuantizer(width, parts, _BYTE)
    quantiser.cp.min_points_per_centroid = 1  # no warning, for every byte and round, that recommends 39
    return quantiser


def _nearest_by_tables(quantiser: faiss.ProductQuantizer, query: np.ndarray, codes: np.ndarray, k: int) -> np.ndarray:
    """The k nearest quantised items of each query (Q, k); equal distances come in database order.

    The distance from a real query is a sum over bytes, read from one table per byte. faiss reads them as fast, but
    keeps k results in a heap, which takes three quarters of its time at k = 1,000.
    """
    centroids = faiss.vector_to_array(quantiser.centroids).reshape(quantiser.M, CENTROIDS, quantiser.dsub)
    half_norms = np.square(centroids).sum(axis=2) / 2
    columns = np.ascontiguousarray(codes.T).astype(np.intp)
    positions = np.empty((len(query), k), dtype=np.int64)
    scores = np.empty((_QUERIES, len(codes)), dtype=np.float32)
    for start in range(0, len(query), _QUERIES):
        part = query[start : start + _QUERIES].reshape(-1, quantiser.M, quantiser.dsub)
        tables = np.einsum("qmd,mcd->qmc", part, centroids, optimize=True) - half_norms
        for its_tables, its_scores in zip(tables, scores, strict=False):
            its_scores[:] = 0
            for table, column in zip(its_tables, columns, strict=True):
                np.add(its_scores, table.take(column), out=its_scores)
        positions[start : start + len(part)] = best_places(scores[: len(part)], k)
    return positions


def require_bytes(bits: int, images: int) -> None:
    """Raises `InputError` unless a quantiser of `bits` can be fitted on this number of images."""
    if bits % _BYTE:
        raise InputError(f"bits must be a multiple of {_BYTE} for product quantisation, got {bits}.")
    if images < CENTROIDS:
        raise InputError(f"product quantisation needs at least {CENTROIDS} training images, got {images}.")


def _padded(rows: np.ndarray, parts: int) -> np.ndarray:
    """Rows (n, d) padded with zero columns to a multiple of `parts`, which does not change distances."""
    missing = -rows.shape[1] % parts
    return np.pad(rows, ((0, 0), (0, missing))) if missing else rows
