"""CIFAR-10 with the paper's protocol (section 5.1): 10,000 queries, 5,000 training images, 50,000 database."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from brcd_lightning.data.image_folder import image_folder
from brcd_lightning.data.splits import ArrayImages, Splits, draw_splits
from brcd_lightning.errors import InputError, require_bool


def cifar10(
    root: str,
    download: bool = True,
    train_per_class: int = 500,
    val_query_per_class: int = 100,
    query_per_class: int | None = None,
    database_per_class: int | None = None,
    skip_corrupt: bool = False,
    seed: int = 0,
) -> Splits:
    """Builds CIFAR-10: official test images are queries, official training images the database.

    Args:
        root: folder that holds (or will hold) ``cifar-10-batches-py``, or the images as files in
            ``train/<class>/*`` and ``test/<class>/*``.
        download: fetch the official archive through torchvision when it is absent (checksum verified).
        train_per_class: see `draw_splits`.
        val_query_per_class: see `draw_splits`.
        query_per_class: queries per class, all 1,000 when None.
        database_per_class: database images per class, all 5,000 when None.
        skip_corrupt: see `image_folder`; for image files only.
        seed: of the split.

    Raises:
        InputError: if the data is not there and cannot be fetched.
    """
    counts = {
        "train_per_class": train_per_class,
        "val_query_per_class": val_query_per_class,
        "query_per_class": query_per_class,
        "database_per_class": database_per_class,
        "seed": seed,
    }
    require_bool("dataset.download", download)
    folder = Path(root).expanduser()
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        return image_folder(str(folder), skip_corrupt=skip_corrupt, **counts)

    train, test = (_official(folder, part, download) for part in (True, False))
    pixels = torch.from_numpy(np.concatenate([train.data, test.data])).permute(0, 3, 1, 2).contiguous()
    ids = [f"train/{i}" for i in range(len(train))] + [f"test/{i}" for i in range(len(test))]
    positions = torch.arange(len(ids))
    return draw_splits(
        ArrayImages(pixels, ids, torch.tensor(train.targets + test.targets)),
        query_pool=positions[len(train) :],
        database_pool=positions[: len(train)],
        **counts,
    )


def _official(folder: Path, train: bool, download: bool) -> object:
    """The CIFAR10 of torchvision, which reads its pickles only after checking the official MD5 sums."""
    from torchvision.datasets import CIFAR10  # noqa: PLC0415 (slow import, needed only here)

    try:
        return CIFAR10(str(folder), train=train, download=download)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"CIFAR-10 is not in {str(folder)!r} and could not be fetched ({reason}). Set dataset.root=DIR to a folder "
            "with cifar-10-batches-py/ or with train/<class>/*.jpg and test/<class>/*.jpg."
        ) from error
