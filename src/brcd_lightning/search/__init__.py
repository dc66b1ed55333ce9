"""Nearest neighbours in Hamming space, over faiss."""

from brcd_lightning.search.exact import nearest_codes
from brcd_lightning.search.index import HammingIndex
from brcd_lightning.search.kinds import BuildOptions
from brcd_lightning.search.results import RadiusResult, RescoredResult, SearchResult
from brcd_lightning.search.values import nearest_by_values

__all__ = [
    "BuildOptions",
    "HammingIndex",
    "RadiusResult",
    "RescoredResult",
    "SearchResult",
    "nearest_by_values",
    "nearest_codes",
]
