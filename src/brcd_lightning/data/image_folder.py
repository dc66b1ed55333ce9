"""A folder of class folders as a data set."""

from __future__ import annotations

import torch

from brcd_lightning.data.files import FileImages, class_folders, list_class_images, require_folder, scan_files
from brcd_lightning.data.splits import Splits, draw_splits
from brcd_lightning.errors import InputError


def image_folder(
    root: str | None,
    train_per_class: int = 500,
    val_query_per_class: int = 100,
    query_per_class: int | None = None,
    database_per_class: int | None = None,
    skip_corrupt: bool = False,
    seed: int = 0,
) -> Splits:
    """Builds splits from image files in class folders.

    With ``root/train/<class>/*`` and ``root/test/<class>/*``, queries come from ``test`` and everything else from
    ``train``. With ``root/<class>/*``, queries are drawn from all images and leave the database.

    Args:
        root: the folder.
        train_per_class: see `draw_splits`.
        val_query_per_class: see `draw_splits`.
        query_per_class: see `draw_splits`; required in the second layout.
        database_per_class: see `draw_splits`.
        skip_corrupt: leave out unreadable images (recorded in the run) instead of stopping.
        seed: of the split.

    Raises:
        InputError: for a missing folder, an empty class, or an unreadable image.
    """
    folder = require_folder(root, "class folders of images (<class>/*.jpg, or train/<class> and test/<class>)")
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        classes = class_folders(folder / "train")
        if classes != class_folders(folder / "test"):
            raise InputError(f"{folder / 'train'} and {folder / 'test'} must hold the same class folders.")
        parts = ("test", "train")
    else:
        classes = class_folders(folder)
        if query_per_class is None:
            raise InputError(f"{folder} has no train/ and test/ folders, so dataset.query_per_class must be set.")
        parts = ("",)
    if not classes:
        raise InputError(f"dataset.root {str(folder)!r} holds no class folders.")

    listed = [list_class_images(folder, part, classes) for part in parts]
    names = [name for part_names, _ in listed for name in part_names]
    digests, skipped = scan_files(folder, names, skip_corrupt)
    usable = list(digests)
    labels = torch.cat([part_labels for _, part_labels in listed])
    keep = torch.tensor([name not in skipped for name in names])
    source = FileImages(folder, usable, labels[keep], list(digests.values()))
    everything = torch.arange(len(usable))
    is_query = torch.tensor([_first_folder(name) == parts[0] or len(parts) == 1 for name in usable])
    return draw_splits(
        source,
        query_pool=everything[is_query],
        database_pool=everything if len(parts) == 1 else everything[~is_query],
        train_per_class=train_per_class,
        val_query_per_class=val_query_per_class,
        query_per_class=query_per_class,
        database_per_class=database_per_class,
        seed=seed,
        skipped=skipped,
    )


def _first_folder(name: str) -> str:
    return name.partition("/")[0]
