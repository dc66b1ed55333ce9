"""MIRFlickr-25k with 24 labels: 2,000 queries, 5,000 training images, all images except queries as database."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Interval

from brcd_lightning.data.image_list import load_images
from brcd_lightning.data.label_lists import LabelCount, LabelledNames, check_labels, read_names, read_numbers
from brcd_lightning.data.sources import require_folder
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.splitting import draw_at_random
from brcd_lightning.errors import InputError
from brcd_lightning.options import PositiveInt, Seed, Text, checked

LABELS = 24
IMAGES = 25_000
_Images = Annotated[int, Interval(ge=1, le=1_000_000)]  # the size of MIRFlickr-1M


@checked("dataset")
def mirflickr25k(
    root: Text | None,
    num_query: PositiveInt = 2000,
    num_train: PositiveInt = 5000,
    num_val_query: PositiveInt = 1000,
    num_images: _Images = IMAGES,
    num_labels: LabelCount = LABELS,
    drop_unlabeled: bool = True,
    skip_corrupt: bool = False,
    seed: Seed = 0,
) -> Splits:
    """Builds MIRFlickr-25k from its annotations, or from prepared lists.

    The annotations are ``annotations/<label>.txt``, with the numbers of the images; the stricter ``<label>_r1.txt`` are
    ignored. Prepared lists are ``img.txt`` with ``targets.txt``. Images are ``im<number>.jpg`` in `root` or in
    ``mirflickr/``.

    Args:
        root: folder of the annotations or lists, and of the images.
        num_query: see `draw_at_random`.
        num_train: see `draw_at_random`.
        num_val_query: see `draw_at_random`.
        num_images: number of images.
        num_labels: number of labels that the files must have.
        drop_unlabeled: see `draw_at_random`; 419 of the images have no label.
        skip_corrupt: see `image_list`.
        seed: of the draws.

    Raises:
        InputError: for a missing or malformed file.
    """
    folder = require_folder(
        root, "annotations/ and im1.jpg to im25000.jpg of MIRFlickr-25k, or img.txt and targets.txt"
    )
    listed = _ready(folder, num_labels) if (folder / "targets.txt").is_file() else _own(folder, num_images, num_labels)
    prefix = "mirflickr/" if (folder / "mirflickr").is_dir() else ""
    listed = LabelledNames([prefix + name for name in listed.names], listed.labels, listed.classes)
    source = load_images(folder, listed, skip_corrupt)
    return draw_at_random(
        source,
        num_query=num_query,
        num_train=num_train,
        num_val_query=num_val_query,
        drop_unlabeled=drop_unlabeled,
        seed=seed,
    )


def _ready(folder: Path, num_labels: int) -> LabelledNames:
    targets = folder / "targets.txt"
    labels = check_labels(targets, read_numbers(targets), num_labels)
    if not (folder / "img.txt").is_file():
        raise InputError(f"{folder / 'img.txt'} is missing beside targets.txt.")
    names = read_names(folder / "img.txt")
    if len(names) != len(labels):
        raise InputError(f"{folder / 'img.txt'} names {len(names)} images, targets.txt labels {len(labels)}.")
    return LabelledNames(names, labels)


def _own(folder: Path, num_images: int, num_labels: int) -> LabelledNames:
    files = sorted(path for path in (folder / "annotations").glob("*.txt") if not re.search(r"_r1$|README", path.stem))
    if len(files) != num_labels:
        raise InputError(
            f"{folder / 'annotations'} must hold {num_labels} label files, got {len(files)}; or give img.txt and "
            "targets.txt."
        )
    labels = torch.zeros(num_images, num_labels, dtype=torch.long)
    for column, file in enumerate(files):
        numbers = torch.from_numpy(read_numbers(file).reshape(-1))
        if numbers.min() < 1 or numbers.max() > num_images:
            found = f"{int(numbers.min())} to {int(numbers.max())}"
            raise InputError(f"{file} must name images 1 to {num_images}, got {found}.")
        labels[numbers - 1, column] = 1
    names = [f"im{number}.jpg" for number in range(1, num_images + 1)]
    return LabelledNames(names, labels, [file.stem for file in files])
