"""Drawing of splits: class by class, at random from all images, or from given queries and database."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from brcd_lightning.data.sources import ImageSource
from brcd_lightning.data.splits import Splits
from brcd_lightning.errors import InputError
from brcd_lightning.options import PositiveInt, Seed, checked, require_option


@dataclass(frozen=True)
class PerClass:
    """Number of images that `draw_splits` draws from each class."""

    train: int
    """Training images; they stay in the database."""
    val_query: int
    """Validation queries."""
    query: int | None = None
    """Queries; the whole pool if None."""
    database: int | None = None
    """Database images; the whole pool if None."""

    def __post_init__(self) -> None:
        for name in ("train", "val_query"):
            require_option(f"dataset.{name}_per_class", getattr(self, name), PositiveInt)
        for name in ("query", "database"):
            require_option(f"dataset.{name}_per_class", getattr(self, name), PositiveInt | None)


@checked("dataset")
def draw_splits(
    source: ImageSource, *, query_pool: Tensor, database_pool: Tensor, per_class: PerClass, seed: Seed = 0
) -> Splits:
    """Draws the splits of a single-label data set class by class.

    Args:
        source: all images; labels are class indices.
        query_pool: (n,) positions that queries come from.
        database_pool: (n,) positions that database, training and validation images come from. It may be the
            query pool itself: the drawn queries are then excluded.
        per_class: number of images of each split.
        seed: of the draws, independent of the training seed.
    """
    generator = np.random.default_rng(seed)
    chosen: dict[str, list[np.ndarray]] = {split: [] for split in ("query", "database", "train", "val_query")}
    labels = source.labels.numpy()
    for label in np.unique(labels):
        queries = _take(query_pool.numpy(), labels, label, per_class.query, generator, "queries")
        rest = np.setdiff1d(database_pool.numpy(), queries)
        members = _take(rest, labels, label, per_class.database, generator, "database images")
        needed = per_class.train + per_class.val_query
        drawn = _take(members, labels, label, needed, generator, "training images and validation queries")
        chosen["query"].append(np.sort(queries))
        chosen["database"].append(np.sort(members))
        chosen["train"].append(np.sort(drawn[: per_class.train]))
        chosen["val_query"].append(np.sort(drawn[per_class.train :]))
    # Database order breaks ties between equal distances: one seeded permutation, so that no class comes first.
    database = generator.permutation(np.concatenate(chosen.pop("database")))
    query, train, val_query = (
        torch.from_numpy(np.concatenate(chosen[role])) for role in ("query", "train", "val_query")
    )
    return Splits(source, train=train, query=query, database=torch.from_numpy(database), val_query=val_query)


@checked("dataset")
def draw_at_random(
    source: ImageSource,
    *,
    num_query: PositiveInt,
    num_train: PositiveInt,
    num_val_query: PositiveInt,
    drop_unlabeled: bool = True,
    seed: Seed = 0,
) -> Splits:
    """Draws the splits uniformly from all images, for multi-label data; all images except queries form the database.

    Args:
        source: all images.
        num_query: number of test queries.
        num_train: number of training images; they stay in the database.
        num_val_query: number of validation queries.
        drop_unlabeled: excludes images without any label from the queries, since no image can be relevant to them.
        seed: of the draws.
    """
    if num_query + num_train + num_val_query > len(source):
        raise InputError(
            f"dataset.num_query, num_train and num_val_query need {num_query + num_train + num_val_query} images, "
            f"got {len(source)}; lower them."
        )
    generator = np.random.default_rng(seed)
    order = torch.from_numpy(generator.permutation(len(source)))
    query = (order[has_label(source.labels[order])] if drop_unlabeled else order)[:num_query]
    return split_database(
        source,
        query=query.sort().values,
        database=order[~torch.isin(order, query)],
        train=num_train,
        generator=generator,
        num_val_query=num_val_query,
        drop_unlabeled=drop_unlabeled,
    )


@checked("dataset")
def split_database(
    source: ImageSource,
    *,
    query: Tensor,
    database: Tensor,
    train: Tensor | int,
    generator: np.random.Generator,
    num_val_query: PositiveInt,
    drop_unlabeled: bool = True,
) -> Splits:
    """Adds to given queries and database the validation queries, and the training images unless they are given.

    Args:
        source: all images.
        query: (n,) positions of the queries.
        database: (n,) positions of the database, which is shuffled.
        train: (n,) positions of the training images, or the number to draw from the database.
        generator: of the draws.
        num_val_query: number of validation queries, drawn from the database outside the training images.
        drop_unlabeled: see `draw_at_random`.
    """
    database = torch.from_numpy(generator.permutation(database.numpy()))
    if isinstance(train, int):
        if train > len(database):
            raise InputError(
                f"dataset.num_train must be at most the {len(database)} images of the database, got {train}."
            )
        train = torch.from_numpy(generator.choice(database.numpy(), train, replace=False)).sort().values
    rest = database[~torch.isin(database, train)]
    rest = rest[has_label(source.labels[rest])] if drop_unlabeled else rest
    if len(rest) < num_val_query:
        raise InputError(
            f"the database has {len(rest)} images outside the training images for {num_val_query} validation queries; "
            "lower dataset.num_val_query or the number of training images."
        )
    val_query = torch.from_numpy(generator.permutation(rest.numpy()))[:num_val_query].sort().values
    return Splits(source, train, query, database, val_query)


def has_label(labels: Tensor) -> Tensor:
    """True for images with a label, (n,) bool: all images with class indices, and multi-hot rows that are not zero."""
    return torch.ones(len(labels), dtype=torch.bool) if labels.ndim == 1 else labels.any(dim=1)


def _take(
    pool: np.ndarray, labels: np.ndarray, label: int, count: int | None, generator: np.random.Generator, what: str
) -> np.ndarray:
    """Draws `count` members of a class from a pool (all members for None)."""
    members = pool[labels[pool] == label]
    if count is None:
        return members
    if len(members) < count:
        raise InputError(
            f"class {label} has {len(members)} images left for {count} {what}; "
            "lower dataset.train_per_class, dataset.val_query_per_class or the other counts per class."
        )
    return generator.permutation(members)[:count]
