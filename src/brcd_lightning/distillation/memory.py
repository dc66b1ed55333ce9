"""What the contrastive methods with a memory share: embeddings, the memory bank, and negatives drawn from it.

Shapes: n training images, M in a batch, b bits, d embedding width, K negatives.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from brcd_lightning.clusters import kmeans_codes
from brcd_lightning.errors import InputError, require_choice, require_non_negative_int, require_positive_int
from brcd_lightning.seeding import stream_seed

NEGATIVES = ("uniform", "pseudo_label", "label")
_SMALL_BANK = 16  # times the rows that a step compares with


class Embedding(nn.Linear):
    """Linear map of codes (..., b) to unit vectors (..., d).

    Args:
        bits: b.
        dim: d.
        trains: False leaves the random weights as they are, as the BRCD release does.
    """

    def __init__(self, bits: int, dim: int, trains: bool = True) -> None:
        super().__init__(bits, dim)
        self.requires_grad_(trains)

    def forward(self, codes: Tensor) -> Tensor:
        """Unit embeddings (..., d) of codes (..., b)."""
        return F.normalize(super().forward(codes), dim=-1)


class Normalize(nn.Module):
    """Codes (..., b) divided by their length: the embedding of codes that are compared as they are."""

    def forward(self, codes: Tensor) -> Tensor:
        """Unit vectors (..., b)."""
        return F.normalize(codes, dim=-1)


def random_bank(num_images: int, dim: int, *, normalise: bool) -> Tensor:
    """A fresh memory (n, d): uniform in +-1/sqrt(d/3), its rows of length 1 if asked for."""
    width = 1 / math.sqrt(dim / 3)
    bank = torch.empty(num_images, dim).uniform_(-width, width)
    return F.normalize(bank, dim=1) if normalise else bank


def bank_scores(embeddings: Tensor, bank: Tensor, rows: Tensor) -> Tensor:
    """Inner products (M, K + 1) of embeddings (M, d) with memory rows (M, K + 1) of a bank (n, d).

    The bank may change before the backward pass: what it needs is copied.
    """
    if len(bank) > _SMALL_BANK * rows.shape[1]:
        drawn = bank.index_select(0, rows.flatten()).to(embeddings.dtype).unflatten(0, rows.shape)
        return torch.einsum("md,mkd->mk", embeddings, drawn)
    # One product with the whole of a small bank takes less than gathering so many rows.
    return (embeddings @ bank.to(embeddings.dtype, copy=True).T).gather(1, rows)


@torch.no_grad()
def remember(bank: Tensor, index: Tensor, rows: Tensor, momentum: float) -> None:
    """Moves the rows of a batch towards its embeddings: unit(momentum * old + (1 - momentum) * new), in place.

    Of an image that comes twice the last row counts.

    Args:
        bank: (n, d).
        index: (M,) positions in the bank.
        rows: (M, d) new embeddings.
        momentum: share of the old row, in [0, 1].
    """
    rows = rows.detach()
    order = index.argsort(stable=True)
    ordered = index[order]
    last = torch.ones_like(ordered, dtype=torch.bool)
    last[:-1] = ordered[1:] != ordered[:-1]
    index, rows = ordered[last], rows[order[last]].to(bank.dtype)
    bank[index] = F.normalize(momentum * bank[index] + (1 - momentum) * rows, dim=1)


class Negatives(nn.Module):
    """Draws the memory rows that an anchor is compared with: itself first, then K others, with replacement.

    The draw of a step depends on (seed, number of the step) alone, and the number is saved with the student: a resumed
    run draws what an uninterrupted one would, and all processes draw the same.

    Args:
        kind: ``uniform`` over all other images; ``pseudo_label`` over those of other clusters of the teacher's codes;
            ``label`` over those that share no label, as the BRCD release does (then the method uses labels).
        count: K.
        num_clusters: of ``pseudo_label``.
        seed: of draws and clusters.
    """

    def __init__(self, kind: str, count: int, num_clusters: int, seed: int) -> None:
        super().__init__()
        require_choice("kd_method.negatives", kind, NEGATIVES)
        require_positive_int("kd_method.num_negatives", count)
        require_positive_int("kd_method.num_clusters", num_clusters)
        require_non_negative_int("kd_method.seed", seed)
        self.kind, self.count, self.num_clusters, self.seed = kind, count, num_clusters, seed
        self.num_images = 0
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        # Made anew at every fit start. Images sorted by group, (n,); where each one's group starts there and how large
        # it is, (n, 2). Or, for multi-hot labels, the labels (n, C).
        self.register_buffer("order", torch.empty(0, dtype=torch.long), persistent=False)
        self.register_buffer("blocks", torch.empty(0, 2, dtype=torch.long), persistent=False)
        self.register_buffer("labels", torch.empty(0), persistent=False)

    @property
    def needs(self) -> frozenset[str]:
        """What the kind needs of a run, see `KDMethod.needs`."""
        return frozenset({"training_labels"} if self.kind == "label" else ())

    def setup(self, num_images: int) -> None:
        """Says how many images there are to draw from."""
        if self.count >= num_images:
            raise InputError(
                f"kd_method.num_negatives must be below the number of training images, got {self.count} for "
                f"{num_images} images."
            )
        self.num_images = num_images
        self._group(torch.arange(num_images))

    def prepare(self, teacher_codes: Tensor, labels: Tensor | None) -> None:
        """Groups the training images by the teacher's codes (n, b) or by their labels."""
        if self.kind == "pseudo_label":
            self._group(kmeans_codes(teacher_codes, self.num_clusters, seed=self.seed, restarts=5)[1])
        elif self.kind == "label" and labels.ndim == 1:
            self._group(labels)
        elif self.kind == "label":
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
