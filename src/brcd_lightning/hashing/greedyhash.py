"""GreedyHash, unsupervised variant (Su et al., NeurIPS 2018): codes preserve the cosines of the features.

Shapes: M images in a batch, b bits, d features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from brcd_lightning.codes import sign_ste
from brcd_lightning.hashing.base import HashingModel, HashOutput
from brcd_lightning.options import Head, NonNegative, PositiveInt, require_option

Pairs = Literal["half", "all"]


def similarity_loss(codes: Tensor, features: Tensor, pairs: Pairs = "half") -> Tensor:
    """Mean squared difference between the cosine of two codes and the cosine of their features.

    Args:
        codes: (M, b); receives the gradient.
        features: (M, d); the target, without gradient.
        pairs: ``half`` compares image i with image i + M // 2 of the batch (an odd last image is not used);
            ``all`` compares all pairs of images, which has a lower variance.

    Returns:
        Scalar; 0 for a single image.

    Examples:
        >>> import torch
        >>> codes, features = torch.tensor([[1.0, 1.0], [1.0, -1.0]]), torch.tensor([[2.0, 0.0], [3.0, 0.0]])
        >>> round(similarity_loss(codes, features).item(), 4)  # cosine 0 of codes, 1 of features
        1.0
    """
    require_option("pairs", pairs, Pairs)  # checking all arguments would slow down every step
    half = len(codes) // 2
    if half == 0:
        return codes.sum() * 0
    features = features.detach()
    if pairs == "half":
        ours, target = (F.cosine_similarity(rows[:half], rows[half : 2 * half], eps=1e-8) for rows in (codes, features))
    else:
        first, second = torch.triu_indices(len(codes), len(codes), offset=1, device=codes.device)
        units = (F.normalize(rows, dim=1, eps=1e-8) for rows in (codes, features))
        ours, target = ((unit @ unit.T)[first, second] for unit in units)
    return F.mse_loss(ours, target)


class GreedyHash(HashingModel):
    """GreedyHash: one view, codes ``sign(u)`` with a straight-through gradient, kept close to the logits by a penalty.

    Args:
        in_features: width d of the backbone's features.
        bits: code length b.
        alpha: weight of the penalty, the mean of ``||u| - 1|^3``, at least 0.
        pairs: see `similarity_loss`.
        head: see `HashingModel`.
        hidden_features: see `HashingModel`.
    """

    def __init__(
        self,
        in_features: PositiveInt,
        bits: PositiveInt,
        alpha: NonNegative = 0.1,
        pairs: Pairs = "half",
        head: Head = "linear",
        hidden_features: PositiveInt = 1000,
    ) -> None:
        super().__init__(in_features, bits, head, hidden_features)
        self.alpha = alpha
        self.pairs = pairs

    def binarize(self, logits: Tensor) -> Tensor:
        """``sign(u)`` with a straight-through gradient, not clipped, since the penalty limits the logits."""
        return sign_ste(logits)

    def objective(self, views: Sequence[HashOutput]) -> dict[str, Tensor]:
        """Terms ``similarity`` and ``penalty`` (weighted by alpha)."""
        (view,) = views
        penalty = (view.logits.abs() - 1).abs().pow(3).mean()
        return {
            "similarity": similarity_loss(view.code, view.features, self.pairs),
            "penalty": self.alpha * penalty,
        }
