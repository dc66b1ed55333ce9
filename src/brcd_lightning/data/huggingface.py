"""Image data sets of the Hugging Face hub, or of a folder that its ``datasets`` library reads (an extra)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from brcd_lightning.data.image_scan import to_pixels
from brcd_lightning.data.sources import ImageSource
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.splitting import PerClass, draw_splits, split_database
from brcd_lightning.errors import InputError, did_you_mean
from brcd_lightning.options import PositiveInt, Seed, Text, checked


class HubImages(ImageSource):
    """Concatenated rows of several data sets.

    Args:
        parts: data sets by the name of their split.
        image_column: column of the images.
        labels: see `ImageSource`.
        classes: see `ImageSource`.
    """

    def __init__(self, parts: dict[str, Any], image_column: str, labels: Tensor, classes: Sequence[str] = ()) -> None:
        ids = [f"{split}/{row}" for split, part in parts.items() for row in range(len(part))]
        super().__init__(ids, labels, classes=classes)
        self._rows = [(part, row) for part in parts.values() for row in range(len(part))]
        self._image_column = image_column

    def load(self, position: int) -> Tensor:
        """Pixels of one image."""
        part, row = self._rows[position]
        return to_pixels(part[row][self._image_column])

    def digest(self, position: int) -> bytes:
        """SHA-256 of the pixels."""
        return hashlib.sha256(self.load(position).numpy().tobytes()).digest()


@checked("dataset")
def huggingface(
    name: Text | None,
    data_dir: Text | None = None,
    train_split: Text = "train",
    query_split: Text = "test",
    image_column: Text = "image",
    label_column: Text = "label",
    train_per_class: PositiveInt = 500,
    val_query_per_class: PositiveInt = 100,
    num_train: PositiveInt = 5000,
    num_val_query: PositiveInt = 1000,
    seed: Seed = 0,
) -> Splits:
    """Builds splits of a hub data set: one of its splits is the database, another holds the queries.

    Args:
        name: of the data set on the hub, for example ``uoft-cs/cifar10``, or ``imagefolder`` with `data_dir`.
        data_dir: folder for loaders that read local files.
        train_split: split of the database.
        query_split: split of the queries.
        image_column: column of the images.
        label_column: column of class indices, or of lists of them.
        train_per_class: see `PerClass`; for class indices.
        val_query_per_class: see `PerClass`; for class indices.
        num_train: training images of the database; for lists of labels.
        num_val_query: see `split_database`; for lists of labels.
        seed: of the draws.

    Raises:
        InputError: if the library is missing, the data set cannot be loaded, or a split or column does not exist.
    """
    if name is None:
        raise InputError(
            "dataset.name is not set; give a data set of the hub, for example dataset.name=uoft-cs/cifar10."
        )
    parts = {split: _load(name, data_dir, split, (image_column, label_column)) for split in (train_split, query_split)}
    labels = _labels([label for part in parts.values() for label in part[label_column]])
    source = HubImages(parts, image_column, labels, _classes(parts[train_split].features[label_column]))
    everything = torch.arange(len(source))
    database, query = everything.split([len(part) for part in parts.values()])
    if labels.ndim == 1:
        return draw_splits(
            source,
            query_pool=query,
            database_pool=database,
            per_class=PerClass(train_per_class, val_query_per_class),
            seed=seed,
        )
    return split_database(
        source,
        query=query,
        database=database,
        train=num_train,
        generator=np.random.default_rng(seed),
        num_val_query=num_val_query,
    )


def _load(name: str, data_dir: str | None, split: str, columns: Sequence[str]) -> Any:
    """One split of a data set, after checking that it has these columns."""
    try:
        import datasets  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise InputError("dataset=huggingface needs its library: pip install 'brcd_lightning[huggingface]'.") from error
    try:
        part = datasets.load_dataset(name, data_dir=data_dir, split=split)
    # The library raises many types: no network, no such data set, no such split, damaged files.
    except Exception as error:
        raise InputError(f"{name}, split {split}, cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    for column in columns:
        if column not in part.column_names:
            raise InputError(f"{name}, {split}: no column {column!r}.{did_you_mean(column, part.column_names)}")
    return part


def _classes(column: Any) -> Sequence[str]:
    """Names of the classes of a label column; empty if it holds plain numbers."""
    each = column[0] if isinstance(column, list) else getattr(column, "feature", column)  # of a column of lists
    return getattr(each, "names", None) or ()


def _labels(values: list[Any]) -> Tensor:
    """Class indices (n,), or multi-hot rows (n, C) from lists of class indices."""
    if not isinstance(values[0], list):
        return torch.tensor(values)
    hot = torch.zeros(len(values), 1 + max(label for row in values for label in row), dtype=torch.long)
    for row, numbers in zip(hot, values, strict=True):
        row[numbers] = 1
    return hot
