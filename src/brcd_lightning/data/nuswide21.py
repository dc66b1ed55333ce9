"""NUS-WIDE with its 21 most frequent concepts: 100 queries and 500 training images per concept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from brcd_lightning.data.image_list import given_roles, load_images
from brcd_lightning.data.label_lists import LabelCount, LabelledNames, below, check_labels, read_names, read_numbers
from brcd_lightning.data.sources import require_folder
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.splitting import split_database
from brcd_lightning.errors import InputError
from brcd_lightning.options import PositiveInt, Seed, Text, checked

CONCEPTS = 21
IMAGE_LIST = "ImageList/Imagelist.txt"
LABEL_FOLDER = "Groundtruth/AllLabels"
LISTS = {
    "query": ("test_img.txt", "test_label_onehot.txt"),
    "database": ("database_img.txt", "database_label_onehot.txt"),
}


@checked("dataset")
def nuswide21(
    root: Text | None,
    num_concepts: LabelCount = CONCEPTS,
    query_per_concept: PositiveInt = 100,
    train_per_concept: PositiveInt = 500,
    num_val_query: PositiveInt = 1000,
    skip_corrupt: bool = False,
    seed: Seed = 0,
) -> Splits:
    """Builds NUS-WIDE from its own label files, or from prepared lists of queries and database.

    The label files are ``ImageList/Imagelist.txt`` and ``Groundtruth/AllLabels/Labels_<concept>.txt``. Only the most
    frequent concepts are kept, and images without any of them are dropped. Queries and training images are drawn
    concept by concept from the images not drawn before. Prepared lists are ``test_img.txt`` and ``database_img.txt``,
    with their labels in ``test_label_onehot.txt`` and ``database_label_onehot.txt``. Training images are drawn in the
    same way.

    Args:
        root: folder of the label files or lists, and of the images.
        num_concepts: number of most frequent concepts to keep.
        query_per_concept: queries drawn for each concept.
        train_per_concept: training images drawn for each concept; they stay in the database.
        num_val_query: see `split_database`.
        skip_corrupt: see `image_list`.
        seed: of the draws.

    Raises:
        InputError: for a missing or malformed file, or a concept with too few images.
    """
    folder = require_folder(root, f"{IMAGE_LIST} and {LABEL_FOLDER}/ of NUS-WIDE, or database_img.txt with its labels")
    generator = np.random.default_rng(seed)
    if (folder / LISTS["database"][0]).is_file():
        lists = {role: _ready_list(folder, *files, num_concepts) for role, files in LISTS.items()}
        train = _draw(lists["database"].labels, train_per_concept, generator, torch.tensor([]), "training images")
        lists["train"] = LabelledNames(
            [lists["database"].names[place] for place in train.tolist()], lists["database"].labels[train]
        )
        return given_roles(folder, lists, num_val_query=num_val_query, skip_corrupt=skip_corrupt, seed=seed)
    source = load_images(folder, _own_files(folder, num_concepts), skip_corrupt)
    query = _draw(source.labels, query_per_concept, generator, torch.tensor([]), "queries")
    train = _draw(source.labels, train_per_concept, generator, query, "training images")
    everything = torch.arange(len(source))
    return split_database(
        source,
        query=query,
        train=train,
        database=everything[~torch.isin(everything, query)],
        generator=generator,
        num_val_query=num_val_query,
    )


def _ready_list(folder: Path, images: str, labels: str, num_concepts: int) -> LabelledNames:
    names = read_names(folder / images)
    table = read_numbers(folder / labels)
    if len(table) != len(names):
        raise InputError(f"{folder / images} names {len(names)} images, {folder / labels} labels {len(table)}.")
    return LabelledNames(below(folder, names), check_labels(folder / labels, table, num_concepts))


def _own_files(folder: Path, num_concepts: int) -> LabelledNames:
    names = read_names(folder / IMAGE_LIST)
    files = sorted((folder / LABEL_FOLDER).glob("Labels_*.txt"))
    if len(files) < num_concepts:
        raise InputError(
            f"{folder / LABEL_FOLDER} must hold Labels_*.txt of {num_concepts} concepts, got {len(files)}."
        )
    columns = [read_numbers(file) for file in files]
    for file, column in zip(files, columns, strict=True):
        if column.shape != (len(names), 1):
            raise InputError(f"{file} must have one number for each of {len(names)} images, got {column.shape}.")
    table = np.concatenate(columns, axis=1)
    frequent = np.sort(np.argsort(-table.sum(axis=0), kind="stable")[:num_concepts])
    labels = check_labels(folder / LABEL_FOLDER, table[:, frequent], num_concepts)
    labelled = labels.any(dim=1)
    kept = [name for name, keep in zip(names, labelled.tolist(), strict=True) if keep]
    classes = [files[place].stem.removeprefix("Labels_") for place in frequent]
    return LabelledNames(below(folder, kept), labels[labelled], classes)


def _draw(labels: Tensor, count: int, generator: np.random.Generator, taken: Tensor, what: str) -> Tensor:
    """Draws `count` images of each concept from those not taken, each image for one concept only; ascending."""
    order = torch.from_numpy(generator.permutation(len(labels)))
    free = ~torch.isin(torch.arange(len(labels)), taken)
    drawn = []
    for concept in labels.sum(dim=0).argsort().tolist():  # rare ones first, before others use them up
        members = order[(labels[order, concept] > 0) & free[order]][:count]
        if len(members) < count:
            raise InputError(f"concept {concept} has {len(members)} images left for {count} {what}.")
        free[members] = False
        drawn.append(members)
    return torch.cat(drawn).sort().values
