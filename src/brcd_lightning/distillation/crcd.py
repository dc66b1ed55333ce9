"""CRCD: complementary relation contrastive distillation (Zhu et al., CVPR 2021), its feature relation on codes.

Shapes: n training images, M in a batch, A = M anchors, d embedding width, K negatives.
"""

from __future__ import annotations

import torch
from torch import Tensor

from brcd_lightning.distillation.contrast import bank_scores
from brcd_lightning.distillation.crd import CRD
from brcd_lightning.errors import require_bool

_SHIFT = 1e-6


def relation_scores(embeddings: Tensor, bank: Tensor, rows: Tensor, anchors: Tensor) -> Tensor:
    """Cosines between the directions from an anchor to an embedding and to memory rows.

    Entry (i, a, j) compares unit(f_i - v_a + 1e-6) with unit(v_j - v_a + 1e-6), v the memory. All of it follows from
    inner products, so M x A x (K + 1) numbers are made, not that many vectors.

    Args:
        embeddings: f (M, d); receives the gradient.
        bank: v (n, d).
        rows: (M, K + 1) memory rows.
        anchors: (A,) memory rows.

    Returns:
        (M, A, K + 1).
    """
    bank = bank.to(embeddings.dtype)
    dim = bank.shape[1]
    floor = _SHIFT**2 * dim  # squared length of the shift alone
    v_a = bank[anchors]  # (A, d)
    fa, aa = embeddings @ v_a.T, v_a.square().sum(dim=1)  # (M, A), (A,)
    f_sum, a_sum = embeddings.sum(dim=1), v_a.sum(dim=1)
    f_length = _squared(embeddings.square().sum(dim=1)[:, None] - 2 * fa + aa, f_sum[:, None] - a_sum, floor).sqrt()
    with torch.no_grad():
        va = (v_a @ bank.T)[:, rows].transpose(0, 1)  # (M, A, K + 1)
        v_sum = bank.sum(dim=1)[rows][:, None]  # (M, 1, K + 1)
        vv = bank.square().sum(dim=1)[rows][:, None]
        same = rows[:, None] == anchors[:, None]  # a memory row that is the anchor leaves the shift alone
        squared = _squared(vv - 2 * va + aa[:, None], v_sum - a_sum[:, None], floor).masked_fill(same, floor)
        scale = squared.rsqrt()
        # Terms of the product (f - a + s)(v - a + s) without f.
        constant = aa[:, None] - va + _SHIFT * (v_sum - 2 * a_sum[:, None]) + floor
        constant = constant.masked_fill(same, 0.0)
    fv = bank_scores(embeddings, bank, rows)[:, None]  # (M, 1, K + 1)
    product = fv - fa[:, :, None] + (_SHIFT * f_sum)[:, None, None] + constant
    alone = (_SHIFT * (f_sum[:, None] - a_sum) + floor)[:, :, None]  # of the shift with f - a
    product = torch.where(same, alone, product)
    return product * scale / f_length[:, :, None]


def _squared(distance: Tensor, sums: Tensor, floor: float) -> Tensor:
    """Squared length of x - a + shift from |x - a|^2 and sum(x) - sum(a); rounding never makes it vanish."""
    return (distance + 2 * _SHIFT * sums + floor).clamp_min(floor)


class CRCD(CRD):
    """CRD on relations: every batch entry of the other side's memory serves as an anchor that directions start from.

    Args:
        skip_self_anchor: leave out the relation of an image to its own memory row, whose positive is no direction.
        **options: of `CRD`.
    """

    normalised_banks = True

    def __init__(self, skip_self_anchor: bool = True, **options: object) -> None:
        super().__init__(**options)
        require_bool("kd_method.skip_self_anchor", skip_self_anchor)
        self.skip_self_anchor = skip_self_anchor

    def scores(self, embeddings: Tensor, bank: Tensor, rows: Tensor) -> Tensor:
        """Relations (pairs of image and anchor, K + 1), see `relation_scores`."""
        scores = relation_scores(embeddings, bank, rows, rows[:, 0])
        if not self.skip_self_anchor:
            return scores.flatten(end_dim=1)
        return scores[rows[:, :1] != rows[:, 0]]
