"""CRCD: complementary relation contrastive distillation (Zhu et al., CVPR 2021), its feature relation on codes.

Shapes: n training images, M in a batch, A = M anchors, d embedding width, K negatives.
"""

from __future__ import annotations

import torch
from torch import Tensor

from brcd_lightning.distillation.crd import CRD
from brcd_lightning.distillation.memory import bank_scores
from brcd_lightning.errors import require_bool

_SHIFT = 1e-6


def relation_scores(embeddings: Tensor, bank: Tensor, rows: Tensor, anchors: Tensor) -> Tensor:
    """Cosines between the directions from an anchor to an embedding and to memory rows.

    Entry (i, a, j) compares unit(f_i - v_a + 1e-6) with unit(v_j - v_a + 1e-6), v the memory. With o_a = v_a - 1e-6 it
    is (f_i - o_a) (v_j - o_a) over both lengths, all of which follows from inner products: M x A x (K + 1) numbers are
    made, not that many vectors.

    Args:
        embeddings: f (M, d); receives the gradient.
        bank: v (n, d).
        rows: (M, K + 1) memory rows.
        anchors: (A,) memory rows, each once.

    Returns:
        (M, A, K + 1).
    """
    bank = bank.to(embeddings.dtype)
    origins = bank[anchors] - _SHIFT  # (A, d)
    shift_length = _SHIFT * bank.shape[1] ** 0.5
    f_o, o_o = embeddings @ origins.T, origins.square().sum(dim=1)  # (M, A), (A,)
    f_scale = (embeddings.square().sum(dim=1, keepdim=True) - 2 * f_o + o_o).clamp_min(shift_length**2).rsqrt()
    with torch.no_grad():
        v_o = (bank @ origins.T)[rows]  # (M, K + 1, A)
        v_v = bank.square().sum(dim=1)[rows][:, :, None]  # (M, K + 1, 1)
        v_scale = (v_o * -2).add_(v_v).add_(o_o).clamp_min_(shift_length**2).rsqrt_()  # 1 / |v_j - o_a|
        # From a memory row that is the anchor to itself only the shift is left, too short for a difference of products.
        places = torch.full((len(bank),), -1, device=rows.device)
        places[anchors] = torch.arange(len(anchors), device=rows.device)
        image, column = (places[rows] >= 0).nonzero(as_tuple=True)
        itself = (image, column, places[rows[image, column]])
        v_scale[itself] = 1 / shift_length
        constant = o_o - v_o
    product = bank_scores(embeddings, bank, rows)[:, :, None] - f_o[:, None] + constant
    product[itself] = _SHIFT * (embeddings[image] - origins[itself[2]]).sum(dim=1)
    return (product * v_scale * f_scale[:, None]).transpose(1, 2)


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
        """Relations (M, A, K + 1), see `relation_scores`."""
        return relation_scores(embeddings, bank, rows, rows[:, 0])

    def counted(self, rows: Tensor) -> Tensor:
        """Pairs (M, A) of image and anchor that count."""
        pairs = rows[:, :1] != rows[:, 0]
        return pairs if self.skip_self_anchor else torch.ones_like(pairs)
