"""ITQ: iterative quantisation (Gong and Lazebnik, CVPR 2011).

Shapes: n training images, d features, b bits.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor

from brcd_lightning.codes import sign
from brcd_lightning.hashing.closed_form import ClosedFormModel, principal_directions, random_rotation
from brcd_lightning.options import Head, PositiveInt


def quantisation_error(projected: Tensor, rotation: Tensor) -> Tensor:
    """||B - V R||^2 / n with B = sign(V R), which every iteration of `learn_rotation` reduces.

    Args:
        projected: V (n, b), projections of the centred features.
        rotation: R (b, b).

    Returns:
        Scalar.
    """
    rotated = projected @ rotation
    return (sign(rotated) - rotated).square().sum() / len(projected)


def learn_rotation(projected: Tensor, rotation: Tensor, iterations: int) -> Tensor:
    """Learns a rotation of projections towards the vertices of the hypercube, alternating signs and best rotation.

    Args:
        projected: V (n, b), projections of the centred features.
        rotation: R (b, b) to start from.
        iterations: number of alternations.

    Returns:
        R (b, b).
    """
    for _ in range(iterations):
        codes = sign(projected @ rotation)
        left, _, right = torch.linalg.svd(codes.T @ projected)  # orthogonal Procrustes
        rotation = (left @ right).T
    return rotation


class ITQ(ClosedFormModel):
    """ITQ: principal components with the rotation that minimises the quantisation error of the signs.

    Args:
        in_features: width d of the backbone's features.
        bits: code length b, at most the rank of the features.
        iterations: iterations of `learn_rotation`, at least 0; with 0 the rotation is random.
        head: see `HashingModel`.
        hidden_features: see `HashingModel`.

    Examples:
        >>> import torch
        >>> model = ITQ(in_features=8, bits=4)
        >>> model.trains
        False
        >>> directions, shift = model.solve(torch.randn(50, 8, dtype=torch.float64), torch.Generator().manual_seed(0))
        >>> directions.shape
        torch.Size([8, 4])
    """

    def __init__(
        self,
        in_features: PositiveInt,
        bits: PositiveInt,
        iterations: Annotated[int, Interval(ge=0, le=100_000)] = 50,
        head: Head = "linear",
        hidden_features: PositiveInt = 1000,
    ) -> None:
        super().__init__(in_features, bits, head, hidden_features)
        self.iterations = iterations

    def solve(self, centred: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """W of `principal_directions` times the learned rotation."""
        directions = principal_directions(centred, self.bits)
        start = random_rotation(self.bits, generator)
        rotation = learn_rotation(centred @ directions, start, self.iterations)
        return directions @ rotation, torch.zeros(self.bits, dtype=torch.float64)
