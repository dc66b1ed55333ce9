"""Search by real-valued features, without hashing: exact, and with product quantisation at the size of the codes.

Exact search gives the upper bound of a backbone. Both are reference values for codes: query features are never
binarised, and database features are at most quantised.

Shapes: Q queries, N database items, n training images, d features.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from brcd_lightning.errors import InputError, require_choice, require_positive_int

FEATURE_SEARCHES = ("features", "pq", "opq")
"""``features`` is exact; ``pq`` (Jegou et al. 2011) and ``opq`` (Ge et al. 2013) quantise only the database."""
QUANTISED = ("pq", "opq")
CENTROIDS = 256
_BYTE = 8
_DIMENSIONS_PER_BYTE = 16


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
    if kind == "features":
        index: faiss.Index = faiss.IndexFlatIP(query.shape[1])
    else:
        require_bytes(bits, len(train))
        parts = bits // _BYTE
        unit = {name: _padded(each, parts) for name, each in unit.items()}
        index = _product_quantiser(unit["train"], parts, rotates=kind == "opq")
    index.add(unit["database"])
    _, positions = index.search(unit["query"], min(k, len(database)))
    return torch.from_numpy(positions)


def _product_quantiser(train: np.ndarray, parts: int, *, rotates: bool) -> faiss.Index:
    """An index of `parts` bytes, fitted on features (n, d) of a multiple of `parts` columns."""
    width = train.shape[1]
    # OPQ rotates into a few dimensions per byte, as faiss recommends, which also makes the fit fast.
    rotated = min(width, _DIMENSIONS_PER_BYTE * parts)
    # np: no polysemous training, which only renumbers the centroids and takes nine tenths of the time.
    index: Any = faiss.index_factory(width, f"OPQ{parts}_{rotated},PQ{parts}np" if rotates else f"PQ{parts}np")
    if rotates:
        rotation: Any = faiss.downcast_VectorTransform(index.chain.at(0))
        its_own = faiss.ProductQuantizer(rotated, parts, _BYTE)
        _accept_few_images(its_own)
        rotation.pq = its_own
    its_codes: Any = faiss.downcast_index(index.index) if rotates else index
    _accept_few_images(its_codes.pq)
    index.train(train)
    if rotates:
        rotation.pq = None  # it is freed by Python
    return index


def _accept_few_images(quantiser: faiss.ProductQuantizer) -> None:
    """Disables a warning of faiss, for every byte and round, that recommends 39 points per centroid."""
    quantiser.cp.min_points_per_centroid = 1


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
