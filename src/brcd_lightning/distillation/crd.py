"""CRD: contrastive representation distillation (Tian et al., ICLR 2020), on codes.

Shapes: n training images, M in a batch, b bits, d embedding width, K negatives.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction, FunctionCtx

from brcd_lightning.distillation.base import KDInput, KDMethod, KDOutput
from brcd_lightning.distillation.memory_bank import (
    Embedding,
    bank_scores,
    gathers,
    random_bank,
    remember,
    require_bank_memory,
    require_draw_memory,
)
from brcd_lightning.distillation.negatives import NegativeKind, Negatives
from brcd_lightning.options import NonNegative, PositiveInt, Seed, Temperature, UnitInterval

_EPS = 1e-7


def nce_loss(scores: Tensor, log_z: Tensor, num_images: int) -> Tensor:
    """Noise-contrastive loss of one side: the first column against K draws from n images.

    With P = exp(score) / Z, q = K / n and c = q + 1e-7, the loss is -log P / (P + c) of the first column minus the sum
    of log q / (P + c) over the other columns. In terms of the logit x = score - log Z - log c, these are
    softplus(-x) = softplus(x) - x and softplus(x), up to a constant, so nothing overflows.

    Args:
        scores: (..., K + 1) similarities divided by the temperature, the positive first.
        log_z: logarithm of the constant Z.
        num_images: n.

    Returns:
        (...): one loss per anchor.

    Examples:
        >>> import torch
        >>> scores = torch.tensor([[5.0, 0.0, 0.0], [0.0, 5.0, 0.0]])  # the positive first
        >>> good, bad = nce_loss(scores, log_z=torch.tensor(0.0), num_images=100).tolist()
        >>> good < bad
        True
    """
    negatives = scores.shape[-1] - 1
    logits = scores - log_noise(log_z, num_images, negatives)
    return _SumOfSoftplus.apply(logits) - logits[..., 0] - offset(num_images, negatives)


def log_noise(log_z: Tensor, num_images: int, negatives: int) -> Tensor:
    """The term log Z + log c, which is subtracted from a score to give a logit, see `nce_loss`."""
    return log_z + math.log(negatives / num_images + _EPS)


def offset(num_images: int, negatives: int) -> float:
    """The constant of `nce_loss`, K log(q / c)."""
    q = negatives / num_images
    return negatives * math.log(q / (q + _EPS))


def sum_of_softplus(x: Tensor, sigmoid: Tensor, scratch: Tensor) -> Tensor:
    """``softplus(x).sum(dim=-1)``, given ``x.sigmoid()`` and a tensor to write to, all (..., K + 1).

    Uses softplus(x) = max(x, 0) - log sigmoid(|x|) and one logarithm per product of 64 values in [1/2, 1], which is
    several times faster on a CPU, where logarithms are slow.
    """
    likelier = torch.maximum(sigmoid, torch.sub(1, sigmoid, out=scratch), out=scratch)  # sigmoid(|x|)
    products = [part.prod(dim=-1) for part in likelier.split(64, dim=-1)]
    return torch.clamp_min(x, 0, out=scratch).sum(dim=-1) - torch.stack(products).log().sum(dim=0)


class _SumOfSoftplus(torch.autograd.Function):
    """`sum_of_softplus` with its gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        sigmoid = x.sigmoid()
        ctx.save_for_backward(sigmoid)
        return sum_of_softplus(x, sigmoid, torch.empty_like(x))

    @staticmethod
    def backward(ctx: BackwardCFunction, gradient: Tensor) -> Tensor:
        return ctx.saved_tensors[0] * gradient[..., None]


class CRD(KDMethod):
    """Contrasts each student embedding with the teacher's memory, and vice versa.

    Args:
        dim: d of the embeddings.
        num_negatives: K.
        temperature: T.
        momentum: weight of the old row when the memory is updated, in [0, 1].
        negatives: see `Negatives`.
        num_clusters: see `Negatives`.
        train_heads: False keeps the embeddings random, as in the BRCD release.
        seed: of negatives and clusters.
        weight: factor of the loss.
    """

    needs = frozenset({"teacher"})
    normalised_banks = False
    bank_student: Tensor  # (n, d)
    bank_teacher: Tensor  # (n, d)
    log_z_student: Tensor  # (), nan before the first batch
    log_z_teacher: Tensor  # ()

    def __init__(
        self,
        dim: PositiveInt = 128,
        num_negatives: PositiveInt = 500,
        temperature: Temperature = 0.05,
        momentum: UnitInterval = 0.5,
        negatives: NegativeKind = "uniform",
        num_clusters: PositiveInt = 10,
        train_heads: bool = True,
        seed: Seed = 0,
        weight: NonNegative = 1.0,
    ) -> None:
        super().__init__(weight)
        self.dim, self.temperature, self.momentum, self.train_heads = dim, temperature, momentum, train_heads
        self.negatives = Negatives(negatives, num_negatives, num_clusters, seed)
        self.needs = self.needs | self.negatives.needs

    def setup(self, num_images: int, bits: int, steps_per_epoch: int) -> None:
        """Creates the embeddings, and memories of the size of the training split."""
        self.negatives.setup(num_images)
        require_bank_memory(self.dim, num_images, banks=2)
        draws = self.negatives.count
        require_draw_memory(draws, num_images, steps_per_epoch, self.dim if gathers(num_images, draws) else 0)
        self.embed_student = Embedding(bits, self.dim, self.train_heads)
        self.embed_teacher = Embedding(bits, self.dim, self.train_heads)
        for side in ("student", "teacher"):
            bank = random_bank(num_images, self.dim, normalise=self.normalised_banks)
            self.register_buffer(f"bank_{side}", bank)
            self.register_buffer(f"log_z_{side}", torch.tensor(float("nan")))  # set by the first batch

    def prepare(self, teacher_codes: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Groups images that must not be each other's negatives."""
        self.negatives.prepare(teacher_codes, labels)
        return {}

    def forward(self, batch: KDInput) -> KDOutput:
        """One term, named after the method, for both sides; updates the memories with the batch afterwards."""
        rows = self.negatives(batch.index)  # (M, K + 1)
        student, teacher = self.embed_student(batch.student), self.embed_teacher(batch.teacher)
        loss = self.side_loss(student, self.bank_teacher, rows, self.log_z_student)
        loss = loss + self.side_loss(teacher, self.bank_student, rows, self.log_z_teacher)
        remember(self.bank_student, batch.index, student, self.momentum)
        remember(self.bank_teacher, batch.index, teacher, self.momentum)
        return KDOutput({type(self).__name__.lower(): self.weight * loss}, {})

    def side_loss(self, embeddings: Tensor, bank: Tensor, rows: Tensor, log_z: Tensor) -> Tensor:
        """Mean loss of one side's embeddings (M, d) against the other side's memory (n, d) at `rows` (M, K + 1)."""
        scores = bank_scores(embeddings, bank, rows) * (1 / self.temperature)
        if bool(log_z.isnan()):
            self.set_partition(log_z, scores)
        return nce_loss(scores, log_z, self.negatives.num_images).mean()

    def set_partition(self, log_z: Tensor, scores: Tensor) -> None:
        """Sets log Z, where Z is n times the mean of exp(score); done once, by the first batch."""
        log_mean = scores.detach().flatten().logsumexp(dim=0) - math.log(scores.numel())
        log_z.copy_(log_mean + math.log(self.negatives.num_images))
