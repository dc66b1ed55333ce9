"""The torchmetrics shell that gathers codes over batches and ranks."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


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
