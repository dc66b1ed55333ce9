"""`SearchedImages`: the search interface of images whose codes are in an index folder or a database.

Shapes: N images, B bytes a code, b bits.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from brcd_lightning.deployment.encoding.encoder import HashEncoder, ImageLike
from brcd_lightning.errors import InputError, require_non_negative_int, require_positive_int
from brcd_lightning.options import Role
from brcd_lightning.search import SearchResult
from brcd_lightning.search.stored import EXACT_KINDS


class Hit(NamedTuple):
    """An image that was found."""

    path: str
    """Relative to the root of the index."""
    distance: int
    """Hamming distance to the query."""
    score: float | None
    """Score of a rescored search, by which hits are sorted; larger is nearer."""
    id: int
    """Id of the image in this index."""


class Ranked(NamedTuple):
    """The nearest images of one query, whatever their distance."""

    hits: list[Hit]
    empty_slots: int
    """Number of requested results that an approximate index did not return."""


class Found(NamedTuple):
    """Answer to one query."""

    hits: list[Hit]
    prepare_ms: float
    """Time for decoding, cropping and resizing."""
    encode_ms: float
    search_ms: float
    empty_slots: int = 0
    """See `Ranked`."""


@dataclass(frozen=True)
class CodesOfImages:
    """Description of stored codes.

    Args:
        bits: code length b.
        role: of the encoder that made the codes, ``student`` or ``teacher``.
        encoder: fingerprint of that encoder.
        teacher: fingerprint of the teacher whose Hamming space the codes live in.
        root: folder that the paths are relative to.
        kind: of the index.
        count: number of images.
    """

    bits: int
    role: Role
    encoder: str
    teacher: str
    root: str
    kind: str
    count: int


class SearchedImages(ABC):
    """Base class of searchable images, independent of where their codes are stored.

    Args:
        place: folder or address, for messages.
        described: description of the codes.
    """

    def __init__(self, place: str, described: CodesOfImages) -> None:
        self._place, self._described = place, described

    def __len__(self) -> int:
        return self._described.count

    @property
    def bits(self) -> int:
        """Code length b."""
        return self._described.bits

    @property
    def kind(self) -> str:
        """Kind of the index."""
        return self._described.kind

    @property
    def exact(self) -> bool:
        """True if a search returns the true neighbours."""
        return self.kind in EXACT_KINDS

    @property
    def root(self) -> Path:
        """Folder that the paths are relative to."""
        return Path(self._described.root)

    @abstractmethod
    def query_encoder(self, model: str | Path | None = None) -> HashEncoder:
        """Loads the query encoder.

        Args:
            model: source, see `HashEncoder.from_pretrained`; None for the model stored with the codes.

        Raises:
            InputError: if the codes of the model live in another Hamming space.
        """

    @abstractmethod
    def ranked(self, codes: Tensor, k: int, rescore: Tensor | None = None) -> Ranked:
        """Returns the k nearest images of one query.

        Args:
            codes: (1, B) uint8, packed.
            k: maximum number of results.
            rescore: soft values (1, b) by which the best 10 k are re-ranked; None for the order of a Hamming search.
        """

    @abstractmethod
    def search_codes(self, codes: Tensor, k: int) -> SearchResult:
        """Returns the distances and ids of one query, without paths.

        Args:
            codes: (1, B) uint8, packed.
            k: at most N.
        """

    @abstractmethod
    def packed_codes(self) -> np.ndarray:
        """Returns all codes (N, B) uint8, in order of their ids."""

    def check(self, encoder: HashEncoder) -> None:
        """Raises `InputError` unless the codes of an encoder are comparable with the stored ones.

        They are for the same encoder (SSHP, or the teacher alone), and for a student of the teacher that made the
        stored codes (ASHP).
        """
        codes = self._described
        asymmetric = codes.role == "teacher" and encoder.description.teacher == codes.teacher
        if encoder.fingerprint != codes.encoder and not (asymmetric and encoder.bits == codes.bits):
            raise InputError(
                f"{self._place} holds codes of {codes.role} {codes.encoder}, and {encoder.role} "
                f"{encoder.fingerprint} makes other ones; query it with its own model, or encode the images again."
            )

    def search(
        self,
        image: ImageLike,
        encoder: HashEncoder,
        k: int = 10,
        *,
        rescore: bool = False,
        max_distance: int | None = None,
    ) -> Found:
        """Encodes one query and returns its nearest images.

        Args:
            image: a path, a PIL image or pixels.
            encoder: of queries, see `check`.
            k: maximum number of results.
            rescore: re-rank the best 10 k by soft values of the query, see `HammingIndex.search`.
            max_distance: largest Hamming distance of a result; None for no limit.
        """
        _require_limits(k, max_distance)
        started = time.perf_counter()
        pixels = encoder.prepare(image)
        prepared = time.perf_counter()
        codes, values = encoder.encode_pixels(pixels[None])
        encoded = time.perf_counter()
        ranked = self.ranked(codes, k, values if rescore else None)
        done = time.perf_counter()
        return Found(
            _within(ranked.hits, max_distance),
            1e3 * (prepared - started),
            1e3 * (encoded - prepared),
            1e3 * (done - encoded),
            ranked.empty_slots,
        )

    def nearest(
        self, codes: Tensor, k: int = 10, *, rescore: Tensor | None = None, max_distance: int | None = None
    ) -> list[Hit]:
        """Returns the nearest images of one encoded query.

        Args:
            codes: (1, B) uint8, packed.
            k: maximum number of results.
            rescore: soft values (1, b) by which the best 10 k are re-ranked; None for the order of a Hamming search.
            max_distance: largest Hamming distance of a result; None for no limit.
        """
        _require_limits(k, max_distance)
        return _within(self.ranked(codes, k, rescore).hits, max_distance)


def _require_limits(k: int, max_distance: int | None) -> None:
    require_positive_int("k", k)
    if max_distance is not None:
        require_non_negative_int("max_distance", max_distance)


def _within(hits: list[Hit], max_distance: int | None) -> list[Hit]:
    return hits if max_distance is None else [hit for hit in hits if hit.distance <= max_distance]
