"""From uint8 pixels to network input: the evaluation transform and the random view.

Everything random draws from torch's generator, so a seeded generator gives the same view anywhere.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torchvision.transforms import InterpolationMode, v2

from brcd_lightning.errors import require_bool, require_positive_int

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageTransforms(NamedTuple):
    """Both map one image (3, H, W) uint8 to (3, size, size) float32."""

    view: nn.Module
    """A random augmentation."""
    evaluation: nn.Module
    """The fixed transform of queries, database and clean anchors."""


def _to_input(mean: tuple[float, ...], std: tuple[float, ...]) -> list[nn.Module]:
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]


def natural_images(size: int = 224, center_crop: bool = True) -> ImageTransforms:
    """Transforms of the paper and of CIBHash for photographs, with ImageNet normalisation.

    Args:
        size: side of the network input in pixels.
        center_crop: evaluate on the central `size` pixels of an image resized to 8/7 of it (256 for 224), as for
            ImageNet and MSCOCO; False resizes the whole image to `size`, as for CIFAR.
    """
    require_positive_int("transform.size", size)
    require_bool("transform.center_crop", center_crop)
    normalise = _to_input(IMAGENET_MEAN, IMAGENET_STD)
    bilinear = InterpolationMode.BILINEAR
    view = [
        v2.RandomResizedCrop(size, scale=(0.5, 1.0), ratio=(3 / 4, 4 / 3), interpolation=bilinear, antialias=True),
        v2.RandomHorizontalFlip(0.5),
        v2.RandomApply([v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)], p=0.7),
        v2.RandomGrayscale(0.2),
        v2.RandomApply([v2.GaussianBlur(3, sigma=(0.1, 2.0))], p=0.5),
    ]
    if center_crop:
        fixed = [v2.Resize(round(size * 8 / 7), bilinear, antialias=True), v2.CenterCrop(size)]
    else:
        fixed = [v2.Resize((size, size), bilinear, antialias=True)]
    return ImageTransforms(v2.Compose(view + normalise), v2.Compose(fixed + normalise))


def digit_images(size: int = 16) -> ImageTransforms:
    """Transforms for handwritten digits: small rotations, shears and crops; no flip, which would change a digit.

    Args:
        size: side of the network input in pixels.
    """
    require_positive_int("transform.size", size)
    normalise = _to_input((0.3,) * 3, (0.3,) * 3)
    bilinear = InterpolationMode.BILINEAR
    view = [
        v2.RandomAffine(degrees=12, scale=(0.9, 1.1), shear=10, interpolation=bilinear),
        v2.RandomResizedCrop(size, scale=(0.7, 1.0), ratio=(3 / 4, 4 / 3), interpolation=bilinear, antialias=True),
    ]
    fixed = [v2.Resize((size, size), bilinear, antialias=True)]
    return ImageTransforms(v2.Compose(view + normalise), v2.Compose(fixed + normalise))
