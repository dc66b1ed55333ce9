"""Search results of a `HammingIndex`."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class SearchResult(NamedTuple):
    """Nearest codes of each query.

    Examples:
        >>> import torch
        >>> from brcd_lightning import HammingIndex
        >>> codes = torch.tensor([[1, 1], [1, -1]])
        >>> HammingIndex.build(codes).search(codes, k=1)
        SearchResult(distances=tensor([[0],
                [0]], dtype=torch.int32), ids=tensor([[0],
                [1]]))
    """

    distances: Tensor
    """(Q, k) int32, ascending; b + 1 in an empty slot."""
    ids: Tensor
    """(Q, k) int64; -1 in an empty slot."""

    @property
    def empty_slots(self) -> int:
        """Slots that an approximate index could not fill; 0 for an exact one."""
        return int((self.ids < 0).sum())


class RescoredResult(NamedTuple):
    """Best codes of each query by the score of its real values, among the candidates of a Hamming search."""

    distances: Tensor
    """(Q, k) int32 Hamming distances, in the order of the scores; b + 1 in an empty slot."""
    ids: Tensor
    """(Q, k) int64; -1 in an empty slot."""
    scores: Tensor
    """(Q, k) float64, descending; minus infinity in an empty slot."""

    @property
    def empty_slots(self) -> int:
        """Slots that an approximate index could not fill; 0 for an exact one."""
        return int((self.ids < 0).sum())


class RadiusResult(NamedTuple):
    """Codes within a radius of each query.

    Examples:
        >>> import torch
        >>> from brcd_lightning import HammingIndex
        >>> index = HammingIndex.build(torch.tensor([[1, 1, 1], [1, 1, -1], [-1, -1, -1]]))
        >>> found = index.search_radius(torch.tensor([[1, 1, 1]]), radius=1)
        >>> found.ids[found.offsets[0] : found.offsets[1]].tolist()
        [0, 1]
    """

    offsets: Tensor
    """(Q + 1,) int64: the hits of query q are ``offsets[q]:offsets[q + 1]``."""
    distances: Tensor
    """(hits,) int32, ascending per query."""
    ids: Tensor
    """(hits,) int64."""
