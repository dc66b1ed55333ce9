"""Responses to queries: one or two indexes of the same images, each searched by Hamming distance, rescored, or both."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field
from torch import Tensor

from brcd_lightning.codes import unpack
from brcd_lightning.deployment.encoding.encoder import EncodedImages, HashEncoder
from brcd_lightning.deployment.image_index.image_index import ImageIndex
from brcd_lightning.deployment.image_index.searched import Hit
from brcd_lightning.errors import InputError

PARADIGMS = {"student": "SSHP", "teacher": "ASHP"}
"""Paradigm by the role of the encoder that made the codes of an index. The student always encodes the queries."""


class Mode(StrEnum):
    """The order of hits."""

    HAMMING = "hamming"
    """By Hamming distance; ties in the order of the index."""
    RESCORED = "rescored"
    """The best 10 k of the Hamming search, re-ranked by real values of the query."""


class Wanted(BaseModel):
    """Options of a search."""

    k: Annotated[int, Field(ge=1, le=100, description="Maximum number of hits.")] = 10
    mode: Annotated[list[Mode], Field(description="Order of the hits. Repeat it to get both orders.")] = [Mode.HAMMING]
    max_distance: Annotated[int | None, Field(ge=0, description="Largest Hamming distance of a hit.")] = None


class HitAnswer(BaseModel):
    """An image that was found."""

    id: int
    path: Annotated[str, Field(description="Relative to the root of the index.")]
    distance: Annotated[int, Field(description="Hamming distance to the query.")]
    score: Annotated[float | None, Field(description="Score of a rescored hit; larger is nearer.")]
    ties: Annotated[int, Field(description="Other images of the index at the same distance.")]
    thumbnail: Annotated[str, Field(description="URL of a JPEG thumbnail.")]
    picture: Annotated[str, Field(description="URL of the image.")]


class ResultAnswer(BaseModel):
    """The hits of one index in one mode."""

    paradigm: Annotated[str, Field(description="SSHP if the student made the codes, ASHP if its teacher did.")]
    mode: Mode
    exact: Annotated[bool, Field(description="False if the index is approximate and may miss near images.")]
    search_ms: float
    hits: list[HitAnswer]
    ties_left_out: Annotated[
        int | None,
        Field(description="Images at the distance of the last hit that are not among the hits. Null if rescored."),
    ]


class Milliseconds(BaseModel):
    """Times of a query in milliseconds."""

    decode: Annotated[float, Field(description="Decoding, cropping and resizing.")]
    encode: float
    search: Annotated[float, Field(description="Search for all results, without counting ties.")]


class Answer(BaseModel):
    """Answer to a query."""

    bits: Annotated[str, Field(description="Code of the query as a string of 0 and 1.")]
    ms: Milliseconds
    results: Annotated[list[ResultAnswer], Field(description="One for each index and mode.")]


class Searcher:
    """Searches one or two indexes with one encoder.

    Args:
        indexes: of the same images. Ids are those of the first.
        encoder: of queries; None for the student stored in the first index.

    Raises:
        InputError: if the indexes hold different images, or belong to different models.
    """

    def __init__(self, indexes: Sequence[ImageIndex], encoder: HashEncoder | None = None) -> None:
        first, *others = indexes
        self.indexes, self.encoder = list(indexes), encoder or first.query_encoder()
        self._ids: dict[str, int] = {}
        if others:
            self._ids = dict(zip(first.images.paths, first.images.ids.tolist(), strict=True))
        for other in others:
            other.check(self.encoder)
            if self._ids.keys() != set(other.images.paths):
                raise InputError(f"{other.folder} holds other images than {first.folder}; index the same ones.")

    @property
    def paradigms(self) -> list[str]:
        """Paradigm of each index, SSHP or ASHP."""
        return [PARADIGMS[index.manifest.role] for index in self.indexes]

    def answer(self, read: Callable[[], Tensor], wanted: Wanted) -> Answer:
        """Searches for an image.

        Args:
            read: decodes the image to pixels (3, H, W) uint8.
            wanted: options of the search.
        """
        started = time.perf_counter()
        pixels = self.encoder.prepare(read())
        decoded = time.perf_counter()
        query = self.encoder.encode_pixels(pixels[None])
        encoded = time.perf_counter()
        results = [
            self._result(index, query, mode, wanted) for index in self.indexes for mode in dict.fromkeys(wanted.mode)
        ]
        signs = unpack(query.codes, self.encoder.bits)[0]
        return Answer(
            bits="".join("1" if sign > 0 else "0" for sign in signs.tolist()),
            ms=Milliseconds(
                decode=1e3 * (decoded - started),
                encode=1e3 * (encoded - decoded),
                search=sum(result.search_ms for result in results),
            ),
            results=results,
        )

    def _result(self, index: ImageIndex, query: EncodedImages, mode: Mode, wanted: Wanted) -> ResultAnswer:
        started = time.perf_counter()
        values = query.values if mode is Mode.RESCORED else None
        hits = index.nearest(query.codes, wanted.k, rescore=values, max_distance=wanted.max_distance)
        searched = time.perf_counter()
        at_distance = images_at_distance(index, query.codes, hits)
        left_out = None
        if mode is Mode.HAMMING:
            at_last = sum(hit.distance == hits[-1].distance for hit in hits)
            left_out = max(0, int(at_distance[hits[-1].distance]) - at_last) if hits else 0
        return ResultAnswer(
            paradigm=PARADIGMS[index.manifest.role],
            mode=mode,
            exact=index.exact,
            search_ms=1e3 * (searched - started),
            hits=[self._hit(hit, int(at_distance[hit.distance])) for hit in hits],
            ties_left_out=left_out,
        )

    def _hit(self, hit: Hit, at_distance: int) -> HitAnswer:
        number = self._ids.get(hit.path, hit.id)
        return HitAnswer(
            id=number,
            path=hit.path,
            distance=hit.distance,
            score=hit.score,
            ties=max(0, at_distance - 1),
            thumbnail=f"/thumbnails/{number}",
            picture=f"/images/{number}",
        )


def images_at_distance(index: ImageIndex, codes: Tensor, hits: Sequence[Hit]) -> np.ndarray:
    """Counts the images at each distance from a query, up to the distance of the farthest hit.

    Args:
        index: of the images. With an approximate one the counts may be too small.
        codes: (1, B) uint8, packed.
        hits: of the query.
    """
    farthest = max((hit.distance for hit in hits), default=0)
    return np.bincount(index.index.search_radius(codes, farthest).distances.numpy(), minlength=farthest + 1)
