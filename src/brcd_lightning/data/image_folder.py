"""A folder of class folders as a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from brcd_lightning.data.image_files import image_files
from brcd_lightning.data.names import names_of_folders
from brcd_lightning.data.sources import FileImages, readable_images, require_folder
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.splitting import PerClass, draw_splits
from brcd_lightning.errors import InputError
from brcd_lightning.options import PositiveInt, Seed, Text, checked


@checked("dataset")
def image_folder(
    root: Text | None,
    train_per_class: PositiveInt = 500,
    val_query_per_class: PositiveInt = 100,
    query_per_class: PositiveInt | None = None,
    database_per_class: PositiveInt | None = None,
    skip_corrupt: bool = False,
    seed: Seed = 0,
    query_folder: str = "test",
    classes: Sequence[str] | None = None,
) -> Splits:
    """Builds splits from image files in class folders.

    With ``root/train/<class>/*`` and ``root/test/<class>/*``, queries come from ``test`` and all other splits from
    ``train``. With ``root/<class>/*``, queries are drawn from all images and removed from the database.

    Args:
        root: the folder.
        train_per_class: see `PerClass`.
        val_query_per_class: see `PerClass`.
        query_per_class: see `PerClass`; required in the second layout.
        database_per_class: see `PerClass`.
        skip_corrupt: skip unreadable images (recorded in the run) instead of stopping.
        seed: of the split.
        query_folder: name of the folder of queries.
        classes: class folders to use, in the order of their labels; all of them if None.

    Raises:
        InputError: for a missing folder, an empty class, or an unreadable image.
    """
    folder = require_folder(root, "class folders of images (<class>/*.jpg, or train/<class> and test/<class>)")
    apart = (folder / "train").is_dir() and (folder / query_folder).is_dir()
    if not apart and query_per_class is None:
        raise InputError(f"{folder} has no train/ and {query_folder}/ folders, so dataset.query_per_class must be set.")
    parts = (query_folder, "train") if apart else ("",)
    source = folder_images(folder, parts, classes=classes, skip_corrupt=skip_corrupt)
    everything = torch.arange(len(source))
    is_query = torch.tensor([not apart or name.startswith(f"{query_folder}/") for name in source.ids])
    return draw_splits(
        source,
        query_pool=everything[is_query],
        database_pool=everything[~is_query] if apart else everything,
        per_class=PerClass(train_per_class, val_query_per_class, query_per_class, database_per_class),
        seed=seed,
    )


def folder_images(
    folder: Path, parts: Sequence[str], *, classes: Sequence[str] | None = None, skip_corrupt: bool = False
) -> FileImages:
    """Readable images of ``folder/<part>/<class>/*``, part by part.

    Args:
        folder: the data set.
        parts: folders of class folders below it, ``""`` for the data set folder itself.
        classes: see `image_folder`.
        skip_corrupt: see `image_folder`.
    """
    if classes is None:
        classes, *others = (class_folders(folder / part) for part in parts)
        if any(other != classes for other in others):
            raise InputError(f"{' and '.join(str(folder / part) for part in parts)} must hold the same class folders.")
    if not classes:
        raise InputError(f"dataset.root {str(folder)!r} holds no class folders.")
    listed = [list_class_images(folder, part, classes) for part in parts]
    names = [name for part_names, _ in listed for name in part_names]
    labels = torch.cat([part_labels for _, part_labels in listed])
    return readable_images(folder, names, labels, skip_corrupt, names_of_folders(classes))


def class_folders(root: Path) -> list[str]:
    """Names of the sub-folders of `root`, sorted."""
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def list_class_images(root: Path, part: str, classes: Sequence[str]) -> tuple[list[str], Tensor]:
    """Lists images below ``root/part/<class>``.

    Args:
        root: data set folder.
        part: sub-folder that holds the class folders, ``""`` for `root` itself.
        classes: class folder names; the label is the index in this list.

    Returns:
        Names relative to `root`, sorted inside each class, and labels (n,) int64.
    """
    names: list[str] = []
    labels: list[int] = []
    listed = image_files(root, [f"{part}/{name}" if part else name for name in classes])
    for label, (name, found) in enumerate(zip(classes, listed, strict=True)):
        if not found:
            raise InputError(f"class folder {root / part / name} holds no images.")
        names += found
        labels += [label] * len(found)
    return names, torch.tensor(labels)
