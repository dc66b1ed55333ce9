"""Statistics of single bits.

Shapes: N codes, b bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from brcd_lightning.codes import as_signs


def bit_bias(codes: Tensor, bits: int | None = None) -> Tensor:
    """|mean| of each bit (b,) float64: 0 for a bit that is +1 as often as -1, 1 for one that never changes.

    Args:
        codes: (N, b) in {-1, +1}, or packed (N, B) uint8.
        bits: code length b; without it the padding bits of packed codes count as bits that never change.

    Examples:
        >>> import torch
        >>> bit_bias(torch.tensor([[1, 1], [1, -1]])).tolist()
        [1.0, 0.0]
    """
    return as_signs(codes, bits).double().mean(dim=0).abs()


def bit_correlation(codes: Tensor, bits: int | None = None) -> Tensor:
    """Pearson correlation of each pair of bits (b, b) float64, in [-1, 1]; 0 with a bit that never changes.

    Args:
        codes: (N, b) in {-1, +1}, or packed (N, B) uint8.
        bits: code length b; without it the padding bits of packed codes count as bits that never change.

    Examples:
        >>> import torch
        >>> bit_correlation(torch.tensor([[1, -1], [-1, 1]])).round().tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
    """
    codes = as_signs(codes, bits)
    centred = codes.double() - codes.double().mean(dim=0)
    norms = centred.square().sum(dim=0).sqrt()
    scale = torch.where(norms > 0, 1 / norms, 0.0)
    return (centred.T @ centred) * scale[:, None] * scale[None, :]


def kept_bits(masks: Tensor) -> Tensor:
    """Bits that each cluster's mask keeps (k,) int64.

    Args:
        masks: (k, b) of 0 and 1, or bool, of `clusters.bit_masks`.

    Examples:
        >>> import torch
        >>> kept_bits(torch.tensor([[1, 0, 1], [0, 0, 1]])).tolist()
        [2, 1]
    """
    return (masks != 0).sum(dim=1)
