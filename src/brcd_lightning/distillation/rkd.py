"""RKD: relational knowledge distillation (Park et al., CVPR 2019).

Shapes: M images in a batch, b bits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from brcd_lightning.distillation.base import KDInput, KDMethod, KDOutput
from brcd_lightning.options import NonNegative

_EPS = 1e-12
_SHORTEST = 1e-6


def rkd_distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss between the pairwise distances of both batches, each divided by its mean positive distance.

    Args:
        student: (M, b) student codes; receives the gradient.
        teacher: (M, b) teacher codes.

    Returns:
        Scalar, mean over the M x M pairs.

    Examples:
        >>> import torch
        >>> teacher = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
        >>> rkd_distance_loss(teacher.flip(1), teacher).item()  # distances do not depend on the order of bits
        0.0
    """
    return F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher))


def _relative_distances(codes: Tensor) -> Tensor:
    """(M, M); distances of equal codes are clamped to 1e-6, which counts as positive and has no gradient."""
    codes = codes.float() if codes.element_size() < 4 else codes
    # From differences of codes: those of inner products suffer from cancellation for nearly equal codes.
    distances = torch.cdist(codes, codes, compute_mode="donot_use_mm_for_euclid_dist").clamp(min=_SHORTEST)
    other = ~torch.eye(len(codes), dtype=torch.bool, device=codes.device)
    distances = distances * other
    return distances / (distances.sum() / other.sum().clamp_min(1)).clamp_min(_EPS)  # one image: no distance, no loss


def rkd_angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss between the cosines of the angles at every corner of every triple.

    Args:
        student: (M, b) student codes; receives the gradient.
        teacher: (M, b) teacher codes.

    Returns:
        Scalar, mean over the M x M x M triples; the cosine of a degenerate triple is 0.

    Examples:
        >>> import torch
        >>> teacher = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
        >>> round(rkd_angle_loss(2 * teacher, teacher).item(), 4)  # angles do not depend on the scale
        0.0
    """
    return F.smooth_l1_loss(_corner_cosines(student), _corner_cosines(teacher))


def _corner_cosines(codes: Tensor) -> Tensor:
    """(M, M, M): entry i, j, k is the cosine at corner i between the directions to j and to k.

    Equal codes have no direction: their cosines are 0 and have no gradient. Clamping the length would instead scale the
    incoming gradient by 1e12.
    """
    differences = codes[None, :, :] - codes[:, None, :]  # (M, M, b)
    differences = differences.masked_fill((differences == 0).all(dim=2, keepdim=True), 0.0)
    directions = F.normalize(differences, dim=2, eps=_EPS)
    return directions @ directions.transpose(1, 2)


class RKD(KDMethod):
    """Relational knowledge distillation: distances and angles between the codes of a batch.

    Args:
        distance_weight: weight of `rkd_distance_loss`.
        angle_weight: weight of `rkd_angle_loss`.
        weight: factor of both terms.
    """

    needs = frozenset({"teacher"})

    def __init__(
        self, distance_weight: NonNegative = 25.0, angle_weight: NonNegative = 50.0, weight: NonNegative = 1.0
    ) -> None:
        super().__init__(weight)
        self.distance_weight = distance_weight
        self.angle_weight = angle_weight

    def forward(self, batch: KDInput) -> KDOutput:
        """Terms ``rkd_distance`` and ``rkd_angle``."""
        distance, angle = (loss(batch.student, batch.teacher) for loss in (rkd_distance_loss, rkd_angle_loss))
        return KDOutput(
            {
                "rkd_distance": self.weight * self.distance_weight * distance,
                "rkd_angle": self.weight * self.angle_weight * angle,
            },
            {},
        )
