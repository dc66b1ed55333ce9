"""Retrieval metrics on hash codes: pure functions, and the torchmetrics shell that gathers codes.

Shapes: Q queries, N database items, b bits, K the cut of the ranking, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from brcd_lightning.errors import InputError, require_positive_int
from brcd_lightning.search import nearest_codes


def relevance_of(query_labels: Tensor, database_labels: Tensor, positions: Tensor) -> Tensor:
    """Whether each retrieved item is relevant to its query.

    Args:
        query_labels: (Q,) class indices, or (Q, C) multi-hot.
        database_labels: (N,) or (N, C), the same kind.
        positions: (Q, K) int64 database positions.

    Returns:
        (Q, K) bool: the same class, or at least one shared label.
    """
    if query_labels.ndim != database_labels.ndim:
        raise InputError("query_labels and database_labels must both be class indices or both be multi-hot.")
    found = database_labels[positions]
    if query_labels.ndim == 1:
        return found == query_labels[:, None]
    return (found.bool() & query_labels[:, None].bool()).any(dim=-1)


def average_precision_of_ranking(relevance: Tensor) -> Tensor:
    """AP@K of ranked lists: the mean of precision@k over the relevant places k of the list.

    The denominator is the number of relevant items inside the list (the convention of the paper and of the
    hashing literature); a list without any scores 0.

    Args:
        relevance: (Q, K) bool, best first.

    Returns:
        (Q,) float64 in [0, 1].
    """
    hits = relevance.double()
    places = torch.arange(1, hits.shape[1] + 1, dtype=torch.float64, device=hits.device)
    precision = hits.cumsum(dim=1) / places
    return (precision * hits).sum(dim=1) / hits.sum(dim=1).clamp_min(1)


def mean_average_precision(
    query_codes: Tensor, database_codes: Tensor, query_labels: Tensor, database_labels: Tensor, k: int
) -> Tensor:
    """mAP@K of Hamming ranking; equal distances keep database order, all queries count.

    Args:
        query_codes: (Q, b) in {-1, +1}.
        database_codes: (N, b) in {-1, +1}.
        query_labels: (Q,) class indices or (Q, C) multi-hot.
        database_labels: (N,) or (N, C), the same kind.
        k: cut of the ranking; the whole database when larger than N.

    Returns:
        Scalar float64 in [0, 1].
    """
    require_positive_int("k", k)
    for name, codes, labels in (
        ("query", query_codes, query_labels),
        ("database", database_codes, database_labels),
    ):
        if len(codes) == 0 or len(codes) != len(labels):
            raise InputError(f"{name} needs one label per code, got {len(codes)} codes and {len(labels)} labels.")
    _, positions = nearest_codes(query_codes, database_codes, k)
    relevance = relevance_of(query_labels.cpu(), database_labels.cpu(), positions)
    return average_precision_of_ranking(relevance).mean()


class CodeTable(Metric):
    """Collects (index, code, label) rows over batches and ranks; `compute` returns them in index order.

    Retrieval metrics need whole splits: they are computed once from these tables and never averaged over
    batches. A row that arrives twice (padding of a sampler) is kept once.
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        for state in ("indices", "codes", "labels"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, index: Tensor, codes: Tensor, labels: Tensor) -> None:
        """Adds M rows: index (M,) int64, codes (M, b) int8, labels (M,) or (M, C)."""
        self.indices.append(index)
        self.codes.append(codes)
        self.labels.append(labels)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Returns codes (n, b) and labels of all rows, on the CPU, sorted by index."""
        indices = dim_zero_cat(self.indices).cpu()
        order = torch.argsort(indices, stable=True)
        indices = indices[order]
        first = torch.ones_like(indices, dtype=torch.bool)
        first[1:] = indices[1:] != indices[:-1]
        order = order[first]
        return dim_zero_cat(self.codes).cpu()[order], dim_zero_cat(self.labels).cpu()[order]
