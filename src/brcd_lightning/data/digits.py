"""The handwritten digits bundled with scikit-learn: real images, no download."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Interval
from sklearn.datasets import load_digits

from brcd_lightning.data.sources import ArrayImages
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.splitting import PerClass, draw_splits
from brcd_lightning.options import PositiveInt, Seed, checked

_Size = Annotated[int, Interval(ge=1, le=512)]  # at twice this size, all images together take a gigabyte


@checked("dataset")
def digits(
    size: _Size = 16,
    train_per_class: PositiveInt = 100,
    query_per_class: PositiveInt = 30,
    val_query_per_class: PositiveInt = 25,
    seed: Seed = 0,
) -> Splits:
    """Builds the 1,797 digits (10 classes, 8x8 grey levels 0-16), enlarged to `size` pixels.

    Args:
        size: side in pixels.
        train_per_class: see `PerClass`.
        query_per_class: see `PerClass`; the rest is the database.
        val_query_per_class: see `PerClass`.
        seed: of the split.
    """
    bundled = load_digits()
    grey = torch.from_numpy(bundled.images).float()[:, None] * (255 / 16)  # (N, 1, 8, 8)
    grey = F.interpolate(grey, size=(size, size), mode="bilinear", align_corners=False)
    pixels = grey.round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    everything = torch.arange(len(pixels))
    return draw_splits(
        ArrayImages(pixels, [f"digit/{i}" for i in range(len(pixels))], torch.from_numpy(bundled.target).long()),
        query_pool=everything,
        database_pool=everything,
        per_class=PerClass(train=train_per_class, val_query=val_query_per_class, query=query_per_class),
        seed=seed,
    )
