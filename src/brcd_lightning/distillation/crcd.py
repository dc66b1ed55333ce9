"""CRCD: complementary relation contrastive distillation (Zhu et al., CVPR 2021), the feature relation on codes.

Shapes: n training images, M in a batch, A = M anchors, a anchors at a time, d embedding width, K negatives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction, FunctionCtx

from brcd_lightning.distillation.crd import CRD, log_noise, offset, sum_of_softplus
from brcd_lightning.distillation.memory_bank import bank_scores

_SHIFT = 1e-6
_CLOSE = 0.1  # the difference of unit vectors closer than this loses digits in single precision
_ANCHORS_AT_A_TIME = 8  # their relations fit in the processor cache


class Relations:
    """Cosines between the directions from anchors to embeddings and from anchors to memory rows.

    With v the memory and o_a = v_a - 1e-6, the direction from anchor a to an embedding is unit(f_i - o_a), and that to
    a memory row is unit(v_j - o_a). Their cosine is (f_i - o_a) (v_j - o_a) divided by both lengths. All of these are
    computed from inner products: M x A x (K + 1) numbers instead of as many vectors, and only for a few anchors at a
    time.

    Differences of products suffer from cancellation if vectors nearly coincide. `precise_relations` then passes the
    memory in double precision. The products and their sums are double, and the values derived from the differences are
    in `dtype`.

    Args:
        bank: v (n, d), in the precision of the products.
        rows: (M, K + 1) memory rows that each embedding is compared with.
        anchors: (A,) memory rows, without duplicates.
        dtype: dtype of the cosines; that of the bank when None.
    """

    def __init__(self, bank: Tensor, rows: Tensor, anchors: Tensor, dtype: torch.dtype | None = None) -> None:
        self.bank, self.rows, self.dtype = bank, rows, dtype or bank.dtype
        self.origins = bank[anchors] - _SHIFT  # o (A, d)
        self.shortest = torch.finfo(bank.dtype).eps ** 0.5  # shorter differences are only rounding errors
        self.o_o = self.origins.square().sum(dim=1, keepdim=True)  # (A, 1)
        o_v = self.origins @ bank.T  # (A, n)
        self.rest = self.o_o - o_v
        lengths = (bank.square().sum(dim=1) - 2 * o_v + self.o_o).clamp_min_(self.shortest**2).sqrt_()
        count = torch.arange(len(anchors), device=rows.device)
        lengths[count, anchors] = float("inf")
        self.nearest = lengths.min()  # () from an anchor to another memory row
        # From an anchor to its own memory row only the shift remains, too short for a difference of products.
        lengths[count, anchors] = _SHIFT * bank.shape[1] ** 0.5
        self.inverse = lengths.reciprocal_().to(self.dtype)  # 1 / |v - o| (A, n)
        places = torch.full((len(bank),), -1, device=rows.device)
        places[anchors] = count
        image, column = (places[rows] >= 0).nonzero(as_tuple=True)
        self.itself = places[rows[image, column]], image, column

    def products(self, embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Differentiable products of f (M, d): f v (M, K + 1), and f o, 1e-6 sum(f - o), 1 / |f - o|, each (A, M)."""
        embeddings = embeddings.to(self.bank.dtype)
        f_o = self.origins @ embeddings.T
        shifted = _SHIFT * (embeddings.sum(dim=1) - self.origins.sum(dim=1, keepdim=True))
        lengths = (embeddings.square().sum(dim=1) - 2 * f_o + self.o_o).clamp_min(self.shortest**2)
        return bank_scores(embeddings, self.bank, self.rows), f_o, shifted, lengths.rsqrt()

    def along(self, f_v: Tensor, f_o: Tensor, shifted: Tensor) -> Iterator[tuple[slice, Tensor, Tensor, tuple]]:
        """Iterates over blocks of anchors, in tensors that the next iteration overwrites.

        Yields:
            Slice of the anchors; (f - o) (v - o) / |v - o| (a, M, K + 1); 1 / |v - o| (a, M, K + 1); indices of the
            entries whose memory row is the anchor itself.
        """
        drawn, (anchors, _) = self.rows.flatten(), self.origins.shape
        place, image, column = self.itself
        size = min(_ANCHORS_AT_A_TIME, anchors)
        products, inverses = (source.new_empty(size, len(drawn)) for source in (self.rest, self.inverse))
        for start in range(0, anchors, size):
            part = slice(start, min(start + size, anchors))
            flat = [buffer[: part.stop - start] for buffer in (products, inverses)]
            columns = drawn.expand(part.stop - start, -1)
            torch.gather(self.rest[part], 1, columns, out=flat[0])  # index_select is slow in double precision
            torch.gather(self.inverse[part], 1, columns, out=flat[1])
            product, inverse = (buffer.view(-1, *self.rows.shape) for buffer in flat)
            here = (place >= part.start) & (place < part.stop)
            itself = place[here] - start, image[here], column[here]
            product.add_(f_v).sub_(f_o[part, :, None])
            product[itself] = shifted[part][itself[:2]]
            yield part, product.to(self.dtype).mul_(inverse), inverse, itself


