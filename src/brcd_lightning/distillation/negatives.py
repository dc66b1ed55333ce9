"""Sampling of negatives from a memory bank.

Shapes: n training images, M in a batch, b bits, C labels, K negatives.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from brcd_lightning.codes.clusters import kmeans_codes
from brcd_lightning.distillation.base import needed, require_clusters
from brcd_lightning.distributed.seeding import stream_seed
from brcd_lightning.errors import InputError
from brcd_lightning.options import PositiveInt, Seed, checked

NegativeKind = Literal["uniform", "pseudo_label", "label"]


class Negatives(nn.Module):
    """Draws the memory rows that an anchor is compared with: itself first, then K others, with replacement.

    The draw of a step depends on (seed, number of the step) alone, and the number is saved with the student: a resumed
    run draws what an uninterrupted one would, and all processes draw the same.

    Args:
        negatives: ``uniform`` over all other images; ``pseudo_label`` over those of other clusters of the teacher's
            codes; ``label`` over those that share no label, as the BRCD release does (then the method uses labels).
        num_negatives: K.
        num_clusters: of ``pseudo_label``.
        seed: of draws and clusters.
    """

    step: Tensor  # () int64, number of draws so far
    order: Tensor  # (n,) int64
    blocks: Tensor  # (n, 2) int64
    labels: Tensor  # (n, C), or empty

    @checked("kd_method")
    def __init__(
        self, negatives: NegativeKind, num_negatives: PositiveInt, num_clusters: PositiveInt, seed: Seed
    ) -> None:
        super().__init__()
        self.kind, self.count, self.num_clusters, self.seed = negatives, num_negatives, num_clusters, seed
        self.num_images = 0
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        # Made anew at every fit start. Images sorted by group, (n,); where each one's group starts there and how large
        # it is, (n, 2). Or, for multi-hot labels, the labels (n, C).
        self.register_buffer("order", torch.empty(0, dtype=torch.long), persistent=False)
        self.register_buffer("blocks", torch.empty(0, 2, dtype=torch.long), persistent=False)
        self.register_buffer("labels", torch.empty(0), persistent=False)

    @property
    def needs(self) -> frozenset[str]:
        """Needs of the kind of negatives, see `KDMethod.needs`."""
        return frozenset({"training_labels"} if self.kind == "label" else ())

    def setup(self, num_images: int) -> None:
        """Says how many images there are to draw from."""
        if self.count >= num_images:
            raise InputError(
                f"kd_method.num_negatives must be below the number of training images, got {self.count} for "
                f"{num_images} images."
            )
        if self.kind == "pseudo_label":
            require_clusters(self.num_clusters, num_images)
        self.num_images = num_images
        self._group(torch.arange(num_images))

    def prepare(self, teacher_codes: Tensor, labels: Tensor | None) -> None:
        """Groups the training images by the teacher's codes (n, b) or by their labels."""
        if self.kind == "pseudo_label":
            self._group(kmeans_codes(teacher_codes, self.num_clusters, seed=self.seed, n_init=5)[1])
        elif self.kind == "label":
            labels = needed(labels, "training_labels")
            if labels.ndim == 1:
                self._group(labels)
            else:
                self.labels = labels.float()

    def _group(self, groups: Tensor) -> None:
        """Sorts images by groups (n,); of a group that holds all of them each image is one of its own."""
        groups, sizes = groups.cpu().unique(return_inverse=True, return_counts=True)[1:]
        if len(sizes) == 1:
            groups, sizes = torch.arange(len(groups)), torch.ones(len(groups), dtype=torch.long)
        starts = sizes.cumsum(dim=0) - sizes
        self.order = groups.argsort(stable=True).to(self.step.device)
        self.blocks = torch.stack([starts, sizes], dim=1)[groups].to(self.step.device)

    def forward(self, index: Tensor) -> Tensor:
        """Memory rows (M, K + 1) for anchors at `index` (M,): the anchor's own in column 0."""
        key = stream_seed(self.seed, int(self.step))
        generator = torch.Generator(index.device).manual_seed(key)
        self.step += 1
        if len(self.labels):
            drawn = torch.multinomial(self._allowed(index), self.count, replacement=True, generator=generator)
        else:
            starts, sizes = self.blocks.to(index.device)[index].T[..., None]
            shares = torch.rand(len(index), self.count, dtype=torch.float64, generator=generator, device=index.device)
            places = (shares * (self.num_images - sizes)).long()
            drawn = self.order.to(index.device)[places + sizes * (places >= starts)]  # over its own group
        return torch.cat([index[:, None], drawn], dim=1)

    def _allowed(self, index: Tensor) -> Tensor:
        """1 for images (M, n) with no label in common; for all but the own where there are none."""
        labels = self.labels.to(index.device)
        allowed = labels[index] @ labels.T == 0
        others = torch.arange(self.num_images, device=index.device) != index[:, None]
        return torch.where(allowed.any(dim=1, keepdim=True), allowed, others).float()
