"""Cosine distillation: aligns the direction of student and teacher codes. The simplest baseline.

Shapes: M images in a batch, b bits.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from brcd_lightning.distillation.base import KDInput, KDMethod, KDOutput


def cosine_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine similarity between the student's and the teacher's code of the same image.

    Each image is compared only with itself: there are no negatives, clusters or masks.

    Args:
        student: (M, b) student codes; receives the gradient.
        teacher: (M, b) teacher codes.

    Returns:
        Scalar in [0, 2], averaged over the batch.

    Examples:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, -1.0], [1.0, 1.0]]), torch.tensor([[1.0, 1.0], [1.0, 1.0]])
        >>> round(cosine_loss(student, teacher).item(), 4)
        0.5
    """
    return 1 - F.cosine_similarity(student, teacher, dim=1).mean()


class Cosine(KDMethod):
    """Cosine distillation of codes.

    Args:
        weight: factor of the loss.

    Examples:
        >>> import torch
        >>> from brcd_lightning import KDInput
        >>> codes = torch.tensor([[1.0, -1.0]])
        >>> Cosine(weight=2.0)(KDInput(codes, -codes, torch.arange(1))).terms["cosine"].item()
        4.0
    """

    needs = frozenset({"teacher"})

    def forward(self, batch: KDInput) -> KDOutput:
        """Term ``cosine``."""
        return KDOutput({"cosine": self.weight * cosine_loss(batch.student, batch.teacher)}, {})
