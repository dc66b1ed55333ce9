"""PCA-RR: signs of randomly rotated principal components (Jegou et al., CVPR 2010).

Shapes: n training images, d features, b bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from brcd_lightning.hashing.closed_form import ClosedFormModel, principal_directions, random_rotation


class PCARR(ClosedFormModel):
    """PCA-RR: principal components with a random rotation, which gives all bits about the same variance.

    Examples:
        >>> import torch
        >>> directions, shift = PCARR(in_features=8, bits=4).solve(
        ...     torch.randn(50, 8, dtype=torch.float64), torch.Generator().manual_seed(0)
        ... )
        >>> directions.shape
        torch.Size([8, 4])
    """

    def solve(self, centred: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """W of `principal_directions` times `random_rotation`."""
        projection = principal_directions(centred, self.bits) @ random_rotation(self.bits, generator)
        return projection, torch.zeros(self.bits, dtype=torch.float64)
