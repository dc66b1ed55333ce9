"""BRCD: bit-mask robust contrastive knowledge distillation (the paper's Eqs. 3 and 5-11).

Shapes: M images in a batch, b bits, k clusters, n training images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from brcd_lightning.codes.clusters import (
    KMeansLibrary,
    Restarts,
    bit_expectations,
    bit_masks,
    kmeans_codes,
    nearest_centroid,
)
from brcd_lightning.distillation.base import KDInput, KDMethod, KDOutput, needed, require_clusters
from brcd_lightning.errors import InputError
from brcd_lightning.options import (
    NonNegative,
    NonNegativeInt,
    PositiveInt,
    Seed,
    Temperature,
    UnitInterval,
    checked,
    require_option,
)

Reduction = Literal["mean", "sum", "none"]


@checked("kd_method")
@dataclass(frozen=True)
class BRCDOptions:
    """Options of `brcd_loss`; the switches select Eqs. (3), (7) and (10) and the ablations.

    Args:
        alpha: weight in [0, 1] of the anchor's own code, relative to its augmentation, in the numerator.
        tau: temperature, above 0.
        use_mask: False disables the bit masks (ablation w/o BM, Eq. 7).
        drop_false_negatives: False keeps negatives of the anchor's own cluster (ablation w/o N).
        dynamic_alpha: False keeps alpha for augmentations that lie in another cluster (ablation w/o P, Eq. 5).
        offset_in_denominator: False removes such augmentations from the denominator of their anchor.

    Raises:
        InputError: if a value is out of range; the message names the key ``kd_method.<option>``.
    """

    alpha: UnitInterval = 0.8
    tau: Temperature = 0.3
    use_mask: bool = True
    drop_false_negatives: bool = True
    dynamic_alpha: bool = True
    offset_in_denominator: bool = True


class BatchClusters(NamedTuple):
    """Cluster of each teacher code of a batch, and the bit masks of all clusters."""

    anchors: Tensor
    """(M,) int64 in [0, k): cluster y_i of t_i, the code of the anchor."""
    views: Tensor
    """(M,) int64 in [0, k): cluster y'_i of t'_i, the code of its augmentation."""
    masks: Tensor
    """(k, b) bit masks in {0, 1}, Eq. (9)."""

    @classmethod
    def nearest(cls, teacher: Tensor, teacher_view: Tensor, centroids: Tensor, masks: Tensor) -> BatchClusters:
        """Assigns teacher codes (M, b) of anchors and augmentations to the nearest of the centroids (k, b)."""
        anchors, views = nearest_centroid(torch.cat([teacher, teacher_view]), centroids).chunk(2)
        return cls(anchors, views, masks)

    @property
    def offset(self) -> Tensor:
        """(M,) bool, the offset positives of Eq. (5): augmentations in a different cluster than their anchor."""
        return self.anchors != self.views


def brcd_loss(
    student: Tensor,
    teacher: Tensor,
    teacher_view: Tensor,
    clusters: BatchClusters,
    options: BRCDOptions,
    index: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """The BRCD loss, Eq. (10); its options also give Eqs. (3) and (7) and the ablations.

    With phi the cosine similarity and psi the cosine of codes masked by their own clusters (Eq. 11), anchor i has

        num_i = (alpha_i phi(s_i, t_i) + (1 - alpha_i) psi(s_i, t'_i)) / tau
        den_i = e^(phi(s_i, t_i) / tau) + e^(psi(s_i, t'_i) / tau) + sum over negatives of e^(psi / tau)
        L_i   = log den_i - num_i

    The missing 1/tau in the first term of the printed Eq. (10) is a typo: Eqs. (3), (7) and (14) have it.

    Args:
        student: (M, b) student codes s of the anchors; only this input receives a gradient.
        teacher: (M, b) teacher codes t of the same anchors, in {-1, +1}.
        teacher_view: (M, b) teacher codes t' of one augmentation of each anchor.
        clusters: clusters of both teacher codes, and the bit masks.
        options: alpha, tau and the switches.
        index: (M,) ids of the images; pairs with equal ids are never negatives. All ids differ when None.
        reduction: ``mean`` over anchors, ``sum``, or ``none`` for (M,).

    Returns:
        Scalar, or (M,) for ``none``.

    Examples:
        >>> import torch
        >>> from brcd_lightning.distillation.brcd import BatchClusters, BRCDOptions
        >>> teacher = torch.tensor([[1.0, 1.0, 1.0, 1.0], [-1.0, -1.0, 1.0, 1.0]])
        >>> clusters = BatchClusters(torch.tensor([0, 1]), torch.tensor([0, 1]), masks=torch.ones(2, 4))
        >>> options = BRCDOptions(tau=0.5)
        >>> near, far = (brcd_loss(sign * teacher, teacher, teacher, clusters, options).item() for sign in (1, -1))
        >>> near < far
        True
    """
    require_option("reduction", reduction, Reduction)  # checking all arguments would slow down every step
    teacher, teacher_view = teacher.to(student.dtype), teacher_view.to(student.dtype)
    phi = (_unit(student) * _unit(teacher)).sum(dim=1)  # (M,) phi(s_i, t_i)
    psi = _masked_cosines(student, torch.cat([teacher, teacher_view]), clusters, options.use_mask)  # (M, 2M)
    psi_own = psi.diagonal(offset=len(student))  # (M,) psi(s_i, t'_i)

    alphas = torch.full_like(phi, options.alpha)  # (M,)
    if options.dynamic_alpha:
        alphas = alphas.masked_fill(clusters.offset, 1.0)  # Eq. (5)
    numerator = (alphas * phi + (1 - alphas) * psi_own) / options.tau  # (M,)

    own_view = psi_own / options.tau  # (M,)
    if not options.offset_in_denominator:
        own_view = own_view.masked_fill(clusters.offset, float("-inf"))
    is_negative = _negative_pairs(clusters, index, options.drop_false_negatives)  # (M, 2M)
    negatives = (psi / options.tau).masked_fill(~is_negative, float("-inf"))  # (M, 2M)
    # The first of the 2 + 2M columns is always finite.
    log_denominator = torch.cat([(phi / options.tau)[:, None], own_view[:, None], negatives], dim=1).logsumexp(dim=1)
    losses = log_denominator - numerator  # (M,)
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def _masked_cosines(student: Tensor, keys: Tensor, clusters: BatchClusters, use_mask: bool) -> Tensor:
    """Cosines psi (M, 2M) of Eq. (11): student codes (M, b) with teacher codes (2M, b) of anchors, then of views."""
    if use_mask:
        masks = clusters.masks.to(student.dtype)  # (k, b)
        student = masks[clusters.anchors] * student
        keys = masks[torch.cat([clusters.anchors, clusters.views])] * keys
    return _unit(student) @ _unit(keys).T


def _negative_pairs(clusters: BatchClusters, index: Tensor | None, drop_false_negatives: bool) -> Tensor:
    """(M, 2M) bool: pairs of different images and, if false negatives are dropped, of different clusters, Eq. (6)."""
    anchors, views, _ = clusters
    ids = torch.arange(len(anchors), device=anchors.device) if index is None else index
    different = ids[:, None] != ids.repeat(2)
    if drop_false_negatives:
        different = different & (anchors[:, None] != torch.cat([anchors, views]))
    return different


def _unit(rows: Tensor) -> Tensor:
    """Rows divided by their norm; a zero row (fully masked) and its gradient remain zero."""
    return F.normalize(rows, dim=1, eps=1e-8)


class BRCD(KDMethod):
    """BRCD as in the paper: clusters and masks are computed from clean training codes, and Eq. (10) on every batch.

    Args:
        num_clusters: k of k-means on the teacher's training codes.
        alpha: see `BRCDOptions`.
        delta: threshold of the bit masks in [0, 1], Eq. (9).
        tau: see `BRCDOptions`.
        use_mask: see `BRCDOptions`.
        drop_false_negatives: see `BRCDOptions`.
        dynamic_alpha: see `BRCDOptions`.
        offset_in_denominator: see `BRCDOptions`.
        min_bits: smallest number of bits that a cluster keeps, see `bit_masks`.
        n_init: number of k-means++ initialisations.
        kmeans: ``sklearn``, or ``faiss`` for millions of training images, see `kmeans_codes`.
        seed: of k-means.
        weight: factor of the loss.

    Examples:
        >>> import torch
        >>> from brcd_lightning import KDInput
        >>> teacher = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, -1.0], [-1.0, -1.0, 1.0], [-1.0, -1.0, -1.0]])
        >>> method = BRCD(num_clusters=2)
        >>> kept = method.prepare(teacher)  # clusters and masks of the training split
        >>> batch = KDInput(teacher, teacher, torch.arange(4), teacher_view=teacher)
        >>> list(method(batch).terms)
        ['brcd']
    """

    needs = frozenset({"teacher", "teacher_view"})
    # Recomputed from the teacher at the start of every fit, hence not part of a checkpoint.
    centroids: Tensor  # (k, b)
    masks: Tensor  # (k, b)

    def __init__(
        self,
        num_clusters: PositiveInt = 10,
        alpha: UnitInterval = 0.8,
        delta: UnitInterval = 0.5,
        tau: Temperature = 0.3,
        use_mask: bool = True,
        drop_false_negatives: bool = True,
        dynamic_alpha: bool = True,
        offset_in_denominator: bool = True,
        min_bits: NonNegativeInt = 1,
        n_init: Restarts = 30,
        kmeans: KMeansLibrary = "sklearn",
        seed: Seed = 0,
        weight: NonNegative = 1.0,
    ) -> None:
        super().__init__(weight)
        self.options = BRCDOptions(alpha, tau, use_mask, drop_false_negatives, dynamic_alpha, offset_in_denominator)
        self.num_clusters = num_clusters
        self.delta = delta
        self.min_bits = min_bits
        self.n_init = n_init
        self.kmeans = kmeans
        self.seed = seed
        self.register_buffer("centroids", torch.empty(0), persistent=False)
        self.register_buffer("masks", torch.empty(0), persistent=False)

    def setup(self, num_images: int, bits: int, steps_per_epoch: int) -> None:
        """Raises `InputError` for more clusters than training images, or `min_bits` above the code length."""
        require_clusters(self.num_clusters, num_images)
        if self.min_bits > bits:
            raise InputError(f"kd_method.min_bits must be at most bits={bits}, got {self.min_bits}.")

    def prepare(self, teacher_codes: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Clusters the training codes (n, b) and builds the masks, Eqs. (8)-(9)."""
        centroids, assignments = kmeans_codes(
            teacher_codes, self.num_clusters, seed=self.seed, n_init=self.n_init, method=self.kmeans
        )
        masks = bit_masks(teacher_codes, assignments, self.num_clusters, self.delta, min_bits=self.min_bits)
        self.centroids = centroids.to(self.centroids.device)
        self.masks = masks.to(self.masks.device)
        return {
            "centroids": centroids,
            "assignments": assignments,
            "expectations": bit_expectations(teacher_codes, assignments, self.num_clusters),
            "masks": masks,
            "kept_bits": masks.sum(dim=1).mean(),
            "largest_cluster": assignments.bincount().max(),
        }

    def forward(self, batch: KDInput) -> KDOutput:
        """Term ``brcd``; diagnostics: mean cosine with both teacher codes, and the share of offset positives."""
        student, teacher, view = batch.student, batch.teacher, needed(batch.teacher_view, "teacher_view")
        clusters = BatchClusters.nearest(teacher, view, self.centroids, self.masks)
        loss = brcd_loss(student, teacher, view, clusters, self.options, batch.index)
        with torch.no_grad():
            diagnostics = {
                "agreement": F.cosine_similarity(student, teacher).mean(),
                "agreement_view": F.cosine_similarity(student, view).mean(),
                "offset_positives": clusters.offset.float().mean(),
            }
        return KDOutput({"brcd": self.weight * loss}, diagnostics)
