"""Which images play which role: training, queries, database, and queries for validation."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from brcd_lightning.errors import InputError, require_non_negative_int, require_positive_int

ROLES = ("train", "query", "database", "val_query", "val_database")


class ImageSource(ABC):
    """All images of a data set, addressed by position.

    Args:
        ids: one stable name per image, independent of where the data lies.
        labels: (N,) int64 class indices or (N, C) multi-hot; used for relevance in evaluation, and by
            distillation methods that say so.
    """

    def __init__(self, ids: Sequence[str], labels: Tensor) -> None:
        if len(ids) != len(labels):
            raise InputError(f"a data set needs one label per image, got {len(ids)} images and {len(labels)} labels.")
        self.ids = list(ids)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def load(self, position: int) -> Tensor:
        """Pixels of one image: (3, H, W) uint8, RGB."""

    @abstractmethod
    def digest(self, position: int) -> bytes:
        """SHA-256 of one image's content."""


class ArrayImages(ImageSource):
    """Images in memory.

    Args:
        pixels: (N, 3, H, W) uint8.
        ids: see `ImageSource`.
        labels: see `ImageSource`.
    """

    def __init__(self, pixels: Tensor, ids: Sequence[str], labels: Tensor) -> None:
        super().__init__(ids, labels)
        self.pixels = pixels

    def load(self, position: int) -> Tensor:
        """Pixels of one image."""
        return self.pixels[position]

    def digest(self, position: int) -> bytes:
        """SHA-256 of the pixels."""
        return hashlib.sha256(self.pixels[position].numpy().tobytes()).digest()


@dataclass(frozen=True)
class Splits:
    """Positions of a source in each role, (n,) int64 each.

    ``index`` elsewhere is the place of an image inside `train`. The validation queries are database images
    outside `train`; they search `val_database`, the database without them, so no test query ever chooses a model.
    """

    source: ImageSource
    train: Tensor
    query: Tensor
    database: Tensor
    val_query: Tensor
    skipped: dict[str, str] = field(default_factory=dict)
    """Images left out as unreadable: id to reason."""

    def __post_init__(self) -> None:
        for role in ROLES:
            if len(self.positions(role)) == 0:
                raise InputError(f"the {role} split is empty; give the data set more images or lower its counts.")
        for one, other in (("query", "database"), ("train", "query"), ("val_query", "query"), ("val_query", "train")):
            shared = np.intersect1d(self.positions(one), self.positions(other)).size
            if shared:
                raise InputError(f"{shared} images are in both {one} and {other}.")

    @cached_property
    def val_database(self) -> Tensor:
        """The database without the validation queries."""
        return self.database[~torch.isin(self.database, self.val_query)]

    @cached_property
    def used(self) -> Tensor:
        """Positions (E,) of all images in any role, ascending: the order of evaluation features."""
        return torch.cat([self.positions(role) for role in ROLES]).unique()

    def positions(self, role: str) -> Tensor:
        """Positions (n,) of one of `ROLES`."""
        return getattr(self, role)

    def labels(self, role: str) -> Tensor:
        """Labels (n,) or (n, C) of one of `ROLES`."""
        return self.source.labels[self.positions(role)]

    def sizes(self) -> dict[str, int]:
        """Number of images in each role."""
        return {role: len(self.positions(role)) for role in ROLES}

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 over names, content and labels of every role, in order: equal for equal splits anywhere."""
        content = hashlib.sha256()
        for role in ROLES:
            positions = self.positions(role)
            content.update(role.encode())
            for position in positions.tolist():
                content.update(self.source.ids[position].encode() + b"\n" + self.source.digest(position))
            content.update(self.source.labels[positions].numpy().astype("<i8").tobytes())
        return content.hexdigest()


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
