"""The parts of a feature store and the numbers of its rows.

Beside one row for every image under the evaluation transform there are rows of the training images: augmented
``views``, ``rotations`` of the first views by 90, 180 and 270 degrees, and class ``positives``. How many of each a job
reads are its amounts.

Shapes: E images, n training images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

KINDS = ("views", "rotations", "positives")
TURNS = 3
"""Rotations of a view: number q is view q // 3, turned by q % 3 + 1 quarters."""
BLOCK_ROWS = 256
"""Rows per block: what a kill can cost, and what a checksum covers."""


@dataclass(frozen=True)
class Part:
    """One file of a store."""

    kind: str
    """``evaluation``, or one of `KINDS`."""
    items: int
    """Images."""
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
    """The parts that a job reads; the last of a kind may hold more rows than asked for.

    Parts double in size, so that a store of 64 views serves every job that asks for fewer.

    Args:
        images: E.
        train: n.
        amounts: rows per training image, by kind; none for evaluation alone.
    """
    parts = [Part("evaluation", images)]
    for kind in KINDS:
        first = 0
        while first < amounts.get(kind, 0):
            parts.append(Part(kind, train, first, max(first, 1)))
            first += parts[-1].rows
    return parts


def first_rows(images: int, train: int, amounts: Mapping[str, int]) -> dict[str, int]:
    """Row of each kind's number 0 of image 0; number v of image i lies ``v * train + i`` rows further."""
    rows: dict[str, int] = {}
    place = images
    for part in parts_of(images, train, amounts)[1:]:
        rows.setdefault(part.kind, place)
        place += part.rows * part.items
    return rows
