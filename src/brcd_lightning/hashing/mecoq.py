"""MeCoQ (Wang et al., AAAI 2022) as a hashing model: debiased contrastive learning with a memory, on tanh codes.

This is the binary form of MeCoQ: with one codebook {-1, +1} per bit, the soft reconstruction is exactly tanh(alpha u),
the hard code is sign(u), and the codeword diversity is constant.

Shapes: M images in a batch, b bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor

from brcd_lightning.hashing.base import HashingModel, HashOutput
from brcd_lightning.memory import require_memory
from brcd_lightning.options import Head, NonNegative, NonNegativeInt, Positive, PositiveInt, Temperature


def debiased_contrast(
    first: Tensor, second: Tensor, tau: float, rho: float = 0.0, queue: Tensor | None = None, *, released: bool = False
) -> tuple[Tensor, Tensor]:
    """Contrastive loss of two views, with negatives corrected for images that share the anchor's class.

    With P = e^(positive / tau) and n negatives in the batch and the queue, the loss of an anchor is -log P / (P + G),
    where G = max((sum of e^(negative / tau) - n rho P) / (1 - rho), n e^(-1 / tau)). With rho = 0 and no queue, this is
    NT-Xent.

    Args:
        first: (M, b) soft codes of view 1.
        second: (M, b) soft codes of view 2 of the same images.
        tau: temperature of the cosine similarities.
        rho: fraction of images that share a class with the anchor, in [0, 1).
        queue: (q, b) soft codes of earlier batches, used as further negatives.
        released: computes the loss as in the released code: n excludes the queue, the floor is e^(-n / tau), and queue
            rows are not normalised.

    Returns:
        Losses (2M,), and bool (2M,): whether the floor was active for an anchor, whose negatives then have no gradient.

    Examples:
        >>> import torch
        >>> first = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
        >>> losses, bound = debiased_contrast(first, first, tau=0.3)
        >>> losses.shape, bound.any().item()
        (torch.Size([4]), False)
    """
    rows = F.normalize(torch.cat([first, second]), dim=1, eps=1e-8)  # (2M, b)
    similarities = rows @ rows.T / tau
    anchors = torch.arange(len(rows), device=rows.device)
    positive = similarities[anchors, anchors.roll(len(first))]
    outside = torch.zeros_like(similarities, dtype=torch.bool)
    outside[anchors, anchors] = outside[anchors, anchors.roll(len(first))] = True
    negatives = similarities.masked_fill(outside, float("-inf"))
    count = len(rows) - 2
    if queue is not None and len(queue):
        queue = queue if released else F.normalize(queue, dim=1, eps=1e-8)
        negatives = torch.cat([negatives, rows @ queue.T / tau], dim=1)
        count += 0 if released else len(queue)
    log_floor = -count / tau if released else _log(count) - 1 / tau
    log_debiased = _log_debiased(negatives.logsumexp(dim=1), positive, count * rho, rho)
    bound = log_debiased < log_floor
    # -log P / (P + G) is the softplus of log G - log P; F.softplus rounds it above 20.
    losses = -F.logsigmoid(positive - log_debiased.masked_fill(bound, log_floor))
    return losses, bound


def _log_debiased(log_negatives: Tensor, log_positive: Tensor, share: float, rho: float) -> Tensor:
    """Log of (N - share P) / (1 - rho), given log N and log P, all (2M,); -inf if that is not positive."""
    if share == 0:
        return log_negatives - math.log1p(-rho)
    log_ratio = log_positive + math.log(share) - log_negatives  # of share P to N
    covered = log_ratio >= 0
    rest = -torch.expm1(log_ratio.masked_fill(covered, -1.0))  # a masked value keeps the gradient finite
    return (log_negatives + rest.log() - math.log1p(-rho)).masked_fill(covered, float("-inf"))


def _log(x: float) -> float:
    return math.log(x) if x > 0 else float("-inf")


def binary_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of Bernoulli(sigmoid(logits)), of the same shape."""
    return F.binary_cross_entropy_with_logits(logits, torch.sigmoid(logits), reduction="none")


