"""PKT: probabilistic knowledge transfer (Passalis & Tefas, ECCV 2018).

Shapes: M images in a batch, b bits.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval
from torch import Tensor

from brcd_lightning.distillation.base import KDInput, KDMethod, KDOutput
from brcd_lightning.options import NonNegative

Smoothing = Annotated[float, Interval(ge=1e-12, le=1)]
"""Smaller values may be 0 in single precision, which makes the loss of opposite codes NaN."""


def pkt_loss(student: Tensor, teacher: Tensor, eps: float = 1e-7) -> Tensor:
    """KL divergence between the neighbour probabilities of both batches, from cosine similarities.

    The mean is over all M x M pairs, as in the published code, so the loss starts near 2e-4 for M = b = 64.

    Args:
        student: (M, b) student codes; receives the gradient.
        teacher: (M, b) teacher codes.
        eps: keeps norms and logarithms finite.

    Returns:
        Scalar.

    Examples:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, -1.0], [1.0, 1.0]]), torch.tensor([[1.0, 1.0], [1.0, 1.0]])
        >>> pkt_loss(teacher, teacher).item(), pkt_loss(student, teacher).item() > 0
        (0.0, True)
    """
    guess, target = (_neighbour_probabilities(codes, eps) for codes in (student, teacher))
    return (target * ((target + eps) / (guess + eps)).log()).mean()


def _neighbour_probabilities(codes: Tensor, eps: float) -> Tensor:
    unit = codes / (codes.norm(dim=1, keepdim=True) + eps)
    similarities = (unit @ unit.T + 1) / 2  # (M, M) in [0, 1]
    return similarities / similarities.sum(dim=1, keepdim=True)


class PKT(KDMethod):
    """Probabilistic knowledge transfer.

    Args:
        eps: see `pkt_loss`.
        weight: factor of the loss; the published code uses 30,000, since the mean is over pairs.
    """

    needs = frozenset({"teacher"})

    def __init__(self, eps: Smoothing = 1e-7, weight: NonNegative = 1.0) -> None:
        super().__init__(weight)
        self.eps = eps

    def forward(self, batch: KDInput) -> KDOutput:
        """Term ``pkt``."""
        return KDOutput({"pkt": self.weight * pkt_loss(batch.student, batch.teacher, self.eps)}, {})
