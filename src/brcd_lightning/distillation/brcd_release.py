"""BRCD as in the authors' released code, which differs from the paper (docs/paper_vs_release.md).

Shapes: M images in a batch, b bits, k clusters.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from brcd_lightning.codes.clusters import nearest_centroid
from brcd_lightning.distillation.base import KDInput, KDOutput, needed
from brcd_lightning.distillation.brcd import BRCD, BatchClusters, BRCDOptions
from brcd_lightning.errors import InputError

MaskSource = Literal["zeros", "expectations"]
_REMOVED = 1000.0  # subtracted from removed logits


def released_clusters(
    anchors: Tensor, teacher_view: Tensor, centroids: Tensor, masks: Tensor, options: BRCDOptions
) -> BatchClusters:
    """Labels augmentations as in the release: by their code under the anchor's mask, and only with `dynamic_alpha`.

    The paper labels them by their unmasked code. With zero masks, all augmentations get the same cluster.

    Args:
        anchors: (M,) clusters of the anchors.
        teacher_view: (M, b) teacher codes t' of an augmentation.
        centroids: (k, b).
        masks: (k, b) in {0, 1}.
        options: `dynamic_alpha` and `use_mask` apply.

    Returns:
        Clusters of anchors and augmentations; both are equal without `dynamic_alpha`.
    """
    if not options.dynamic_alpha:
        return BatchClusters(anchors, anchors, masks)
    masked = masks[anchors].to(teacher_view.dtype) * teacher_view if options.use_mask else teacher_view  # (M, b)
    return BatchClusters(anchors, nearest_centroid(masked, centroids), masks)


def released_brcd_loss(
    student: Tensor, teacher: Tensor, teacher_view: Tensor, clusters: BatchClusters, options: BRCDOptions
) -> Tensor:
    """The released loss: cross-entropy over student codes of the batch and teacher codes of its augmentations.

    The 2M rows u_i = m s_i and v_i = m t'_i, both masked by the anchor's cluster, serve as anchors and as keys. The
    logit of the positive mixes cos(s_i, t_i) with cos(u_i, v_i). Teacher codes of other original images are never keys,
    and half of the anchors are teacher codes.

    Args:
        student: (M, b) student codes s; they are also keys, so every row has a gradient.
        teacher: (M, b) teacher codes t of the same anchors.
        teacher_view: (M, b) teacher codes t' of an augmentation.
        clusters: see `released_clusters`; alpha is 1 for the offset positives. The shipped masks are all zero.
        options: `use_mask` is the release's flag ``--revise_distance``. `drop_false_negatives` is ``--false_pos`` or
            ``--false_neg`` and removes keys of the anchor's cluster. `dynamic_alpha` is ``--false_pos``.
            `offset_in_denominator` does not apply, since the denominator has no separate terms of the anchor.

    Returns:
        Scalar, mean over the 2M rows.
    """
    y, y_view, masks = clusters
    teacher, teacher_view = teacher.to(student.dtype), teacher_view.to(student.dtype)
    own_masks = masks[y].to(student.dtype) if options.use_mask else torch.ones_like(student)  # (M, b)
    keys = F.normalize(torch.cat([own_masks * student, own_masks * teacher_view]), dim=1, eps=1e-8)  # (2M, b)
    alphas = torch.full_like(student[:, 0], options.alpha).masked_fill(clusters.offset, 1.0)  # (M,)
    own = F.cosine_similarity(student, teacher, dim=1, eps=1e-8)  # (M,) cos(s_i, t_i)
    pair = (keys[: len(student)] * keys[len(student) :]).sum(dim=1)  # (M,) cos(u_i, v_i)
    positive = ((alphas * own + (1 - alphas) * pair) / options.tau).repeat(2)  # (2M,)
    logits = keys @ keys.T / options.tau  # (2M, 2M)
    if options.drop_false_negatives:
        removed = torch.cat([y[None] == y[:, None], y_view[None] == y[:, None]], dim=1)  # (M, 2M)
        logits = logits - _REMOVED * removed.repeat(2, 1)  # the lower half copies the upper one
    ids = torch.arange(len(student), device=student.device).repeat(2)  # (2M,)
    logits = logits.masked_fill(ids[:, None] == ids[None], float("-inf"))
    return (torch.cat([positive[:, None], logits], dim=1).logsumexp(dim=1) - positive).mean()


class ReleasedBRCD(BRCD):
    """The released BRCD; clusters and masks as in `BRCD`.

    Args:
        mask_source: ``zeros``, as written by the release's script for every threshold, or ``expectations``, Eq. (9).
        offset_in_denominator: must be False.
        **options: options of `BRCD`.
    """

    def __init__(self, mask_source: MaskSource = "zeros", offset_in_denominator: bool = False, **options: Any) -> None:
        super().__init__(offset_in_denominator=offset_in_denominator, **options)
        if offset_in_denominator:
            raise InputError("kd_method.offset_in_denominator must be false: the released loss has no such term.")
        self.mask_source = mask_source

    def prepare(self, teacher_codes: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Clusters the training codes and sets the masks, which are those of Eq. (9) or zeros."""
        kept = super().prepare(teacher_codes, labels)
        if self.mask_source == "zeros":
            self.masks = torch.zeros_like(self.masks)
        return kept | {"masks": self.masks}

    def forward(self, batch: KDInput) -> KDOutput:
        """Term ``brcd``."""
        anchors = nearest_centroid(batch.teacher, self.centroids)
        view = needed(batch.teacher_view, "teacher_view")
        clusters = released_clusters(anchors, view, self.centroids, self.masks, self.options)
        loss = released_brcd_loss(batch.student, batch.teacher, view, clusters, self.options)
        return KDOutput({"brcd": self.weight * loss}, {})
