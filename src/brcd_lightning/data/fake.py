"""Synthetic images with a class structure, for tests and timing."""

from __future__ import annotations

import torch

from brcd_lightning.data.sources import ArrayImages
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.splitting import PerClass, draw_splits
from brcd_lightning.errors import InputError
from brcd_lightning.options import ImageSize, PositiveInt, Seed, checked

_MOST_VALUES = 1 << 29  # four bytes each in single precision, and several copies


@checked("dataset")
def fake(
    size: ImageSize = 16,
    num_classes: PositiveInt = 4,
    images_per_class: PositiveInt = 40,
    train_per_class: PositiveInt = 16,
    query_per_class: PositiveInt = 5,
    val_query_per_class: PositiveInt = 5,
    seed: Seed = 0,
) -> Splits:
    """Builds images that are a class pattern plus noise.

    Args:
        size: side in pixels.
        num_classes: number of classes.
        images_per_class: images of each class, over all splits.
        train_per_class: see `PerClass`.
        query_per_class: see `PerClass`.
        val_query_per_class: see `PerClass`.
        seed: of the patterns, the noise and the split.
    """
    if (values := num_classes * images_per_class * 3 * size**2) > _MOST_VALUES:
        raise InputError(
            f"dataset.num_classes, images_per_class and size make {values / 1e9:.1f} billion pixel values, more than "
            f"{_MOST_VALUES / 1e9:.1f}; lower them."
        )
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_classes).repeat_interleave(images_per_class)
    patterns = torch.rand(num_classes, 3, size, size, generator=generator)
    noise = torch.rand(len(labels), 3, size, size, generator=generator)
    pixels = ((0.7 * patterns[labels] + 0.3 * noise) * 255).to(torch.uint8)
    everything = torch.arange(len(labels))
    return draw_splits(
        ArrayImages(pixels, [f"fake/{i}" for i in range(len(labels))], labels),
        query_pool=everything,
        database_pool=everything,
        per_class=PerClass(train=train_per_class, val_query=val_query_per_class, query=query_per_class),
        seed=seed,
    )
