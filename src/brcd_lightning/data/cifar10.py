"""CIFAR-10 with the paper's protocol (section 5.1): 10,000 queries, 5,000 training images, 50,000 database."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from brcd_lightning.data.image_folder import folder_images
from brcd_lightning.data.sources import ArrayImages, ImageSource
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.splitting import PerClass, draw_splits
from brcd_lightning.errors import InputError
from brcd_lightning.options import PositiveInt, Seed, Text, checked


class Protocol(NamedTuple):
    """Source of the queries, and the number of images per class."""

    pooled: bool
    """True if queries come from all 60,000 images instead of the official test images."""
    query: int | None
    train: int
    train_in_database: bool = True


ProtocolName = Literal["paper", "pool", "pool_full", "deephash_1", "deephash", "authors"]
PROTOCOLS = {
    "paper": Protocol(pooled=False, query=None, train=500),
    "pool": Protocol(pooled=True, query=1000, train=500),  # Bi-half II, MeCoQ II
    # Bi-half I, MeCoQ I and DeepHash's cifar10-2 train on the whole database of 5,000 images per class; here the
    # validation queries are excluded from the training images.
    "pool_full": Protocol(pooled=True, query=1000, train=4900),
    "deephash_1": Protocol(pooled=True, query=100, train=500),  # DeepHash's cifar10-1
    "deephash": Protocol(pooled=True, query=100, train=500, train_in_database=False),
}
AUTHORS = "authors"
_CLASSES, _TRAIN_PER_CLASS, _VAL_QUERIES = 10, 500, 5000


@checked("dataset")
def cifar10(
    root: Text,
    download: bool = True,
    protocol: ProtocolName = "paper",
    train_per_class: PositiveInt | None = None,
    val_query_per_class: PositiveInt = 100,
    query_per_class: PositiveInt | None = None,
    database_per_class: PositiveInt | None = None,
    skip_corrupt: bool = False,
    seed: Seed = 0,
) -> Splits:
    """Builds CIFAR-10.

    Protocols, in images per class:

    - ``paper``: the 1,000 official test images are queries, and the 5,000 official training images are the database,
      500 of them training images.
    - ``authors``: the split of the paper's release, with half of the test images as validation queries.
    - ``pool``: 1,000 queries drawn from all images, and 500 training images.
    - ``pool_full``: 1,000 queries; all others are the database, and training images except the validation queries.
    - ``deephash_1``: 100 queries and 500 training images.
    - ``deephash``: the same, with the training images outside the database.

    Args:
        root: folder that holds (or will hold) ``cifar-10-batches-py``, or the images as files in
            ``train/<class>/*`` and ``test/<class>/*``.
        download: download the official archive through torchvision if it is missing (checksum verified).
        protocol: see above; ``authors`` has fixed counts.
        train_per_class: see `PerClass`; the protocol's when None.
        val_query_per_class: see `PerClass`.
        query_per_class: queries per class; the protocol's when None.
        database_per_class: database images per class; all 5,000 when None.
        skip_corrupt: see `image_folder`; for image files only.
        seed: of the split.

    Raises:
        InputError: if the data is missing and cannot be downloaded.
    """
    source = _read(Path(root).expanduser(), protocol, download, skip_corrupt)
    is_test = torch.tensor([name.startswith("test/") for name in source.ids])
    everything = torch.arange(len(source))
    if protocol == AUTHORS:
        return _authors(source, everything[is_test], everything[~is_test])
    rule = PROTOCOLS[protocol]
    splits = draw_splits(
        source,
        query_pool=everything if rule.pooled else everything[is_test],
        database_pool=everything if rule.pooled else everything[~is_test],
        per_class=PerClass(
            train=rule.train if train_per_class is None else train_per_class,
            val_query=val_query_per_class,
            query=rule.query if query_per_class is None else query_per_class,
            database=database_per_class,
        ),
        seed=seed,
    )
    if rule.train_in_database:
        return splits
    return replace(splits, database=splits.database[~torch.isin(splits.database, splits.train)])


def _read(folder: Path, protocol: str, download: bool, skip_corrupt: bool) -> ImageSource:
    """Images from class folders if they exist, otherwise from the official archive."""
    if not ((folder / "train").is_dir() and (folder / "test").is_dir()):
        return _official_images(folder, download)
    if protocol == AUTHORS:
        raise InputError(
            "dataset.protocol=authors draws by the official order of the images, which class folders do not keep; "
            "point dataset.root at a folder with cifar-10-batches-py/."
        )
    return folder_images(folder, ("test", "train"), skip_corrupt=skip_corrupt)


def _authors(source: ImageSource, test: Tensor, train: Tensor) -> Splits:
    """The split of the release, whose draws use seed 0, set by one of its imports."""
    generator = np.random.RandomState(0)
    labels, chosen = source.labels[train], []
    for label in range(_CLASSES):
        members = train[labels == label]
        chosen.append(members[torch.from_numpy(generator.permutation(len(members))[:_TRAIN_PER_CLASS])])
    order = np.arange(len(test))
    generator.shuffle(order)
    shuffled = test[torch.from_numpy(order)]
    # Database order breaks ties between equal distances, so no class may come first.
    database = train[torch.from_numpy(generator.permutation(len(train)))]
    return Splits(source, torch.cat(chosen), shuffled[_VAL_QUERIES:], database, shuffled[:_VAL_QUERIES])


def _official_images(folder: Path, download: bool) -> ArrayImages:
    """All 60,000 images, training images first."""
    train, test = (_official(folder, part, download) for part in (True, False))
    pixels = torch.from_numpy(np.concatenate([train.data, test.data])).permute(0, 3, 1, 2).contiguous()
    ids = [f"train/{i}" for i in range(len(train))] + [f"test/{i}" for i in range(len(test))]
    return ArrayImages(pixels, ids, torch.tensor(train.targets + test.targets), train.classes)


def _official(folder: Path, train: bool, download: bool) -> Any:
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
