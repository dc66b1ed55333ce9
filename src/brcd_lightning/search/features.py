"""Search by real features, without hashing: the ceiling of a backbone, and product quantisation at equal bytes.

They are context for codes: features of a query are never binarised, and those of the database at most quantised.

Shapes: Q queries, N database items, n training images, d features.
"""

from __future__ import annotations

import faiss
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from brcd_lightning.errors import InputError, require_choice, require_positive_int

FEATURE_SEARCHES = ("features", "pq", "opq")
"""``features`` is exact; ``pq`` (Jegou et al. 2011) and ``opq`` (Ge et al. 2013) quantise the database alone."""
CENTROIDS = 256
_BYTE = 8
_DIMENSIONS_PER_BYTE = 16


def nearest_by_features(query: Tensor, database: Tensor, train: Tensor, *, kind: str, bits: int, k: int) -> Tensor:
    """The k nearest database items of each query by cosine of their features.

    Args:
        query: (Q, d) finite features.
        database: (N, d), the same network's.
        train: (n, d) of the images that a quantiser is fitted on, at least `CENTROIDS`.
        kind: one of `FEATURE_SEARCHES`.
        bits: of a quantised item, a multiple of 8; ``features`` keeps them whole.
        k: items per query; the whole database when larger than N.

    Returns:
        (Q, min(k, N)) int64 positions, best first.

    Raises:
        InputError: for bits that are no bytes, or too few training images.
    """
    require_choice("kind", kind, FEATURE_SEARCHES)
    require_positive_int("k", k)
    rows = {"query": query, "database": database, "train": train}
    unit = {name: F.normalize(each.detach().cpu().float(), dim=1).numpy() for name, each in rows.items()}
    if kind == "features":
        index: faiss.Index = faiss.IndexFlatIP(query.shape[1])
    else:
        require_bytes(bits, len(train))
        parts = bits // _BYTE
        unit = {name: _padded(each, parts) for name, each in unit.items()}
        width = unit["train"].shape[1]
        # OPQ rotates into a few dimensions for each byte, as faiss recommends, which also keeps its fit short.
        reduced = min(width, _DIMENSIONS_PER_BYTE * parts)
        index = faiss.index_factory(width, f"OPQ{parts}_{reduced},PQ{parts}" if kind == "opq" else f"PQ{parts}")
        index.train(unit["train"])
    index.add(unit["database"])
    _, positions = index.search(unit["query"], min(k, len(database)))
    return torch.from_numpy(positions)


def require_bytes(bits: int, images: int) -> None:
    """Raises `InputError` unless a quantiser of `bits` can be fitted on so many images."""
    if bits % _BYTE:
        raise InputError(f"bits must be a multiple of {_BYTE} for product quantisation, got {bits}.")
    if images < CENTROIDS:
        raise InputError(f"product quantisation needs at least {CENTROIDS} training images, got {images}.")


def _padded(rows: np.ndarray, parts: int) -> np.ndarray:
    """Rows (n, d) with columns of 0 up to a multiple of `parts`, which no distance notices."""
    missing = -rows.shape[1] % parts
    return np.pad(rows, ((0, 0), (0, missing))) if missing else rows
