"""SH: spectral hashing (Weiss, Torralba and Fergus, NIPS 2008).

Shapes: n training images, d features, b bits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from brcd_lightning.hashing.closed_form import ClosedFormModel, principal_directions
from brcd_lightning.options import Head, PositiveInt


class Sine(nn.Module):
    """Sine of each element."""

    def forward(self, angles: Tensor) -> Tensor:
        """Returns logits (M, b) of angles (M, b)."""
        return angles.sin()


def smallest_modes(extents: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Eigenfunctions of the Laplacian on a box with the smallest eigenvalues (k / extent)^2, except the constant.

    Args:
        extents: (m,) side lengths of the box.
        count: number of eigenfunctions.

    Returns:
        Side (count,) int64 and mode k >= 1 (count,) float64 of each eigenfunction, by ascending eigenvalue, then by
        side.
    """
    modes = torch.arange(1, count + 1, dtype=extents.dtype)
    eigenvalues = (modes / extents[:, None]).square().flatten()  # side by side
    chosen = eigenvalues.argsort(stable=True)[:count]
    return chosen // count, modes[chosen % count]


class SH(ClosedFormModel):
    """SH: bits are signs of sin(pi/2 + k pi (x - lo) / (hi - lo)) of a principal component x with range [lo, hi].

    The angle is a linear function of the features, so the head is a linear layer followed by a sine. Components with a
    large range yield several bits, and those with a small range may yield none.

    Args:
        in_features: width d of the backbone's features.
        bits: code length b, at most the rank of the features.
        head: see `HashingModel`; followed by the sine.
        hidden_features: see `HashingModel`.
    """

    def __init__(
        self, in_features: PositiveInt, bits: PositiveInt, head: Head = "linear", hidden_features: PositiveInt = 1000
    ) -> None:
        super().__init__(in_features, bits, head, hidden_features)
        self.head = nn.Sequential(self.head, Sine())

    def solve(self, centred: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """W and c of the angles."""
        directions = principal_directions(centred, self.bits)
        projected = centred @ directions
        low, high = projected.amin(dim=0), projected.amax(dim=0)
        side, mode = smallest_modes(high - low, self.bits)
        frequency = mode * math.pi / (high - low)[side]
        return directions[:, side] * frequency, math.pi / 2 - frequency * low[side]
