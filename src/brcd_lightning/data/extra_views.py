"""Images that only some objectives ask for: views, rotations of a view, and class positives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from brcd_lightning.data.splits import Splits
from brcd_lightning.data.transforms import ImageTransforms, MixedImages, PreparedImages


@dataclass(frozen=True)
class Extras:
    """Inputs of training batches besides the anchor.

    Attributes:
        rotations: ``none``; ``shared`` for the four rotations of one augmented view; ``independent`` for four rotations
            of four views.
        positives: number of class positives of each image; they use labels.
        views: whether batches hold two augmentations of each image.
    """

    rotations: str = "none"
    positives: int = 0
    views: bool = True


def quarter_turns(images: PreparedImages, turns: int) -> PreparedImages:
    """Cropped images rotated by multiples of 90 degrees; color changes do not depend on the orientation."""
    return images._replace(pixels=images.pixels.rot90(turns, (-2, -1)))


def class_positive(splits: Splits, transforms: ImageTransforms, index: int, pixels: Tensor) -> MixedImages:
    """A random positive of training image `index`, from torch's default generator.

    Another training image that shares a label (the image itself if there is none) is rotated by a random multiple of 90
    degrees and augmented. It is then mixed with an augmentation of the image in a random ratio, as in PACKD's code.

    Args:
        splits: the data set.
        transforms: view transforms that crop in loader workers.
        index: position in the training split.
        pixels: (3, H, W) uint8 of that image.
    """
    labels = splits.labels("train")
    own = labels[index]
    related = labels == own if labels.ndim == 1 else (labels.bool() & own.bool()).any(dim=1)
    related[index] = False
    candidates = related.nonzero()[:, 0]
    mate = pixels
    if len(candidates):
        chosen = candidates[torch.randint(len(candidates), ())]
        mate = splits.source.load(int(splits.train[chosen]))
    turns = int(torch.randint(4, ()))
    pair = (transforms.prepare_view(mate.rot90(turns, (1, 2))), transforms.prepare_view(pixels))
    pixels, colors, _ = (torch.stack(both) for both in zip(*pair, strict=True))
    return MixedImages(pixels, colors, torch.rand(()))
