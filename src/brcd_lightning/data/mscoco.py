"""MSCOCO with the paper's protocol (section 5.1): 5,000 queries, 10,000 training images, a database of 117,218."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch

from brcd_lightning.data.image_list import given_roles, load_images
from brcd_lightning.data.label_lists import LabelCount, LabelledNames, read_list
from brcd_lightning.data.sources import require_folder
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.splitting import draw_at_random
from brcd_lightning.errors import InputError
from brcd_lightning.options import PositiveInt, Seed, Text, checked

Protocol = Literal["paper", "hashnet"]
YEARS = ("2014", "2017")
PARTS = ("train", "val")
CATEGORIES = 80
HASHNET_LISTS = {"train": "train.txt", "query": "test.txt", "database": "database.txt"}


@checked("dataset")
def mscoco(
    root: Text | None,
    protocol: Protocol = "paper",
    num_query: PositiveInt = 5000,
    num_train: PositiveInt = 10_000,
    num_val_query: PositiveInt = 1000,
    num_categories: LabelCount = CATEGORIES,
    skip_corrupt: bool = False,
    seed: Seed = 0,
) -> Splits:
    """Builds MSCOCO from ``annotations/instances_{train,val}{2014,2017}.json`` and the images beside them.

    The data set consists of the images with at least one instance, in ascending order of their numbers. It is the same
    for both years, whose file names differ. Labels are the categories in alphabetical order.

    Args:
        root: folder of ``annotations/``, and of ``train2014/`` and ``val2014/``, or ``train2017/`` and ``val2017/``.
        protocol: ``paper`` draws queries and training images; ``hashnet`` reads them from HashNet's lists in `root`
            (train.txt, test.txt, database.txt), whose database contains all queries: they are removed from it.
        num_query: see `draw_at_random`; for ``paper``.
        num_train: see `draw_at_random`; for ``paper``.
        num_val_query: see `draw_at_random`.
        num_categories: number of categories that the annotations must have.
        skip_corrupt: see `image_list`.
        seed: of the draws.

    Raises:
        InputError: for a missing or malformed file.
    """
    folder = require_folder(root, "annotations/, train2014/ and val2014/ of MSCOCO (or those of 2017)")
    annotated = read_annotations(folder, num_categories)
    if protocol == "paper":
        source = load_images(folder, annotated, skip_corrupt)
        return draw_at_random(source, num_query=num_query, num_train=num_train, num_val_query=num_val_query, seed=seed)
    names = {name.rpartition("/")[2]: name for name in annotated.names}
    rows = dict(zip(annotated.names, annotated.labels, strict=True))
    lists = {}
    for role, file in HASHNET_LISTS.items():
        wanted = [name.rpartition("/")[2] for name in read_list(folder / file, num_categories).names]
        if not names.keys() >= set(wanted):
            raise InputError(f"{folder / file} names images that the annotations do not have.")
        listed = [names[name] for name in wanted]
        lists[role] = LabelledNames(listed, torch.stack([rows[name] for name in listed]), annotated.classes)
    return given_roles(folder, lists, num_val_query=num_val_query, skip_corrupt=skip_corrupt, seed=seed)


def read_annotations(folder: Path, num_categories: int = CATEGORIES) -> LabelledNames:
    """Names and multi-hot labels of all images with an instance, in ascending order of their numbers."""
    year = next((year for year in YEARS if _file(folder, "train", year).is_file()), None)
    if year is None:
        raise InputError(
            f"MSCOCO's annotations are not in {folder}: put instances_train2014.json and instances_val2014.json (or "
            f"those of 2017) into {folder / 'annotations'}."
        )
    images: dict[int, tuple[str, set[int]]] = {}
    names_of: dict[int, str] = {}
    seen: set[int] = set()
    for part in PARTS:
        path = _file(folder, part, year)
        kinds, listed, instances = _read(path)
        names_of |= kinds
        files = {number: f"{part}{year}/{name}" for number, name in listed}
        twice = len(files) < len(listed) or files.keys() & seen
        if twice:
            raise InputError(f"{path} lists an image number twice, or one that another annotation file lists as well.")
        seen |= files.keys()
        for number, category in instances:
            if number not in files:
                raise InputError(f"{path} annotates image {number}, which it does not list.")
            if category not in names_of:
                raise InputError(f"{path} annotates image {number} with category {category}, which it does not list.")
            images.setdefault(number, (files[number], set()))[1].add(category)
    if not len(names_of) == len(set(names_of.values())) == num_categories:
        found = f"{len(names_of)} of {len(set(names_of.values()))} names"
        raise InputError(f"MSCOCO's annotations must have {num_categories} categories, got {found}.")
    columns = {category: column for column, category in enumerate(sorted(names_of, key=names_of.__getitem__))}
    labels = torch.zeros(len(images), len(columns), dtype=torch.long)
    names = []
    for row, number in enumerate(sorted(images)):
        name, categories = images[number]
        names.append(name)
        labels[row, [columns[category] for category in categories]] = 1
    return LabelledNames(names, labels, [names_of[category] for category in columns])


def _file(folder: Path, part: str, year: str) -> Path:
    return folder / "annotations" / f"instances_{part}{year}.json"


def _read(path: Path) -> tuple[dict[int, str], list[tuple[int, str]], list[tuple[int, int]]]:
    """Names of categories, (number, file) of images, and (image, category) of instances in an annotation file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"annotation file {path} is missing.") from error
    except ValueError as error:
        raise InputError(f"annotation file {path} is damaged: {error}.") from error
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= content.keys():
        raise InputError(f"annotation file {path} must have images, annotations and categories.")
    try:
        return (
            {category["id"]: category["name"] for category in content["categories"]},
            [(image["id"], image["file_name"]) for image in content["images"]],
            [(instance["image_id"], instance["category_id"]) for instance in content["annotations"]],
        )
    except KeyError as error:
        raise InputError(f"annotation file {path} is damaged: an entry has no {error}.") from error
    except TypeError as error:
        raise InputError(f"annotation file {path} is damaged: {error}.") from error
