"""KL: softened distributions over the bits (Hinton et al., 2015), applied to codes as in the BRCD paper.

Shapes: M images in a batch, b bits.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from brcd_lightning.distillation.base import KDInput, KDMethod, KDOutput
from brcd_lightning.options import NonNegative, Temperature


def kl_loss(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """KL divergence from the student's to the teacher's softmax over bits, times the squared temperature.

    A softmax is invariant to a shift of all bits, so it does not distinguish the code of all +1 from that of all -1.

    Args:
        student: (M, b) student codes; receives the gradient.
        teacher: (M, b) teacher codes.
        temperature: T, by which both codes are divided.

    Returns:
        Scalar, summed over bits and averaged over the batch.

    Examples:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, -1.0], [1.0, 1.0]]), torch.tensor([[1.0, 1.0], [1.0, 1.0]])
        >>> round(kl_loss(student, teacher).item(), 4)
        0.2474
        >>> kl_loss(-teacher, teacher).item()  # all bits changed alike
        0.0
    """
    target = F.log_softmax(teacher / temperature, dim=1)
    guess = F.log_softmax(student / temperature, dim=1)
    return temperature**2 * F.kl_div(guess, target, log_target=True, reduction="batchmean")


class KL(KDMethod):
    """KL distillation of codes.

    Args:
        temperature: see `kl_loss`.
        weight: factor of the loss.
    """

    needs = frozenset({"teacher"})

    def __init__(self, temperature: Temperature = 4.0, weight: NonNegative = 1.0) -> None:
        super().__init__(weight)
        self.temperature = temperature

    def forward(self, batch: KDInput) -> KDOutput:
        """Term ``kl``."""
        return KDOutput({"kl": self.weight * kl_loss(batch.student, batch.teacher, self.temperature)}, {})
