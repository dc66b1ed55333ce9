"""Bi-half Net, unsupervised variant (Li and van Gemert, AAAI 2021): every bit is +1 for half of the batch.

Shapes: M images in a batch, b bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from brcd_lightning.codes import sign_ste, straight_through
from brcd_lightning.hashing.base import HashingModel, HashOutput
from brcd_lightning.hashing.greedyhash import Pairs, similarity_loss
from brcd_lightning.options import Head, NonNegative, PositiveInt

KDCode = Literal["hash_layer", "sign_ste"]


def bihalf_codes(logits: Tensor) -> Tensor:
    """Codes (M, b) in {-1, +1}: +1 for the largest M // 2 logits of each column, with ties to the first rows.

    Examples:
        >>> import torch
        >>> bihalf_codes(torch.tensor([[3.0], [1.0], [2.0], [5.0]])).flatten().tolist()
        [1.0, -1.0, -1.0, 1.0]
    """
    largest = logits.detach().argsort(dim=0, descending=True, stable=True)[: len(logits) // 2]
    return torch.full_like(logits, -1).scatter(0, largest, 1)


class BiHalf(HashingModel):
    """Bi-half Net, one view. In training, codes depend on the whole batch; in evaluation, they are signs of the logits.

    The original adds ``gamma (u - B) / (M b)`` to the gradient inside the layer. This is the gradient of
    ``gamma / 2 mean((u - B)^2)``, which is added to the loss here. A gradient added in the backward pass would ignore
    loss scaling in half precision and with accumulated batches.

    Args:
        in_features: width d of the backbone's features.
        bits: code length b.
        gamma: weight of the penalty (see above), at least 0.
        pairs: see `similarity_loss`.
        kd_code: code used for distillation: ``hash_layer`` (training code) or ``sign_ste`` (sign of the logits).
        head: see `HashingModel`.
        hidden_features: see `HashingModel`.
    """

    batch_dependent = True

    def __init__(
        self,
        in_features: PositiveInt,
        bits: PositiveInt,
        gamma: NonNegative = 6.0,
        pairs: Pairs = "half",
        kd_code: KDCode = "hash_layer",
        head: Head = "linear",
        hidden_features: PositiveInt = 1000,
    ) -> None:
        super().__init__(in_features, bits, head, hidden_features)
        self.gamma = gamma
        self.pairs = pairs
        self.signs_for_kd = kd_code == "sign_ste"

    def binarize(self, logits: Tensor) -> Tensor:
        """`bihalf_codes` with a straight-through gradient."""
        return straight_through(bihalf_codes(logits), logits)

    def kd_code(self, output: HashOutput) -> Tensor:
        """The training code, or the sign of the logits."""
        return sign_ste(output.logits) if self.signs_for_kd else output.code

    def objective(self, views: Sequence[HashOutput]) -> dict[str, Tensor]:
        """Terms ``similarity`` and ``penalty`` (weighted by gamma / 2)."""
        (view,) = views
        return {
            "similarity": similarity_loss(view.code, view.features, self.pairs),
            "penalty": self.gamma / 2 * F.mse_loss(view.logits, view.code.detach()),
        }
