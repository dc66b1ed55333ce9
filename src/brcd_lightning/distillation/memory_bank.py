"""Embeddings of codes, and the memory bank that holds one embedding of each training image.

Shapes: n training images, M in a batch, b bits, d embedding width, K negatives.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from brcd_lightning.memory import require_memory

_SMALL_BANK = 16  # times the rows that a step compares with


class Embedding(nn.Linear):
    """Linear map of codes (..., b) to unit vectors (..., d).

    Args:
        bits: b.
        dim: d.
        trains: False leaves the random weights as they are, as the BRCD release does.
    """

    def __init__(self, bits: int, dim: int, trains: bool = True) -> None:
        super().__init__(bits, dim)
        self.requires_grad_(trains)

    def forward(self, codes: Tensor) -> Tensor:
        """Unit embeddings (..., d) of codes (..., b)."""
        return F.normalize(super().forward(codes), dim=-1)


class Normalize(nn.Module):
    """Codes (..., b) divided by their length: the embedding of codes that are compared as they are."""

    def forward(self, codes: Tensor) -> Tensor:
        """Unit vectors (..., b)."""
        return F.normalize(codes, dim=-1)


def random_bank(num_images: int, dim: int, *, normalise: bool) -> Tensor:
    """A fresh memory (n, d): uniform in +-1/sqrt(d/3), its rows of length 1 if asked for."""
    width = 1 / math.sqrt(dim / 3)
    bank = torch.empty(num_images, dim).uniform_(-width, width)
    return F.normalize(bank, dim=1) if normalise else bank


def require_bank_memory(dim: int, num_images: int, banks: int) -> None:
    """Refuses memories (n, d) that the machine cannot hold."""
    require_memory("kd_method.dim", dim, 4 * banks * num_images * dim)


def require_draw_memory(negatives: int, num_images: int, steps_per_epoch: int, dim: int) -> None:
    """Refuses negatives that the machine cannot hold for one batch.

    Args:
        negatives: K.
        num_images: n.
        steps_per_epoch: batches of an epoch.
        dim: d where the drawn rows are copied, else 0.
    """
    batch = num_images // (steps_per_epoch + 1) + 1  # the smallest that gives so many steps
    each = 16 + 4 * dim  # a double precision draw, its row's number and its copy
    require_memory("kd_method.num_negatives", negatives, batch * (negatives + 1) * each)


def gathers(num_images: int, negatives: int) -> bool:
    """True if `bank_scores` copies the rows that are drawn."""
    return num_images > _SMALL_BANK * (negatives + 1)


def bank_scores(embeddings: Tensor, bank: Tensor, rows: Tensor) -> Tensor:
    """Inner products (M, K + 1) of embeddings (M, d) with memory rows (M, K + 1) of a bank (n, d).

    The bank may change before the backward pass: what it needs is copied.
    """
    if gathers(len(bank), rows.shape[1] - 1):
        drawn = bank.index_select(0, rows.flatten()).to(embeddings.dtype).unflatten(0, rows.shape)
        return torch.einsum("md,mkd->mk", embeddings, drawn)
    # One product with the whole of a small bank takes less than gathering so many rows.
    return (embeddings @ bank.to(embeddings.dtype, copy=True).T).gather(1, rows)


@torch.no_grad()
def remember(bank: Tensor, index: Tensor, rows: Tensor, momentum: float) -> None:
    """Moves the rows of a batch towards its embeddings: unit(momentum * old + (1 - momentum) * new), in place.

    Of an image that comes twice the last row counts.

    Args:
        bank: (n, d).
        index: (M,) positions in the bank.
        rows: (M, d) new embeddings.
        momentum: share of the old row, in [0, 1].
    """
    rows = rows.detach()
    order = index.argsort(stable=True)
    ordered = index[order]
    last = torch.ones_like(ordered, dtype=torch.bool)
    last[:-1] = ordered[1:] != ordered[:-1]
    index, rows = ordered[last], rows[order[last]].to(bank.dtype)
    bank[index] = F.normalize(momentum * bank[index] + (1 - momentum) * rows, dim=1)
