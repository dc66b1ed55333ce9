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
    """Draws the memory rows that an anchor is compared with: its own row first, then K others, with replacement.

    The draw depends only on the seed and the step number, which is saved with the student. A resumed run therefore
    draws the same rows as an uninterrupted run, and so do all processes.

    Args:
        negatives: ``uniform`` draws from all other images; ``pseudo_label`` from images of other clusters of the
            teacher's codes; ``label`` from images that share no label, as in the BRCD release (uses labels).
        num_negatives: K.
        num_clusters: number of clusters for ``pseudo_label``.
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
        # Recomputed at the start of every fit. `order` (n,) holds the images sorted by group, and `blocks` (n, 2) the
        # start and size of the group of each image. For multi-hot labels, `labels` (n, C) is used instead.
        self.register_buffer("order", torch.empty(0, dtype=torch.long), persistent=False)
        self.register_buffer("blocks", torch.empty(0, 2, dtype=torch.long), persistent=False)
        self.register_buffer("labels", torch.empty(0), persistent=False)

    @property
    def needs(self) -> frozenset[str]:
        """Inputs that this kind of negatives needs, see `KDMethod.needs`."""
        return frozenset({"training_labels"} if self.kind == "label" else ())

    def setup(self, num_images: int) -> None:
        """Sets the number of images to draw from."""
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
        """Sorts images by groups (n,); a single group of all images is split into groups of one image each."""
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
            drawn = self.order.to(index.device)[places + sizes * (places >= starts)]  # skips the own group
        return torch.cat([index[:, None], drawn], dim=1)

    def _allowed(self, index: Tensor) -> Tensor:
        """(M, n): 1 for images that share no label with the anchor; if there are none, for all but the anchor."""
        labels = self.labels.to(index.device)
        allowed = labels[index] @ labels.T == 0
        others = torch.arange(self.num_images, device=index.device) != index[:, None]
        return torch.where(allowed.any(dim=1, keepdim=True), allowed, others).float()
