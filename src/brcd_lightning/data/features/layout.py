"""The parts of a feature store and the numbering of its rows.

A store has one row for every image under the evaluation transform, and further rows for the training images: augmented
``views``, ``rotations`` of the first views by 90, 180 and 270 degrees, and class ``positives``. The number of each that
a job reads is called its amounts.

Shapes: E images, n training images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

KINDS = ("views", "rotations", "positives")
TURNS = 3
"""Rotations of a view: number q is view q // 3, rotated by (q % 3 + 1) * 90 degrees."""
BLOCK_ROWS = 256
"""Rows per block: the most that a kill can lose, and the unit of checksums."""


@dataclass(frozen=True)
class Part:
    """One file of a store."""

    kind: str
    """``evaluation``, or one of `KINDS`."""
    items: int
    """Number of images."""
    first: int = 0
    """Number of the first row of each image within its kind."""
    rows: int = 1
    """Rows per image."""

    @property
    def name(self) -> str:
        """File name."""
        return self.kind if self.kind == "evaluation" else f"{self.kind}_{self.first}_{self.first + self.rows}"

    @property
    def blocks(self) -> list[range]:
        """Images of each block."""
        step = max(1, BLOCK_ROWS // self.rows)
        return [range(start, min(start + step, self.items)) for start in range(0, self.items, step)]


def parts_of(images: int, train: int, amounts: Mapping[str, int]) -> list[Part]:
    """The parts that a job reads; the last part of a kind may hold more rows than requested.

    Parts double in size, so a store of 64 views serves every job that reads fewer.

    Args:
        images: E.
        train: n.
        amounts: rows per training image, by kind; empty for evaluation only.
    """
    parts = [Part("evaluation", images)]
    for kind in KINDS:
        first = 0
        while first < amounts.get(kind, 0):
            parts.append(Part(kind, train, first, max(first, 1)))
            first += parts[-1].rows
    return parts


def first_rows(images: int, train: int, amounts: Mapping[str, int]) -> dict[str, int]:
    """First row of each kind, number 0 of image 0; number v of image i is ``v * train + i`` rows further on."""
    rows: dict[str, int] = {}
    place = images
    for part in parts_of(images, train, amounts)[1:]:
        rows.setdefault(part.kind, place)
        place += part.rows * part.items
    return rows
