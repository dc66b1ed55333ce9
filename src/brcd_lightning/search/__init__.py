"""Nearest neighbours in Hamming space, over faiss."""

from brcd_lightning.search.exact import nearest_codes
from brcd_lightning.search.index import HammingIndex, RadiusResult, SearchResult
from brcd_lightning.search.kinds import BuildOptions

__all__ = ["BuildOptions", "HammingIndex", "RadiusResult", "SearchResult", "nearest_codes"]
