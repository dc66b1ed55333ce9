"""PCAH: signs of principal components (Wang, Kumar and Chang, CVPR 2010).

Shapes: n training images, d features, b bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from brcd_lightning.hashing.closed_form import ClosedFormModel, principal_directions


class PCAH(ClosedFormModel):
    """PCAH: projections onto the b leading eigenvectors of the covariance; b is at most the rank.

    Examples:
        >>> import torch
        >>> directions, shift = PCAH(in_features=8, bits=4).solve(
        ...     torch.randn(50, 8, dtype=torch.float64), torch.Generator().manual_seed(0)
        ... )
        >>> directions.shape
        torch.Size([8, 4])
    """

    def solve(self, centred: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """W of `principal_directions`."""
        return principal_directions(centred, self.bits), torch.zeros(self.bits, dtype=torch.float64)