class MeCoQ(HashingModel):
    """MeCoQ: two views, soft codes ``tanh(alpha u)``, debiased contrastive loss with a memory, and entropy of the bits.

    The memory holds soft codes of both views of the last batches of this process, starting at epoch `queue_start`.

    Args:
        in_features: width d of the backbone's features.
        bits: code length b.
        tau: temperature.
        rho: see `debiased_contrast`; about 1 / number of classes.
        entropy: weight of the entropy of the bits, at least 0.
        alpha: slope of the tanh.
        queue_size: rows of the memory.
        queue_start: first epoch whose batches are added to the memory.
        normalise_logits: whether to scale each image's logits to a mean square of 1 first.
        released: see `debiased_contrast`.
        head: see `HashingModel`.
        hidden_features: see `HashingModel`.
    """

    num_views = 2
    queue: Tensor  # (queue_size, b)
    queued: Tensor  # () int64, number of rows that ever entered
    step: Tensor  # () int64, number of training steps

    def __init__(
        self,
        in_features: PositiveInt,
        bits: PositiveInt,
        tau: Temperature = 0.35,
        rho: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        entropy: NonNegative = 0.01,
        alpha: Positive = 1.0,
        queue_size: NonNegativeInt = 384,
        queue_start: NonNegativeInt = 15,
        normalise_logits: bool = False,
        released: bool = False,
        head: Head = "linear",
        hidden_features: PositiveInt = 1000,
    ) -> None:
        super().__init__(in_features, bits, head, hidden_features)
        require_memory("hashing_model.queue_size", queue_size, 4 * queue_size * bits)
        self.tau, self.rho, self.entropy, self.alpha = tau, rho, entropy, alpha
        self.queue_start, self.normalise_logits, self.released = queue_start, normalise_logits, released
        self.steps_per_epoch = 1
        self.register_buffer("queue", torch.zeros(queue_size, bits))
        self.register_buffer("queued", torch.zeros((), dtype=torch.long))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self._bound: Tensor | None = None

    def setup(self, steps_per_epoch: int) -> None:
        """Sets the number of steps in an epoch."""
        self.steps_per_epoch = steps_per_epoch

    def binarize(self, logits: Tensor) -> Tensor:
        """``tanh(alpha u)``, without discretisation during training."""
        return self.soft(logits)

    def soft(self, logits: Tensor) -> Tensor:
        """``tanh(alpha u)``."""
        return (self.alpha * self._scaled(logits)).tanh()

    def _scaled(self, logits: Tensor) -> Tensor:
        if not self.normalise_logits:
            return logits
        return logits * (logits.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()

    def objective(self, views: Sequence[HashOutput]) -> dict[str, Tensor]:
        """Terms ``contrastive`` and ``entropy`` (weighted); in training, then adds the batch to the memory."""
        first, second = views
        queue = self.queue[: int(self.queued)].to(first.code.dtype)
        losses, self._bound = debiased_contrast(
            first.code, second.code, self.tau, self.rho, queue, released=self.released
        )
        if self.training:
            if int(self.step) >= self.queue_start * self.steps_per_epoch:
                self._enqueue(torch.cat([first.code, second.code]).detach())
            self.step += 1
        logits = 2 * self.alpha * self._scaled(torch.cat([first.logits, second.logits]))
        return {"contrastive": losses.mean(), "entropy": self.entropy * binary_entropy(logits).mean()}

    def _enqueue(self, codes: Tensor) -> None:
        codes = codes[-len(self.queue) :] if len(self.queue) else codes[:0]
        places = (self.queued + torch.arange(len(codes), device=codes.device)) % max(1, len(self.queue))
        # A copy, since the current step may still need the old rows for its gradient.
        self.queue = self.queue.index_copy(0, places, codes.to(self.queue.dtype))
        self.queued += len(codes)

    def diagnostics(self, views: Sequence[HashOutput]) -> dict[str, Tensor]:
        """Adds the share of anchors whose negatives have no gradient because the floor is active."""
        bound = {} if self._bound is None else {"bound_anchors": self._bound.float().mean()}
        return super().diagnostics(views) | bound
