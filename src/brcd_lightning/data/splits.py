"""Splits of a data set: training images, queries and database, and queries and database for validation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from brcd_lightning.data.sources import ImageSource
from brcd_lightning.errors import InputError

SPLITS = ("train", "query", "database", "val_query", "val_database")
BY_LABELS = "labels"
"""Relevance in a data set with labels: images that share a label with the query."""


@dataclass(frozen=True)
class Splits:
    """Positions of the images of each split in a source, (n,) int64 each.

    Elsewhere, ``index`` is the position of an image within `train`. The validation queries are database images
    outside `train`. They search `val_database`, the database without them, so test queries never affect model
    selection.

    Without labels, the nearest images of a query are relevant, see `training.neighbour_relevance`. The labels of the
    source are then the numbers of its images, as if each image were a class of its own.

    Args:
        source: all images.
        train: positions of the training images.
        query: of the test queries.
        database: of the database.
        val_query: of the validation queries.
        neighbours: number of nearest images that are relevant to a query; None if labels define relevance.
    """

    source: ImageSource
    train: Tensor
    query: Tensor
    database: Tensor
    val_query: Tensor
    neighbours: int | None = None

    def __post_init__(self) -> None:
        for role in SPLITS:
            if len(self.positions(role)) == 0:
                raise InputError(f"the {role} split is empty; give the data set more images or lower its counts.")
        for one, other in (("query", "database"), ("train", "query"), ("val_query", "query"), ("val_query", "train")):
            shared = np.intersect1d(self.positions(one), self.positions(other)).size
            if shared:
                raise InputError(f"{shared} images are in both {one} and {other}.")

    def trained_on_database(self) -> Splits:
        """The same splits, trained without labels on the whole database except the validation queries."""
        return replace(self, train=self.val_database)

    @cached_property
    def val_database(self) -> Tensor:
        """The database without the validation queries."""
        return self.database[~torch.isin(self.database, self.val_query)]

    @cached_property
    def used(self) -> Tensor:
        """Positions (E,) of all images in any split, ascending; this is the order of evaluation features."""
        return torch.cat([self.positions(role) for role in SPLITS]).unique()

    @property
    def has_labels(self) -> bool:
        """True if labels define relevance."""
        return self.neighbours is None

    @property
    def relevance(self) -> str:
        """Description of the images that are relevant to a query."""
        if self.has_labels:
            return BY_LABELS
        return f"the {self.neighbours} nearest images by cosine of the teacher backbone's features"

    @property
    def skipped(self) -> Mapping[str, str]:
        """Reasons of images skipped as unreadable, by name."""
        return self.source.skipped

    def positions(self, role: str) -> Tensor:
        """Positions (n,) of one of `SPLITS`."""
        return getattr(self, role)

    def labels(self, role: str) -> Tensor:
        """Labels (n,) or (n, C) of one of `SPLITS`."""
        return self.source.labels[self.positions(role)]

    def sizes(self) -> dict[str, int]:
        """Number of images in each split."""
        return {role: len(self.positions(role)) for role in SPLITS}

    @cached_property
    def repeated_queries(self) -> list[str]:
        """Names of queries whose content equals that of a database image, which makes finding it trivial."""
        database = {self._digests[position] for position in self.database.tolist()}
        return [self.source.ids[place] for place in self.query.tolist() if self._digests[place] in database]

    @property
    def repetition(self) -> str:
        """A sentence on `repeated_queries` and their effect on the results; empty if there are none."""
        if not self.repeated_queries:
            return ""
        return (
            f"{len(self.repeated_queries)} queries have the content of a database image, such as "
            f"{self.repeated_queries[0]}; results are better than those of new images"
        )

    @cached_property
    def _digests(self) -> dict[int, bytes]:
        """Digests of the images of all splits, by position."""
        return {position: self.source.digest(position) for position in self.used.tolist()}

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 over names, content and labels of every split, in order; equal splits have equal fingerprints.

        Without labels it covers names and content only: the number of neighbours affects evaluation, not the images.
        """
        content = hashlib.sha256()
        for role in SPLITS:
            positions = self.positions(role)
            content.update(role.encode())
            for position in positions.tolist():
                content.update(self.source.ids[position].encode() + b"\n" + self._digests[position])
            if self.has_labels:
                content.update(self.source.labels[positions].numpy().astype("<i8").tobytes())
        return content.hexdigest()
