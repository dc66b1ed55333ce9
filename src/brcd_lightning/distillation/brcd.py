"""BRCD: bit-mask robust contrastive knowledge distillation (the paper's Eqs. 3 and 5-11).

Shapes: M images in a batch, b bits, k clusters, n training images.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from brcd_lightning.clusters import KMEANS, bit_expectations, bit_masks, kmeans_codes, nearest_centroid
from brcd_lightning.distillation.base import KDInput, KDMethod, KDOutput
from brcd_lightning.errors import (
    InputError,
    require_bool,
    require_choice,
    require_non_negative_int,
    require_positive,
    require_positive_int,
    require_unit_interval,
)

REDUCTIONS = ("mean", "sum", "none")


def brcd_loss(
    student: Tensor,
    teacher: Tensor,
    teacher_view: Tensor,
    *,
    centroids: Tensor,
    masks: Tensor,
    alpha: float,
    tau: float,
    use_mask: bool = True,
    drop_false_negatives: bool = True,
    dynamic_alpha: bool = True,
    offset_in_denominator: bool = True,
    reduction: str = "mean",
    index: Tensor | None = None,
    assignments: Tensor | None = None,
    view_assignments: Tensor | None = None,
) -> Tensor:
    """The BRCD loss, Eq. (10), and by its switches Eqs. (3) and (7) and the ablations.

    With phi the cosine similarity and psi the cosine of codes masked by their own clusters (Eq. 11), anchor i has

        num_i = (alpha_i phi(s_i, t_i) + (1 - alpha_i) psi(s_i, t'_i)) / tau
        den_i = e^(phi(s_i, t_i) / tau) + e^(psi(s_i, t'_i) / tau) + sum over negatives of e^(psi / tau)
        L_i   = log den_i - num_i

    The 1/tau missing from the first term of Eq. (10) in print is a typo: Eqs. (3), (7) and (14) have it.

    Args:
        student: (M, b) student codes s of the anchors; the only input that receives a gradient.
        teacher: (M, b) teacher codes t of the same anchors, in {-1, +1}.
        teacher_view: (M, b) teacher codes t' of one augmentation of each anchor.
        centroids: (k, b) cluster centres of the teacher's training codes.
        masks: (k, b) bit masks in {0, 1}, Eq. (9).
        alpha: share of the anchor's own code against its augmentation in the numerator, in [0, 1].
        tau: temperature, above 0.
        use_mask: False leaves out the bit masks (ablation w/o BM, Eq. 7).
        drop_false_negatives: False keeps negatives of the anchor's own cluster (ablation w/o N).
        dynamic_alpha: False keeps alpha for augmentations that fall in another cluster (ablation w/o P, Eq. 5).
        offset_in_denominator: False drops such an augmentation from its anchor's denominator.
        reduction: ``mean`` over anchors, ``sum``, or ``none`` for (M,).
        index: (M,) ids of the images; a pair with equal ids is never a negative. Default: all differ.
        assignments: (M,) clusters of the anchors when they are known; default: nearest centroid of `teacher`.
        view_assignments: (M,) clusters of the augmentations; default: nearest centroid of `teacher_view`.

    Returns:
        Scalar, or (M,) for ``none``.
    """
    require_choice("reduction", reduction, REDUCTIONS)
    require_unit_interval("alpha", alpha)
    require_positive("tau", tau)
    y = nearest_centroid(teacher, centroids) if assignments is None else assignments  # (M,)
    y_view = nearest_centroid(teacher_view, centroids) if view_assignments is None else view_assignments  # (M,)
    teacher = teacher.to(student.dtype)
    keys = torch.cat([teacher, teacher_view.to(student.dtype)])  # (2M, b) the originals, then their augmentations
    y_keys = torch.cat([y, y_view])  # (2M,)

    phi = (_unit(student) * _unit(teacher)).sum(dim=1)  # (M,)
    anchors = student
    if use_mask:
        masks = masks.to(student.dtype)
        anchors, keys = masks[y] * anchors, masks[y_keys] * keys
    psi = _unit(anchors) @ _unit(keys).T  # (M, 2M) anchors against the originals, then against augmentations
    psi_own = psi.diagonal(offset=len(student))  # (M,)

    ids = torch.arange(len(student), device=student.device) if index is None else index
    negative = ids[:, None] != ids.repeat(2)  # (M, 2M)
    if drop_false_negatives:
        negative = negative & (y[:, None] != y_keys)

    offset = y != y_view  # (M,) offset positives, Eq. (5)
    alphas = torch.full_like(phi, alpha)
    if dynamic_alpha:
        alphas = alphas.masked_fill(offset, 1.0)
    numerator = (alphas * phi + (1 - alphas) * psi_own) / tau

    own_view = psi_own / tau
    if not offset_in_denominator:
        own_view = own_view.masked_fill(offset, float("-inf"))
    logits = torch.cat(
        [
            (phi / tau)[:, None],
            own_view[:, None],
            (psi / tau).masked_fill(~negative, float("-inf")),
        ],
        dim=1,
    )  # (M, 2 + 2M); the first column is always finite
    losses = logits.logsumexp(dim=1) - numerator
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def _unit(rows: Tensor) -> Tensor:
    """Rows divided by their norm; a zero row (nothing left by its mask) stays zero, also in its gradient."""
    return F.normalize(rows, dim=1, eps=1e-8)


class BRCD(KDMethod):
    """BRCD as in the paper: clusters and masks from the clean training codes, then Eq. (10) on every batch.

    Args:
        num_clusters: k of k-means on the teacher's training codes.
        alpha: see `brcd_loss`.
        delta: threshold of the bit masks in [0, 1], Eq. (9).
        tau: temperature.
        use_mask: see `brcd_loss`.
        drop_false_negatives: see `brcd_loss`.
        dynamic_alpha: see `brcd_loss`.
        offset_in_denominator: see `brcd_loss`.
        min_bits: fewest bits a cluster keeps, see `bit_masks`.
        restarts: k-means++ restarts.
        kmeans: ``sklearn``, or ``faiss`` for millions of training images, see `kmeans_codes`.
        seed: of k-means.
        weight: factor of the loss.
    """

    needs = frozenset({"teacher", "teacher_view"})

    def __init__(
        self,
        num_clusters: int = 10,
        alpha: float = 0.8,
        delta: float = 0.5,
        tau: float = 0.3,
        use_mask: bool = True,
        drop_false_negatives: bool = True,
        dynamic_alpha: bool = True,
        offset_in_denominator: bool = True,
        min_bits: int = 1,
        restarts: int = 30,
        kmeans: str = "sklearn",
        seed: int = 0,
        weight: float = 1.0,
    ) -> None:
        super().__init__(weight)
        require_positive_int("kd_method.num_clusters", num_clusters)
        require_unit_interval("kd_method.alpha", alpha)
        require_unit_interval("kd_method.delta", delta)
        require_positive("kd_method.tau", tau)
        require_positive_int("kd_method.restarts", restarts)
        require_non_negative_int("kd_method.min_bits", min_bits)
        require_non_negative_int("kd_method.seed", seed)
        require_choice("kd_method.kmeans", kmeans, KMEANS)
        for name, value in (
            ("use_mask", use_mask),
            ("drop_false_negatives", drop_false_negatives),
            ("dynamic_alpha", dynamic_alpha),
            ("offset_in_denominator", offset_in_denominator),
        ):
            require_bool(f"kd_method.{name}", value)
        self.num_clusters = num_clusters
        self.alpha = alpha
        self.delta = delta
        self.tau = tau
        self.use_mask = use_mask
        self.drop_false_negatives = drop_false_negatives
        self.dynamic_alpha = dynamic_alpha
        self.offset_in_denominator = offset_in_denominator
        self.min_bits = min_bits
        self.restarts = restarts
        self.kmeans = kmeans
        self.seed = seed
        # Recomputed at every fit start from the teacher, hence not part of a checkpoint.
        self.register_buffer("centroids", torch.empty(0), persistent=False)
        self.register_buffer("masks", torch.empty(0), persistent=False)

    def setup(self, num_images: int, bits: int, steps_per_epoch: int) -> None:
        """Refuses more clusters than training images and more kept bits than there are."""
        if self.num_clusters > num_images:
            raise InputError(
                f"kd_method.num_clusters must be at most the number of training images, got {self.num_clusters} "
                f"clusters for {num_images} images."
            )
        if self.min_bits > bits:
            raise InputError(f"kd_method.min_bits must be at most bits={bits}, got {self.min_bits}.")

    def prepare(self, teacher_codes: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Clusters the training codes (n, b) and builds the masks, Eqs. (8)-(9)."""
        centroids, assignments = kmeans_codes(
            teacher_codes, self.num_clusters, seed=self.seed, restarts=self.restarts, method=self.kmeans
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
        """Term ``brcd``; diagnostics: mean agreement with both teacher codes, and the share of offset positives."""
        both = nearest_centroid(torch.cat([batch.teacher, batch.teacher_view]), self.centroids)
        clusters, view_clusters = both.chunk(2)
        loss = brcd_loss(
            batch.student,
            batch.teacher,
            batch.teacher_view,
            centroids=self.centroids,
            masks=self.masks,
            alpha=self.alpha,
            tau=self.tau,
            use_mask=self.use_mask,
            drop_false_negatives=self.drop_false_negatives,
            dynamic_alpha=self.dynamic_alpha,
            offset_in_denominator=self.offset_in_denominator,
            index=batch.index,
            assignments=clusters,
            view_assignments=view_clusters,
        )
        with torch.no_grad():
            diagnostics = {
                "agreement": F.cosine_similarity(batch.student, batch.teacher).mean(),
                "agreement_view": F.cosine_similarity(batch.student, batch.teacher_view).mean(),
                "offset_positives": (clusters != view_clusters).float().mean(),
            }
        return KDOutput({"brcd": self.weight * loss}, diagnostics)
