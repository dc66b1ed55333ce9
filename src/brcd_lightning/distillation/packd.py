"""PACKD: positive-aware contrastive distillation with mixup views (Yang et al., 2022), on codes. Uses labels.

Shapes: n training images, M in a batch, P views per image (the image and P - 1 class positives), d embedding width, K
negatives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor

from brcd_lightning.distillation.base import KDInput, KDMethod, KDOutput, needed
from brcd_lightning.distillation.memory_bank import (
    Embedding,
    Normalize,
    random_bank,
    remember,
    require_bank_memory,
    require_draw_memory,
)
from brcd_lightning.distillation.negatives import NegativeKind, Negatives
from brcd_lightning.options import NonNegative, PositiveInt, Seed, Temperature, UnitInterval, checked

Iterations = Annotated[int, Interval(ge=1, le=100_000)]


@checked("kd_method")
@dataclass(frozen=True)
class PACKDOptions:
    """Options of `packd_loss`.

    Args:
        temperature: T, above 0.
        exclude_self: excludes the image's own memory row from the denominator.
        eps: see `transport_plan`.
        iterations: see `transport_plan`.
        tolerance: see `transport_plan`.

    Raises:
        InputError: if a value is out of range; the message names the key ``kd_method.<option>``.
    """

    temperature: Temperature = 0.07
    exclude_self: bool = True
    eps: Temperature = 0.1
    iterations: Iterations = 100
    tolerance: NonNegative = 1e-6


@torch.no_grad()
def transport_plan(cost: Tensor, eps: float = 0.1, iterations: int = 100, tolerance: float = 1e-6) -> Tensor:
    """Entropic optimal transport between uniform marginals, by Sinkhorn iterations in the log domain.

    Args:
        cost: (M, P, P).
        eps: weight of the entropy, above 0.
        iterations: largest number of iterations.
        tolerance: stop when the summed change of an image's potentials, averaged over the batch, is below this.

    Returns:
        (M, P, P); each plan sums to about 1.

    Examples:
        >>> import torch
        >>> cost = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
        >>> (2 * transport_plan(cost)).round().tolist()  # the mass goes where it costs nothing
        [[[1.0, 0.0], [0.0, 1.0]]]
    """
    views = cost.shape[1]
    log_marginal = math.log(1 / views + 1e-8)
    u = cost.new_zeros(cost.shape[:2])
    v = torch.zeros_like(u)
    for _ in range(iterations):
        before = u
        u = eps * (log_marginal - ((u[:, :, None] + v[:, None, :] - cost) / eps).logsumexp(dim=2)) + u
        v = eps * (log_marginal - ((u[:, :, None] + v[:, None, :] - cost) / eps).logsumexp(dim=1)) + v
        if (u - before).abs().sum(dim=1).mean() < tolerance:
            break
    return ((u[:, :, None] + v[:, None, :] - cost) / eps).exp()


def packd_loss(student: Tensor, teacher: Tensor, bank: Tensor, rows: Tensor, options: PACKDOptions) -> Tensor:
    """InfoNCE loss whose positive is the transport-weighted similarity of all views of an image.

    Args:
        student: (M, P, d) unit embeddings; receives the gradient.
        teacher: (M, P, d) unit embeddings.
        bank: (n, d) teacher memory.
        rows: (M, K + 1) memory rows, with the image's own row first.
        options: temperature, negatives and transport.

    Returns:
        Scalar, mean over the batch.
    """
    similarity = student @ teacher.transpose(1, 2)  # (M, P, P)
    cost = (student[:, :, None] - teacher[:, None, :]).square().sum(dim=3).detach()
    plan = transport_plan(cost, options.eps, options.iterations, options.tolerance)  # (M, P, P)
    positive = (plan * similarity).sum(dim=(1, 2)) / options.temperature  # (M,)
    if options.exclude_self:
        rows = rows[:, 1:]
    # (M, K (+ 1), d); index_select is faster than bank[rows].
    drawn = bank.to(student.dtype).index_select(0, rows.flatten()).unflatten(0, rows.shape)
    negatives = student @ drawn.transpose(1, 2)  # (M, P, K (+ 1))
    logits = torch.cat([positive[:, None], negatives.flatten(start_dim=1) / options.temperature], dim=1)
    return (logits.logsumexp(dim=1) - positive).mean()


class PACKD(KDMethod):
    """Contrasts all views of an image, including class positives, with a memory of teacher codes. Uses labels.

    Args:
        views: P, the image itself and P - 1 class positives; 1 for no positives, as in the BRCD release.
        dim: d of the embeddings. None for the code length; the teacher's codes are then used as embeddings directly.
        num_negatives: K.
        temperature: see `PACKDOptions`.
        momentum: weight of the old row when the memory is updated, in [0, 1].
        warmup_epochs: number of initial epochs in which new rows replace those of the memory, as with `momentum` 0.
        negatives: see `Negatives`.
        num_clusters: see `Negatives`.
        exclude_self: see `PACKDOptions`.
        train_heads: False keeps the embedding random, as in the BRCD release.
        eps: see `transport_plan`.
        iterations: see `transport_plan`.
        tolerance: see `transport_plan`.
        seed: of negatives and clusters.
        weight: factor of the loss.
    """

    needs = frozenset({"teacher"})
    bank: Tensor  # (n, d)

    def __init__(
        self,
        views: Annotated[int, Interval(ge=1, le=1000)] = 4,
        dim: PositiveInt | None = None,
        num_negatives: PositiveInt = 500,
        temperature: Temperature = 0.07,
        momentum: UnitInterval = 0.5,
        warmup_epochs: NonNegative = 1,
        negatives: NegativeKind = "label",
        num_clusters: PositiveInt = 10,
        exclude_self: bool = True,
        train_heads: bool = True,
        eps: Temperature = 0.1,
        iterations: Iterations = 100,
        tolerance: NonNegative = 1e-6,
        seed: Seed = 0,
        weight: NonNegative = 1.0,
    ) -> None:
        super().__init__(weight)
        self.options = PACKDOptions(temperature, exclude_self, eps, iterations, tolerance)
        self.num_positives = views - 1
        self.dim, self.momentum, self.warmup_epochs, self.train_heads = dim, momentum, warmup_epochs, train_heads
        self.negatives = Negatives(negatives, num_negatives, num_clusters, seed)
        self.needs = self.needs | self.negatives.needs
        if self.num_positives:
            self.needs = self.needs | {"positives"}

    def setup(self, num_images: int, bits: int, steps_per_epoch: int) -> None:
        """Creates the embeddings, and a memory of the size of the training split."""
        dim = self.dim or bits
        self.negatives.setup(num_images)
        require_bank_memory(dim, num_images, banks=1)
        require_draw_memory(self.negatives.count, num_images, steps_per_epoch, dim)
        self.warmup_steps = round(self.warmup_epochs * steps_per_epoch)
        self.embed_student = Embedding(bits, dim, self.train_heads)
        self.embed_teacher = Normalize() if dim == bits else Embedding(bits, dim, self.train_heads)
        self.register_buffer("bank", random_bank(num_images, dim, normalise=True))

    def prepare(self, teacher_codes: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Groups images that must not be each other's negatives."""
        self.negatives.prepare(teacher_codes, labels)
        return {}

    def forward(self, batch: KDInput) -> KDOutput:
        """Term ``packd``; the memory is updated with the batch first."""
        warm = self.negatives.step.item() >= self.warmup_steps
        rows = self.negatives(batch.index)
        student, teacher = batch.student[:, None], batch.teacher[:, None]
        if self.num_positives:
            student = torch.cat([student, needed(batch.student_positives, "positives")], dim=1)
            teacher = torch.cat([teacher, needed(batch.teacher_positives, "positives")], dim=1)
        student, teacher = self.embed_student(student), self.embed_teacher(teacher)  # (M, P, d)
        remember(self.bank, batch.index, teacher[:, 0], self.momentum if warm else 0.0)
        loss = packd_loss(student, teacher, self.bank, rows, self.options)
        return KDOutput({"packd": self.weight * loss}, {})
