"""LSH: signs of random projections (Charikar, STOC 2002).

Shapes: n training images, d features, b bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from brcd_lightning.hashing.closed_form import ClosedFormModel


class LSH(ClosedFormModel):
    """LSH: projections onto b Gaussian directions. Two images differ in a bit with probability angle / pi.

    Examples:
        >>> import torch
        >>> directions, shift = LSH(in_features=8, bits=4).solve(
        ...     torch.randn(50, 8, dtype=torch.float64), torch.Generator().manual_seed(0)
        ... )
        >>> directions.shape
        torch.Size([8, 4])
    """

    def solve(self, centred: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """W with entries from N(0, 1)."""
        directions = torch.randn(centred.shape[1], self.bits, dtype=torch.float64, generator=generator)
        return directions, torch.zeros(self.bits, dtype=torch.float64)
