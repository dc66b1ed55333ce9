"""SP: similarity-preserving distillation (Tung & Mori, ICCV 2019), and the variant in the BRCD release.

Shapes: M images in a batch, b bits.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from brcd_lightning.distillation.base import KDInput, KDMethod, KDOutput
from brcd_lightning.options import NonNegative

Variant = Literal["batch", "per_sample"]
_EPS = 1e-12


def sp_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the row-normalised Gram matrices of both batches.

    It is invariant to rotations of the student's codes, so it aligns relations, not Hamming spaces.

    Args:
        student: (M, b) student codes; receives the gradient.
        teacher: (M, b) teacher codes.

    Returns:
        Scalar, mean over the M x M entries.

    Examples:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, -1.0], [1.0, 1.0]]), torch.tensor([[1.0, 1.0], [1.0, 1.0]])
        >>> round(sp_loss(student, teacher).item(), 4)
        0.2929
    """
    guess, target = (F.normalize(codes @ codes.T, dim=1, eps=_EPS) for codes in (student, teacher))  # (M, M)
    return F.mse_loss(guess, target)


def sp_per_sample_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """SP of the BRCD release, which treats each code as a batch of b numbers and compares it with itself.

    For codes in {-1, +1} at Hamming distance d_i, the loss is the sum of 8 d_i (b - d_i) / b^3, which is 0 both for
    equal and for inverted codes.

    Args:
        student: (M, b) student codes; receives the gradient.
        teacher: (M, b) teacher codes.

    Returns:
        Scalar, summed over the batch.

    Examples:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, -1.0], [1.0, 1.0]]), torch.tensor([[1.0, 1.0], [1.0, 1.0]])
        >>> round(sp_per_sample_loss(student, teacher).item(), 4), sp_per_sample_loss(teacher, -teacher).item()
        (1.0, 0.0)
    """
    grams = [F.normalize(codes[:, :, None] * codes[:, None, :], dim=2, eps=_EPS) for codes in (student, teacher)]
    return (grams[0] - grams[1]).square().mean(dim=(1, 2)).sum()


class SP(KDMethod):
    """Similarity-preserving distillation.

    Args:
        variant: ``batch`` (as published), or ``per_sample`` (the BRCD release).
        weight: factor of the loss.
    """

    needs = frozenset({"teacher"})

    def __init__(self, variant: Variant = "batch", weight: NonNegative = 1.0) -> None:
        super().__init__(weight)
        self.loss = sp_loss if variant == "batch" else sp_per_sample_loss

    def forward(self, batch: KDInput) -> KDOutput:
        """Term ``sp``."""
        return KDOutput({"sp": self.weight * self.loss(batch.student, batch.teacher)}, {})
