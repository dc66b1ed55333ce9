"""Drawing of splits: class by class, at random from all images, or completing given queries and database."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from brcd_lightning.data.sources import ImageSource
from brcd_lightning.data.splits import Splits
from brcd_lightning.errors import InputError, require_non_negative_int, require_positive_int


def draw_splits(
    source: ImageSource,
    *,
    query_pool: Tensor,
    database_pool: Tensor,
    train_per_class: int,
    val_query_per_class: int,
    query_per_class: int | None = None,
    database_per_class: int | None = None,
    seed: int = 0,
    skipped: dict[str, str] | None = None,
) -> Splits:
    """Draws the roles of a single-label data set class by class.

    Args:
        source: all images; labels are class indices.
        query_pool: (n,) positions that queries come from.
        database_pool: (n,) positions that database, training and validation images come from. It may be the
            query pool itself: the queries drawn are then left out.
        train_per_class: training images per class; they stay in the database.
        val_query_per_class: validation queries per class.
        query_per_class: queries per class, the whole pool when None.
        database_per_class: database images per class, the whole pool when None.
        seed: of the draws, independent of the training seed.
        skipped: see `Splits`.
    """
    require_positive_int("dataset.train_per_class", train_per_class)
    require_positive_int("dataset.val_query_per_class", val_query_per_class)
    for name, count in (("query_per_class", query_per_class), ("database_per_class", database_per_class)):
        if count is not None:
            require_positive_int(f"dataset.{name}", count)
    require_non_negative_int("dataset.seed", seed)
    generator = np.random.default_rng(seed)
    chosen: dict[str, list[np.ndarray]] = {role: [] for role in ("query", "database", "train", "val_query")}
    labels = source.labels.numpy()
    for label in np.unique(labels):
        queries = _take(query_pool.numpy(), labels, label, query_per_class, generator, "queries")
        rest = np.setdiff1d(database_pool.numpy(), queries)
        members = _take(rest, labels, label, database_per_class, generator, "database images")
        needed = train_per_class + val_query_per_class
        drawn = _take(members, labels, label, needed, generator, "training images and validation queries")
        chosen["query"].append(np.sort(queries))
        chosen["database"].append(np.sort(members))
        chosen["train"].append(np.sort(drawn[:train_per_class]))
        chosen["val_query"].append(np.sort(drawn[train_per_class:]))
    # Database order decides ties between equal distances: one seeded permutation, so that no class goes first.
    database = generator.permutation(np.concatenate(chosen.pop("database")))
    roles = {role: torch.from_numpy(np.concatenate(parts)) for role, parts in chosen.items()}
    return Splits(source, database=torch.from_numpy(database), skipped=skipped or {}, **roles)


def draw_at_random(
    source: ImageSource,
    *,
    num_query: int,
    num_train: int,
    num_val_query: int,
    drop_unlabeled: bool = True,
    seed: int = 0,
    skipped: dict[str, str] | None = None,
) -> Splits:
    """Draws the roles from all images alike, for images of several labels: everything but the queries is database.

    Args:
        source: all images.
        num_query: test queries.
        num_train: training images; they stay in the database.
        num_val_query: validation queries.
        drop_unlabeled: leaves images without any label out of the queries, for which nothing can be relevant.
        seed: of the draws.
        skipped: see `Splits`.
    """
    for name, count in (("num_query", num_query), ("num_train", num_train), ("num_val_query", num_val_query)):
        require_positive_int(f"dataset.{name}", count)
    require_non_negative_int("dataset.seed", seed)
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
        num_train=num_train,
        num_val_query=num_val_query,
        drop_unlabeled=drop_unlabeled,
        generator=generator,
        skipped=skipped,
    )


def split_database(
    source: ImageSource,
    *,
    query: Tensor,
    database: Tensor,
    generator: np.random.Generator,
    num_val_query: int,
    num_train: int | None = None,
    train: Tensor | None = None,
    drop_unlabeled: bool = True,
    skipped: dict[str, str] | None = None,
) -> Splits:
    """Completes given queries and database: training images, unless they are given, and validation queries.

    Args:
        source: all images.
        query: (n,) positions of the queries.
        database: (n,) positions of the database, which is put in a random order.
        generator: of the draws.
        num_val_query: validation queries, from the database outside the training images.
        num_train: training images to draw from the database.
        train: (n,) positions of the training images.
        drop_unlabeled: see `draw_at_random`.
        skipped: see `Splits`.
    """
    database = torch.from_numpy(generator.permutation(database.numpy()))
    if train is None:
        train = torch.from_numpy(generator.choice(database.numpy(), num_train, replace=False)).sort().values
    rest = database[~torch.isin(database, train)]
    rest = rest[has_label(source.labels[rest])] if drop_unlabeled else rest
    if len(rest) < num_val_query:
        raise InputError(
            f"the database has {len(rest)} images outside the training images for {num_val_query} validation queries; "
            "lower dataset.num_val_query or the number of training images."
        )
    val_query = torch.from_numpy(generator.permutation(rest.numpy()))[:num_val_query].sort().values
    return Splits(source, train, query, database, val_query, skipped or {})


def has_label(labels: Tensor) -> Tensor:
    """Whether images have a label, (n,): always for class indices, for multi-hot rows if any is set."""
    return torch.ones(len(labels), dtype=torch.bool) if labels.ndim == 1 else labels.any(dim=1)


def _take(
    pool: np.ndarray, labels: np.ndarray, label: int, count: int | None, generator: np.random.Generator, what: str
) -> np.ndarray:
    """`count` random members of a class from a pool (all of them for None)."""
    members = pool[labels[pool] == label]
    if count is None:
        return members
    if len(members) < count:
        raise InputError(
            f"class {label} has {len(members)} images left for {count} {what}; "
            "lower dataset.train_per_class, dataset.val_query_per_class or the other counts per class."
        )
    return generator.permutation(members)[:count]
