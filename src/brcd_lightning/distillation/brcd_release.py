"""BRCD as its authors released it, which differs from the paper (docs/paper_vs_release.md).

Shapes: M images in a batch, b bits, k clusters.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from brcd_lightning.clusters import nearest_centroid
from brcd_lightning.distillation.base import KDInput, KDOutput
from brcd_lightning.distillation.brcd import BRCD
from brcd_lightning.errors import InputError, require_choice

MASK_SOURCES = ("zeros", "expectations")
_REMOVED = 1000.0  # taken off a removed logit


def released_brcd_loss(
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
    assignments: Tensor | None = None,
) -> Tensor:
    """The released loss: cross-entropy over the batch's student codes and its augmentations' teacher codes.

    The 2M rows u_i = m s_i and v_i = m t'_i, both masked by the anchor's cluster, are each other's keys; the logit of
    the positive mixes cos(s_i, t_i) with cos(u_i, v_i). Teacher codes of other originals are never keys, and half of
    the rows are anchored at teacher codes.

    Args:
        student: (M, b) student codes s; they are keys too, so every row has a gradient.
        teacher: (M, b) teacher codes t of the same anchors.
        teacher_view: (M, b) teacher codes t' of an augmentation.
        centroids: (k, b).
        masks: (k, b) in {0, 1}; the shipped ones are all zero.
        alpha: share of the anchor's own teacher code in the positive logit.
        tau: temperature.
        use_mask: the release's flag ``--revise_distance``.
        drop_false_negatives: ``--false_pos`` or ``--false_neg``: removes keys of the anchor's cluster.
        dynamic_alpha: ``--false_pos``: labels augmentations by their masked code; alpha is 1 where that is another
            cluster.
        assignments: (M,) clusters of the anchors when they are known.

    Returns:
        Scalar, mean over the 2M rows.
    """
    images = len(student)
    y = nearest_centroid(teacher, centroids) if assignments is None else assignments
    own_masks = masks[y].to(student.dtype) if use_mask else torch.ones_like(student)
    u, v = own_masks * student, own_masks * teacher_view.to(student.dtype)
    y_view = nearest_centroid(v, centroids) if dynamic_alpha else y  # of the masked code, unlike the paper
    alphas = torch.full_like(student[:, 0], alpha).masked_fill(y_view != y, 1.0)
    keys = F.normalize(torch.cat([u, v]), dim=1, eps=1e-8)
    own = F.cosine_similarity(student, teacher.to(student.dtype), dim=1, eps=1e-8)
    pair = (keys[:images] * keys[images:]).sum(dim=1)
    positive = ((alphas * own + (1 - alphas) * pair) / tau).repeat(2)  # (2M,)
    logits = keys @ keys.T / tau  # (2M, 2M)
    if drop_false_negatives:
        removed = torch.cat([y[None] == y[:, None], y_view[None] == y[:, None]], dim=1)
        logits = logits - _REMOVED * removed.repeat(2, 1)  # the lower half copies the upper one
    ids = torch.arange(images, device=student.device).repeat(2)
    logits = logits.masked_fill(ids[:, None] == ids[None], float("-inf"))
    return (torch.cat([positive[:, None], logits], dim=1).logsumexp(dim=1) - positive).mean()


class ReleasedBRCD(BRCD):
    """The released BRCD; clusters and masks as in `BRCD`.

    Args:
        mask_source: ``zeros``, what the release's script writes for every threshold, or ``expectations``, Eq. (9).
        **options: of `BRCD`; ``offset_in_denominator`` can only be False here.
    """

    def __init__(self, mask_source: str = "zeros", offset_in_denominator: bool = False, **options: Any) -> None:
        super().__init__(offset_in_denominator=offset_in_denominator, **options)
        require_choice("kd_method.mask_source", mask_source, MASK_SOURCES)
        if offset_in_denominator:
            raise InputError("kd_method.offset_in_denominator must be false: the released loss has no such term.")
        self.mask_source = mask_source

    def prepare(self, teacher_codes: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Clusters the training codes; the masks are the true ones or zeros."""
        kept = super().prepare(teacher_codes, labels)
        if self.mask_source == "zeros":
            self.masks = torch.zeros_like(self.masks)
        return kept | {"masks": self.masks}

    def forward(self, batch: KDInput) -> KDOutput:
        """Term ``brcd``."""
        loss = released_brcd_loss(
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
        )
        return KDOutput({"brcd": self.weight * loss}, {})
