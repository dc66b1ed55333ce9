"""What single bits carry.

Shapes: N codes, b bits.
"""

from __future__ import annotations

import torch
from torch import Tensor


def bit_balance(codes: Tensor) -> Tensor:
    """|mean| of each bit (b,) float64: 0 for a bit that is +1 as often as -1, 1 for one that never changes.

    Args:
        codes: (N, b) in {-1, +1}.
    """
    return codes.double().mean(dim=0).abs()


def bit_correlation(codes: Tensor) -> Tensor:
    """Pearson correlation of each pair of bits (b, b) float64, in [-1, 1]; 0 with a bit that never changes.

    Args:
        codes: (N, b) in {-1, +1}.
    """
    centred = codes.double() - codes.double().mean(dim=0)
    norms = centred.square().sum(dim=0).sqrt()
    scale = torch.where(norms > 0, 1 / norms, 0.0)
    return (centred.T @ centred) * scale[:, None] * scale[None, :]
