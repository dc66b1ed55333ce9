"""Nearest neighbours in Hamming space, over faiss."""

from brcd_lightning.search.exact import nearest_codes
from brcd_lightning.search.index import HammingIndex, RadiusResult, SearchResult

__all__ = ["HammingIndex", "RadiusResult", "SearchResult", "nearest_codes"]
