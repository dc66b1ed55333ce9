"""Images without labels: a folder of images, or a list of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from brcd_lightning.data.image_files import image_files
from brcd_lightning.data.label_lists import check_names, read_names
from brcd_lightning.data.sources import readable_images, require_folder
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.splitting import draw_at_random
from brcd_lightning.errors import InputError
from brcd_lightning.options import PositiveInt, Seed, Text, checked

FEWEST = 30
"""Fewest images of a data set without labels; with fewer, queries and their neighbours are not meaningful."""
_SHARE = 10  # one in 10 images is a query, and at most one in 10 database images is relevant to it
_MOST_QUERIES, _MOST_TRAIN = 1000, 20_000


@checked("dataset")
def images(
    root: Text | None,
    list: Text | None = None,
    column: Text = "path",
    num_query: PositiveInt | None = None,
    num_val_query: PositiveInt | None = None,
    num_train: PositiveInt | None = None,
    relevance_k: PositiveInt = 50,
    skip_corrupt: bool = False,
    seed: Seed = 0,
) -> Splits:
    """Builds splits of images at any depth below a folder; all images except the queries form the database.

    Args:
        root: the folder.
        list: list of the images to use, with paths below `root`: a text file with one path per line, or a table
            (``.csv``, ``.parquet``). None for all images.
        column: column of the paths, if `list` is a table.
        num_query: number of test queries; None for a tenth of the images, at most 1,000.
        num_val_query: number of validation queries; None for the same default.
        num_train: number of training images; None for all database images except the validation queries, at most
            20,000.
        relevance_k: number of nearest images that are relevant to a query, at most a tenth of the database.
        skip_corrupt: skip unreadable images (recorded in the run) instead of stopping.
        seed: of the draws.

    Raises:
        InputError: for a missing folder or list, too few images, or an unreadable image.
    """
    folder = require_folder(root, "your images")
    names = image_files(folder)[0] if list is None else _listed(folder, list, column)
    # The labels identify the images: each image is a class of its own.
    source = readable_images(folder, names, torch.arange(len(names)), skip_corrupt)
    if len(source) < FEWEST:
        raise InputError(
            f"dataset=images needs at least {FEWEST} images, of which some are queries; got {len(source)} in {folder}."
        )
    tenth = min(_MOST_QUERIES, len(source) // _SHARE)
    query = tenth if num_query is None else num_query
    val_query = tenth if num_val_query is None else num_val_query
    splits = draw_at_random(
        source,
        num_query=query,
        num_train=min(_MOST_TRAIN, max(1, len(source) - query - val_query)) if num_train is None else num_train,
        num_val_query=val_query,
        drop_unlabeled=False,
        seed=seed,
    )
    return replace(splits, neighbours=max(1, min(relevance_k, len(splits.database) // _SHARE)))


def _listed(folder: Path, path: str, column: str) -> list[str]:
    """Names of a list, relative to the folder, which may also contain the list itself."""
    given = Path(path).expanduser()
    file = given if given.is_file() else folder / path
    base = f"{folder.resolve().as_posix()}/"
    names = [name.removeprefix(base) for name in read_names(file, column)]
    outside = next((name for name in names if name.startswith("/")), None)
    if outside is not None:
        raise InputError(f"list {file} names {outside}, which is not below dataset.root {str(folder)!r}.")
    check_names(file, names)
    return names
