"""SSKD: self-supervision term of Knowledge Distillation Meets Self-Supervision (Xu et al., ECCV 2020), on codes.

Shapes: M images in a batch, b bits; four rotations by 0, 90, 180 and 270 degrees.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from brcd_lightning.distillation.base import KDInput, KDMethod, KDOutput, needed
from brcd_lightning.memory import require_memory
from brcd_lightning.options import NonNegative, Temperature, UnitInterval

RotationViews = Literal["shared", "independent"]
Projections = Literal["none", "mlp"]


def sskd_loss(student: Tensor, teacher: Tensor, temperature: float = 0.5, ratio: float = 0.75) -> Tensor:
    """KL divergence between teacher and student distributions over the upright images that match a rotated image.

    All rotated images that the teacher matches correctly are used. Of the others, only those with the best ranks are.

    Args:
        student: (M, 4, b) student codes of the rotations, upright first; receives the gradient.
        teacher: (M, 4, b) teacher codes.
        temperature: T of the softmax over upright images.
        ratio: share of the teacher's wrong rows to use, best ranks first, in [0, 1].

    Returns:
        Scalar, mean over the rows used; 0, with a gradient of 0, if there are none.

    Examples:
        >>> import torch
        >>> codes = torch.nn.functional.one_hot(torch.arange(8), 8).float().view(2, 4, 8)
        >>> sskd_loss(codes, codes).item()
        0.0
    """
    target, guess = (_similarities(codes) for codes in (teacher.detach(), student))  # (3M, M)
    kept = _kept_rows(target, ratio)
    target, guess = ((rows[kept] / temperature).log_softmax(dim=1) for rows in (target, guess))
    total = F.kl_div(guess, target, log_target=True, reduction="sum")
    return temperature**2 * (total / max(1, len(kept)))  # a mean over no rows would be NaN


def _similarities(codes: Tensor) -> Tensor:
    """Cosines (3M, M) between all rotated images, grouped by image, and all upright images."""
    unit = F.normalize(codes, dim=2, eps=1e-8)
    return unit[:, 1:].flatten(end_dim=1) @ unit[:, 0].T


def matching_loss(codes: Tensor, temperature: float = 0.5) -> Tensor:
    """Cross-entropy of matching each rotated image to its upright image; trains the teacher's head in the original.

    Args:
        codes: (M, 4, b) of the rotations, upright first.
        temperature: T of the softmax over upright images.

    Returns:
        Scalar, mean over the 3M rotated images.

    Examples:
        >>> import torch
        >>> codes = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])[:, None].expand(2, 4, 2)  # rotations change nothing
        >>> round(matching_loss(codes, temperature=0.1).item(), 4)
        0.0
    """
    similarities = _similarities(codes)
    right = torch.arange(len(codes), device=codes.device).repeat_interleave(3)
    return F.cross_entropy(similarities / temperature, right)


def _kept_rows(similarities: Tensor, ratio: float) -> Tensor:
    """Indices of the rows to use: those of rank 0, then the best `ratio` of the rest, with ties by position."""
    images = similarities.shape[1]
    right = torch.arange(images, device=similarities.device).repeat_interleave(3)  # (3M,)
    score = similarities.gather(1, right[:, None])
    # Codes have few distinct cosines, so ties are common: an equal score ranks higher only for an earlier image.
    earlier = torch.arange(images, device=similarities.device) < right[:, None]
    rank = ((similarities > score) | ((similarities == score) & earlier)).sum(dim=1)
    wrong = int((rank > 0).sum())
    count = len(rank) - wrong + int(ratio * wrong)
    return rank.argsort(stable=True)[:count]


class SSKD(KDMethod):
    """Trains the student to match rotated to upright images of the batch with the same distribution as the teacher.

    Args:
        temperature: see `sskd_loss`.
        ratio: see `sskd_loss`.
        rotation_views: ``shared`` rotates one augmented view; ``independent`` uses a different view for each rotation,
            as in the BRCD release.
        heads: ``none`` compares codes, ``mlp`` compares two-layer projections of them. The original trains the
            teacher's projection to match rotations beforehand; here it is trained together with the student.
        weight: factor of the loss.
    """

    needs = frozenset({"teacher", "rotations"})

    def __init__(
        self,
        temperature: Temperature = 0.5,
        ratio: UnitInterval = 0.75,
        rotation_views: RotationViews = "shared",
        heads: Projections = "none",
        weight: NonNegative = 1.0,
    ) -> None:
        super().__init__(weight)
        self.temperature = temperature
        self.ratio = ratio
        self.rotation_views = rotation_views
        self.heads = heads

    def setup(self, num_images: int, bits: int, steps_per_epoch: int) -> None:
        """Creates the projections, which have the width of the codes."""
        if self.heads == "mlp":
            require_memory("bits", bits, 4 * 4 * bits * bits)
            self.project_student, self.project_teacher = (
                nn.Sequential(nn.Linear(bits, bits), nn.ReLU(), nn.Linear(bits, bits)) for _ in range(2)
            )

    def forward(self, batch: KDInput) -> KDOutput:
        """Term ``sskd``; with projections also ``matching``, which trains the teacher's."""
        student = needed(batch.student_rotations, "rotations")
        teacher = needed(batch.teacher_rotations, "rotations")
        matching = {}
        if self.heads == "mlp":
            student, teacher = self.project_student(student), self.project_teacher(teacher)
            matching = {"matching": self.weight * matching_loss(teacher, self.temperature)}
        loss = sskd_loss(student, teacher, self.temperature, self.ratio)
        return KDOutput({"sskd": self.weight * loss} | matching, {})