def precise_relations(embeddings: Tensor, bank: Tensor, rows: Tensor) -> Relations:
    """Relations whose anchors are the first column of `rows`, with products in double precision if necessary.

    Double precision is necessary if an embedding or another memory row nearly coincides with an anchor.

    Args:
        embeddings: (M, d) unit vectors.
        bank: (n, d) unit vectors.
        rows: (M, K + 1) memory rows that each embedding is compared with.
    """
    anchors = rows[:, 0]
    relations = Relations(bank.to(embeddings.dtype), rows, anchors)
    if embeddings.dtype == torch.float64 or embeddings.device.type == "mps":  # MPS has no double precision
        return relations
    nearest = torch.minimum(relations.nearest, torch.cdist(embeddings.detach(), relations.origins).min())
    return Relations(bank.double(), rows, anchors, embeddings.dtype) if bool(nearest < _CLOSE) else relations


class _RelationLoss(torch.autograd.Function):
    """Sum of `nce_loss` over anchors and images, with a manual gradient: autograd would save all relations."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        relations: Relations,
        weights: Tensor,
        temperature: float,
        log_c: Tensor,
        *products: Tensor,
    ) -> Tensor:
        f_v, f_o, shifted, scale = products
        d_v, d_o, d_shifted, d_scale = gradients = [torch.zeros_like(product) for product in products]
        scale, total = scale.to(relations.dtype), weights.new_zeros(())
        for part, product, inverse, itself in relations.along(f_v, f_o, shifted):
            if part.start == 0:
                buffers = product.new_empty(3, *product.shape)
            logits, sigmoid, scratch = buffers[:, : len(product)]
            torch.mul(product, scale[part, :, None] / temperature, out=logits).sub_(log_c)
            torch.sigmoid(logits, out=sigmoid)
            losses = sum_of_softplus(logits, sigmoid, scratch) - logits[..., 0]
            total += (weights[part] * losses).sum()
            d_logits = sigmoid
            d_logits[..., 0] -= 1
            d_logits *= (weights[part] / temperature)[..., None]
            d_scale[part] = torch.mul(d_logits, product, out=scratch).sum(dim=2)
            d_product = d_logits.mul_(inverse).mul_(scale[part, :, None]).to(d_v.dtype)
            d_shifted[part].index_put_(itself[:2], d_product[itself], accumulate=True)
            d_product[itself] = 0
            d_o[part] = -d_product.sum(dim=2)
            d_v += d_product.sum(dim=0)
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    def backward(ctx: BackwardCFunction, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, None, *(gradient * saved for saved in ctx.saved_tensors)


class CRCD(CRD):
    """CRD on relations: the rows of the batch in the other side's memory serve as anchors, the origins of directions.

    Args:
        skip_self_anchor: exclude the relation of an image to its own memory row, whose positive has no direction.
        **options: options of `CRD`.
    """

    normalised_banks = True

    def __init__(self, skip_self_anchor: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.skip_self_anchor = skip_self_anchor

    def side_loss(self, embeddings: Tensor, bank: Tensor, rows: Tensor, log_z: Tensor) -> Tensor:
        """Mean loss over the pairs of image and anchor with non-zero weight."""
        relations = precise_relations(embeddings, bank, rows)
        products = f_v, f_o, shifted, scale = relations.products(embeddings)
        weights = torch.ones_like(scale, dtype=relations.dtype)  # (A, M)
        if self.skip_self_anchor:
            weights.fill_diagonal_(0)
        if bool(log_z.isnan()):
            with torch.no_grad():
                cosines = [
                    (product * scale[part, :, None].to(relations.dtype))[weights[part] > 0]
                    for part, product, *_ in relations.along(f_v, f_o, shifted)
                ]
                self.set_partition(log_z, torch.cat(cosines) * (1 / self.temperature))
        images, negatives = self.negatives.num_images, self.negatives.count
        log_c = log_noise(log_z, images, negatives)
        total = _RelationLoss.apply(relations, weights, self.temperature, log_c, *products)
        return total / weights.sum() - offset(images, negatives)
