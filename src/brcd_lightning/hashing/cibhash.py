"""CIBHash (Qiu et al., IJCAI 2021): contrastive learning of codes with an information bottleneck.

Shapes: M images in a batch, b bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from brcd_lightning.codes import sign, straight_through
from brcd_lightning.hashing.base import HashingModel, HashOutput
from brcd_lightning.options import Head, NonNegative, PositiveInt, Temperature

_LOG_EPS = 1e-8


def nt_xent(first: Tensor, second: Tensor, tau: float) -> Tensor:
    """NT-Xent over two views: cross-entropy of identifying the other view among the 2M - 1 other rows.

    Args:
        first: (M, b) codes of view 1.
        second: (M, b) codes of view 2 of the same images.
        tau: temperature of the cosine similarities.

    Returns:
        Scalar, the mean over the 2M anchors.

    Examples:
        >>> import torch
        >>> first = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
        >>> nt_xent(first, first, tau=0.3).item() < nt_xent(first, -first, tau=0.3).item()
        True
    """
    rows = F.normalize(torch.cat([first, second]), dim=1, eps=1e-8)  # (2M, b)
    logits = rows @ rows.T / tau  # (2M, 2M)
    logits = logits.masked_fill(torch.eye(len(rows), dtype=torch.bool, device=rows.device), float("-inf"))
    partners = torch.arange(len(rows), device=rows.device).roll(len(first))
    return F.cross_entropy(logits, partners)


def symmetric_bernoulli_kl(first: Tensor, second: Tensor) -> Tensor:
    """KL divergence between Bernoulli distributions in both directions, with detached targets.

    Args:
        first: (M, b) probabilities in [0, 1].
        second: (M, b) probabilities in [0, 1].

    Returns:
        Scalar: summed over bits, averaged over the batch and the two directions.

    Examples:
        >>> import torch
        >>> even, sure = torch.tensor([[0.5]]), torch.tensor([[0.9]])
        >>> symmetric_bernoulli_kl(even, even).item(), round(symmetric_bernoulli_kl(even, sure).item(), 4)
        (0.0, 0.4394)
    """
    both = torch.stack([first, second])  # (2, M, b)
    on, off = (both + _LOG_EPS).log(), (1 - both + _LOG_EPS).log()
    target_on, target_off = on.detach().flip(0), off.detach().flip(0)
    divergences = both * (on - target_on) + (1 - both) * (off - target_off)  # each row against its partner
    return divergences.sum(dim=2).mean()


class CIBHash(HashingModel):
    """CIBHash: two views, codes ``sign(sigmoid(u) - 1/2)``, NT-Xent plus `beta` times the Bernoulli KL of the views.

    Args:
        in_features: width d of the backbone's features.
        bits: code length b.
        tau: temperature of NT-Xent.
        beta: weight of the KL term, at least 0.
        head: see `HashingModel`.
        hidden_features: see `HashingModel`.

    Examples:
        >>> import torch
        >>> from brcd_lightning import HashNetwork, small_backbone
        >>> backbone = small_backbone([8], grid=2)
        >>> network = HashNetwork(backbone, CIBHash(backbone.num_features, bits=16))
        >>> views = network([torch.rand(4, 3, 16, 16), torch.rand(4, 3, 16, 16)])
        >>> sorted(network.hashing_model.objective(views))
        ['bottleneck', 'contrastive']
    """

    num_views = 2

    def __init__(
        self,
        in_features: PositiveInt,
        bits: PositiveInt,
        tau: Temperature = 0.3,
        beta: NonNegative = 0.001,
        head: Head = "linear",
        hidden_features: PositiveInt = 1000,
    ) -> None:
        super().__init__(in_features, bits, head, hidden_features)
        self.tau = tau
        self.beta = beta

    def binarize(self, logits: Tensor) -> Tensor:
        """``sign(p - 1/2)`` with a straight-through gradient to p = sigmoid(logits), hence p (1 - p) to the logits."""
        # The sign of the logits, as in evaluation, because p rounds to 1/2 for small negative logits.
        return straight_through(sign(logits), torch.sigmoid(logits))

    def objective(self, views: Sequence[HashOutput]) -> dict[str, Tensor]:
        """Terms ``contrastive`` and ``bottleneck`` (weighted by beta)."""
        first, second = views
        bottleneck = symmetric_bernoulli_kl(torch.sigmoid(first.logits), torch.sigmoid(second.logits))
        return {
            "contrastive": nt_xent(first.code, second.code, self.tau),
            "bottleneck": self.beta * bottleneck,
        }
