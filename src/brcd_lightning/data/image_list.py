"""Data sets given as lists of images with labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from brcd_lightning.data.label_lists import LabelCount, LabelledNames, below, check_names, read_list
from brcd_lightning.data.sources import FileImages, readable_images, require_folder
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.splitting import draw_at_random, split_database
from brcd_lightning.errors import InputError
from brcd_lightning.options import PositiveInt, Seed, Text, checked

LISTED_SPLITS = ("train", "query", "database")


@checked("dataset")
def image_list(
    root: Text | None,
    images: Text | None = None,
    train: Text | None = None,
    query: Text | None = None,
    database: Text | None = None,
    num_classes: LabelCount | None = None,
    num_query: PositiveInt = 1000,
    num_train: PositiveInt = 5000,
    num_val_query: PositiveInt = 500,
    drop_unlabeled: bool = True,
    skip_corrupt: bool = False,
    seed: Seed = 0,
) -> Splits:
    """Builds splits from lists (see `label_lists.read_list`): one list to draw from, or one list per split.

    Args:
        root: folder that the paths of the lists are relative to.
        images: list of all images; queries and training images are drawn from it.
        train: list of training images; a subset of the database, or disjoint from it.
        query: list of queries. Those that are in the database as well are removed from it.
        database: list of the database.
        num_classes: number of classes that the lists must have; any if None.
        num_query: see `draw_at_random`; with `images`.
        num_train: see `draw_at_random`; with `images`.
        num_val_query: see `draw_at_random`.
        drop_unlabeled: see `draw_at_random`.
        skip_corrupt: skip unreadable images (recorded in the run) instead of stopping.
        seed: of the draws.

    Raises:
        InputError: for a missing or malformed list, or an unreadable image.
    """
    folder = require_folder(root, "images that the lists name")
    given = {"train": train, "query": query, "database": database}
    _require_lists(images, given)
    paths = {"images": images} if images is not None else given
    read = {split: read_list(_find(folder, path), num_classes) for split, path in paths.items() if path is not None}
    lists = {split: LabelledNames(below(folder, each.names), each.labels, each.classes) for split, each in read.items()}
    if images is None:
        return given_roles(
            folder,
            lists,
            num_val_query=num_val_query,
            drop_unlabeled=drop_unlabeled,
            skip_corrupt=skip_corrupt,
            seed=seed,
        )
    return draw_at_random(
        load_images(folder, lists["images"], skip_corrupt),
        num_query=num_query,
        num_train=num_train,
        num_val_query=num_val_query,
        drop_unlabeled=drop_unlabeled,
        seed=seed,
    )


def given_roles(
    folder: Path,
    lists: Mapping[str, LabelledNames],
    *,
    num_val_query: int,
    drop_unlabeled: bool = True,
    skip_corrupt: bool = False,
    seed: int = 0,
) -> Splits:
    """Builds splits from lists for ``train``, ``query`` and ``database``; names are relative to `folder`."""
    labels: dict[str, Tensor] = {}
    for each in lists.values():
        for name, row in zip(each.names, each.labels, strict=True):
            if not torch.equal(labels.setdefault(name, row), row):
                raise InputError(f"{name} has different labels in another list.")
    classes = {tuple(each.classes): None for each in lists.values() if each.classes}
    if len(classes) > 1:
        raise InputError(f"the lists of {folder} must have the same columns of labels in the same order.")
    everything = LabelledNames(list(labels), torch.stack(list(labels.values())), next(iter(classes), ()))
    source = load_images(folder, everything, skip_corrupt)
    places = {name: position for position, name in enumerate(source.ids)}
    train, query, database = (
        torch.tensor([places[name] for name in lists[split].names if name in places], dtype=torch.long)
        for split in LISTED_SPLITS
    )
    return split_database(
        source,
        query=query,
        database=database[~torch.isin(database, query)],
        train=train,
        generator=np.random.default_rng(seed),
        num_val_query=num_val_query,
        drop_unlabeled=drop_unlabeled,
    )


def load_images(folder: Path, listed: LabelledNames, skip_corrupt: bool) -> FileImages:
    """Readable images of a list.

    Raises:
        InputError: for an image that is listed twice or lies outside the folder, and for a class without images.
    """
    check_names(folder, listed.names)
    if listed.labels.ndim == 2 and not bool(listed.labels.any(dim=0).all()):
        empty = int((~listed.labels.any(dim=0)).nonzero()[0])
        raise InputError(f"no image of {folder} has label {empty} of 0 to {listed.labels.shape[1] - 1}; leave it out.")
    return readable_images(folder, listed.names, listed.labels, skip_corrupt, listed.classes)


def _require_lists(images: str | None, roles: Mapping[str, str | None]) -> None:
    """Raises `InputError` unless either the list of all images or one list per split is given."""
    given = [path is not None for path in roles.values()]
    if any(given) if images is not None else not all(given):
        raise InputError("give either dataset.images, or dataset.train, dataset.query and dataset.database.")


def _find(folder: Path, path: str) -> Path:
    """Path of a list, given as a path or as a name relative to the data set's folder."""
    found = Path(path).expanduser()
    return found if found.is_file() else folder / path
