"""Made-up images with a class structure, for tests and for timing."""

from __future__ import annotations

import torch

from brcd_lightning.data.sources import ArrayImages
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.splitting import PerClass, draw_splits
from brcd_lightning.errors import require_non_negative_int, require_positive_int


def fake(
    size: int = 16,
    num_classes: int = 4,
    images_per_class: int = 40,
    train_per_class: int = 16,
    query_per_class: int = 5,
    val_query_per_class: int = 5,
    seed: int = 0,
) -> Splits:
    """Builds images that are a class pattern plus noise.

    Args:
        size: side in pixels.
        num_classes: number of classes.
        images_per_class: images of each class, in all roles together.
        train_per_class: see `PerClass`.
        query_per_class: see `PerClass`.
        val_query_per_class: see `PerClass`.
        seed: of patterns, noise and split.
    """
    require_positive_int("dataset.size", size)
    require_positive_int("dataset.num_classes", num_classes)
    require_positive_int("dataset.images_per_class", images_per_class)
    require_non_negative_int("dataset.seed", seed)
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
