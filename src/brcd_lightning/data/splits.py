"""Splits of a data set: training images, queries, database, and queries and database for validation."""

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
"""Word for what is relevant to a query of a data set with labels: images that share one."""


@dataclass(frozen=True)
class Splits:
    """Positions of a source in each role, (n,) int64 each.

    ``index`` elsewhere is the place of an image inside `train`. The validation queries are database images
    outside `train`; they search `val_database`, the database without them, so no test query ever chooses a model.

    Without labels, the nearest images of a query are relevant, see `training.neighbour_relevance`. The labels of the
    source are then names of its images, as numbers: of one class each.

    Args:
        source: all images.
        train: positions of the training images.
        query: of the test queries.
        database: of the database.
        val_query: of the validation queries.
        neighbours: how many nearest images of a query are relevant; None where labels say so.
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
        """The same roles with the whole database for training, but for the validation queries: without labels."""
        return replace(self, train=self.val_database)

    @cached_property
    def val_database(self) -> Tensor:
        """The database without the validation queries."""
        return self.database[~torch.isin(self.database, self.val_query)]

    @cached_property
    def used(self) -> Tensor:
        """Positions (E,) of all images in any role, ascending: the order of evaluation features."""
        return torch.cat([self.positions(role) for role in SPLITS]).unique()

    @property
    def has_labels(self) -> bool:
        """True if labels say what is relevant to a query."""
        return self.neighbours is None

    @property
    def relevance(self) -> str:
        """Words for what is relevant to a query."""
        if self.has_labels:
            return BY_LABELS
        return f"the {self.neighbours} nearest images by cosine of the teacher backbone's features"

    @property
    def skipped(self) -> Mapping[str, str]:
        """Images left out as unreadable: name to reason."""
        return self.source.skipped

    def positions(self, role: str) -> Tensor:
        """Positions (n,) of one of `SPLITS`."""
        return getattr(self, role)

    def labels(self, role: str) -> Tensor:
        """Labels (n,) or (n, C) of one of `SPLITS`."""
        return self.source.labels[self.positions(role)]

    def sizes(self) -> dict[str, int]:
        """Number of images in each role."""
        return {role: len(self.positions(role)) for role in SPLITS}

    @cached_property
    def repeated_queries(self) -> list[str]:
        """Names of queries whose content is that of a database image too: searching for them is no search."""
        database = {self._digests[position] for position in self.database.tolist()}
        return [self.source.ids[place] for place in self.query.tolist() if self._digests[place] in database]

    @property
    def repetition(self) -> str:
        """A sentence on `repeated_queries` and what they do to the results; empty without any."""
        if not self.repeated_queries:
            return ""
        return (
            f"{len(self.repeated_queries)} queries have the content of a database image, such as "
            f"{self.repeated_queries[0]}; results are better than those of new images"
        )

    @cached_property
    def _digests(self) -> dict[int, bytes]:
        """Of the images of all roles, by position."""
        return {position: self.source.digest(position) for position in self.used.tolist()}

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 over names, content and labels of every role, in order: equal for equal splits anywhere.

        Without labels over names and content: the number of neighbours is a matter of judging, not of the images.
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
