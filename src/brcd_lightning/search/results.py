"""Results of a search in a `HammingIndex`."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class SearchResult(NamedTuple):
    """Nearest codes of each query."""

    distances: Tensor
    """(Q, k) int32, ascending; b + 1 in an empty slot."""
    ids: Tensor
    """(Q, k) int64; -1 in an empty slot."""
    exact: bool
    """True for the true neighbours, False for those that an approximate index found."""

    @property
    def empty_slots(self) -> int:
        """Slots that an approximate index could not fill; 0 for an exact one."""
        return int((self.ids < 0).sum())


class RescoredResult(NamedTuple):
    """Nearest codes of each query by the score of its real values, among the best of a Hamming search."""

    distances: Tensor
    """(Q, k) int32 Hamming distances, in the order of the scores; b + 1 in an empty slot."""
    ids: Tensor
    """(Q, k) int64; -1 in an empty slot."""
    scores: Tensor
    """(Q, k) float64, descending; minus infinity in an empty slot."""
    exact: bool
    """True where the rescored codes are the true neighbours, False for those that an approximate index found."""

    @property
    def empty_slots(self) -> int:
        """Slots that an approximate index could not fill; 0 for an exact one."""
        return int((self.ids < 0).sum())


class RadiusResult(NamedTuple):
    """Codes within a radius of each query."""

    offsets: Tensor
    """(Q + 1,) int64: the hits of query q are ``offsets[q]:offsets[q + 1]``."""
    distances: Tensor
    """(hits,) int32, ascending per query."""
    ids: Tensor
    """(hits,) int64."""
    exact: bool
    """True for all codes within the radius, False for those that an approximate index found."""
