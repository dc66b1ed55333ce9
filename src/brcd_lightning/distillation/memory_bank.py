"""Embeddings of codes, and the memory bank with one embedding per training image.

Shapes: n training images, M in a batch, b bits, d embedding width, K negatives.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from brcd_lightning.memory import require_memory

_SMALL_BANK = 16  # relative to the rows drawn per image


class Embedding(nn.Linear):
    """Linear map of codes (..., b) to unit vectors (..., d).

    Args:
        bits: b.
        dim: d.
        trains: False keeps the random initial weights, as in the BRCD release.
    """

    def __init__(self, bits: int, dim: int, trains: bool = True) -> None:
        super().__init__(bits, dim)
        self.requires_grad_(trains)

    def forward(self, codes: Tensor) -> Tensor:
        """Unit embeddings (..., d) of codes (..., b)."""
        return F.normalize(super().forward(codes), dim=-1)


class Normalize(nn.Module):
    """Normalises codes (..., b) to unit length: the embedding of codes that are compared directly."""

    def forward(self, codes: Tensor) -> Tensor:
        """Unit vectors (..., b)."""
        return F.normalize(codes, dim=-1)


def random_bank(num_images: int, dim: int, *, normalise: bool) -> Tensor:
    """Initial memory (n, d): uniform in +-1/sqrt(d/3), with unit rows if `normalise`."""
    width = 1 / math.sqrt(dim / 3)
    bank = torch.empty(num_images, dim).uniform_(-width, width)
    return F.normalize(bank, dim=1) if normalise else bank


def require_bank_memory(dim: int, num_images: int, banks: int) -> None:
    """Raises `InputError` for memories (n, d) that do not fit on this machine."""
    require_memory("kd_method.dim", dim, 4 * banks * num_images * dim)


def require_draw_memory(negatives: int, num_images: int, steps_per_epoch: int, dim: int) -> None:
    """Raises `InputError` if the negatives of one batch do not fit on this machine.

    Args:
        negatives: K.
        num_images: n.
        steps_per_epoch: number of batches in an epoch.
        dim: d if the drawn rows are copied, else 0.
    """
    batch = num_images // (steps_per_epoch + 1) + 1  # smallest size that gives this number of steps
    each = 16 + 4 * dim  # a double precision draw, the row number and the copied row
    require_memory("kd_method.num_negatives", negatives, batch * (negatives + 1) * each)


def gathers(num_images: int, negatives: int) -> bool:
    """True if `bank_scores` copies the drawn rows."""
    return num_images > _SMALL_BANK * (negatives + 1)


def bank_scores(embeddings: Tensor, bank: Tensor, rows: Tensor) -> Tensor:
    """Inner products (M, K + 1) of embeddings (M, d) with memory rows (M, K + 1) of a bank (n, d).

    The bank may change before the backward pass, which uses copies.
    """
    if gathers(len(bank), rows.shape[1] - 1):
        drawn = bank.index_select(0, rows.flatten()).to(embeddings.dtype).unflatten(0, rows.shape)
        return torch.einsum("md,mkd->mk", embeddings, drawn)
    # One product with the whole of a small bank is faster than gathering many rows.
    return (embeddings @ bank.to(embeddings.dtype, copy=True).T).gather(1, rows)


@torch.no_grad()
def remember(bank: Tensor, index: Tensor, rows: Tensor, momentum: float) -> None:
    """Updates the rows of a batch in place: unit(momentum * old + (1 - momentum) * new).

    If an image occurs twice, the last row is used.

    Args:
        bank: (n, d).
        index: (M,) positions in the bank.
        rows: (M, d) new embeddings.
        momentum: weight of the old row, in [0, 1].
    """
    rows = rows.detach()
    order = index.argsort(stable=True)
    ordered = index[order]
    last = torch.ones_like(ordered, dtype=torch.bool)
    last[:-1] = ordered[1:] != ordered[:-1]
    index, rows = ordered[last], rows[order[last]].to(bank.dtype)
    bank[index] = F.normalize(momentum * bank[index] + (1 - momentum) * rows, dim=1)
