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

    @property
    def val_database(self) -> Tensor:
        """The database without the validation queries."""
        return self.database[~torch.isin(self.database, self.val_query)]

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
