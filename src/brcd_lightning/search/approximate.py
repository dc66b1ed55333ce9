"""Approximate search: the binary indexes of faiss, and their recall.

Shapes: Q queries, N database codes, B bytes per code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import faiss
import numpy as np

from brcd_lightning.errors import InputError
from brcd_lightning.search.exact import FoundCodes, RadiusHits, scan, sorted_hits

TARGET_RECALL = 0.99
"""Recall for which the probes of an IVF index are tuned, and that `auto` requires of it."""
_TUNING_QUERIES = 512
_SUBSTRING_BITS = 62  # faiss keeps a substring in one word
_BOUNDS = {"flips": (0, _SUBSTRING_BITS), "links": (2, 512)}
_TRAINING_CODES_PER_LIST = 64
_FLIPS = 2

OPTIONS: dict[str, dict[str, int | None]] = {
    # lists of the k-means partition, about sqrt(N); probes: lists read per query, tuned when None.
    "ivf": {"lists": None, "probes": None},
    # links per code (M); build_effort (efConstruction) and search_effort (efSearch): candidates kept.
    "hnsw": {"links": 32, "build_effort": 100, "search_effort": 256},
    # tables: substrings of about 16 bits; flips: bits of a substring that may differ.
    "multi_hash": {"tables": None, "flips": _FLIPS},
}
"""Options of each kind and their defaults."""


class Recall(NamedTuple):
    """Share of an index's results that are at most as far as the true k-th neighbour; ties are not misses."""

    mean: float
    """Mean over queries."""
    at_least: float
    """Lower bound of the 95 % confidence interval of the mean."""


class FaissCodes:
    """One of faiss's approximate binary indexes.

    Args:
        index: trained faiss index.
        kind: its name in `OPTIONS`.
        memory: array that the index reads in place; the index keeps a reference to it.
    """

    exact = False
    removal_shifts = False

    def __init__(self, index: faiss.IndexBinary, kind: str, memory: np.ndarray | None = None) -> None:
        self.index, self.kind = index, kind
        self._memory = memory

    def __len__(self) -> int:
        return self.index.ntotal

    def add(self, codes: np.ndarray, positions: np.ndarray) -> None:
        """Adds rows at the given positions, which have never been used before."""
        if self.kind == "ivf":
            self.index.add_with_ids(codes, positions)  # otherwise it would reuse positions after a removal
        else:
            self.index.add(codes)

    def remove(self, positions: np.ndarray) -> None:
        """Removes rows; the others keep their positions."""
        if self.kind != "ivf":
            raise InputError(f"a {self.kind} index cannot remove codes; build it again, or use flat, sharded or ivf.")
        self.index.remove_ids(faiss.IDSelectorBatch(positions))

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Distances (Q, k) int32 and positions (Q, k) int64; position -1 in an empty slot."""
        return self.index.search(queries, k)

    def search_codes(self, queries: np.ndarray, k: int) -> FoundCodes:
        """`search`, with the codes that it finds."""
        if self.kind == "ivf":
            distances, positions, codes, rows = self._search_lists(queries, k)
        else:
            distances, positions = self.search(queries, k)
            codes, rows = self._stored_codes(), positions
        order = np.lexsort((positions, distances, positions < 0), axis=1)  # faiss does not order equal distances
        return FoundCodes(
            np.take_along_axis(distances, order, axis=1),
            np.take_along_axis(positions, order, axis=1),
            codes,
            np.take_along_axis(rows, order, axis=1),
        )

    def _search_lists(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Distances, positions, copies of the codes found (Q * k, B), and the rows of these copies."""
        distances = np.empty((len(queries), k), dtype=np.int32)
        positions = np.empty((len(queries), k), dtype=np.int64)
        codes = np.empty((len(queries) * k, queries.shape[1]), dtype=np.uint8)
        search: Any = self.index.search_and_reconstruct  # type: ignore[attr-defined]  # absent from faiss's stubs
        search(
            len(queries), faiss.swig_ptr(queries), k, *(faiss.swig_ptr(each) for each in (distances, positions, codes))
        )
        rows = np.arange(len(codes)).reshape(positions.shape)
        return distances, positions, codes, np.where(positions < 0, -1, rows)

    def _stored_codes(self) -> np.ndarray:
        """(N, B) uint8 by position, in the memory of a graph or of hash tables."""
        storage: Any = faiss.downcast_IndexBinary(self.index.storage)  # type: ignore[attr-defined]  # as above
        codes: np.ndarray = faiss.rev_swig_ptr(storage.xb.data(), storage.ntotal * storage.code_size)
        return codes.reshape(storage.ntotal, storage.code_size)

    def search_radius(self, queries: np.ndarray, radius: int) -> RadiusHits:
        """Codes found within the radius (inclusive)."""
        if self.kind == "hnsw":
            raise InputError("an hnsw index has no radius search; use flat, sharded, ivf or multi_hash.")
        offsets, distances, positions = self.index.range_search(queries, radius + 1)  # faiss's bound is exclusive
        return sorted_hits(offsets.astype(np.int64), distances.astype(np.int32), positions)

    def write(self, write: Callable[[Any], object]) -> None:
        """Writes faiss's own serialisation."""

        def write_all(block: bytes) -> int:
            write(block)
            return len(block)

        writer = faiss.PyCallbackIOWriter(write_all, 1 << 20)  # type: ignore[attr-defined]  # absent from faiss's stubs
        faiss.write_index_binary(self.index, writer)

    @staticmethod
    def read(stored: np.ndarray, kind: str, *, in_place: bool) -> FaissCodes:
        """Opens the output of `write`; an index opened in place keeps reading `stored` and is read-only."""
        if not in_place:
            return FaissCodes(faiss.deserialize_index_binary(stored), kind)
        memory = faiss.swig_ptr(stored)
        reader = faiss.ZeroCopyIOReader(memory, stored.size)  # type: ignore[attr-defined]  # absent from faiss's stubs
        return FaissCodes(faiss.read_index_binary(reader), kind, memory=stored)


def resolve_options(kind: str, options: Mapping[str, int | None], bits: int, count: int) -> dict[str, int | None]:
    """Checks the given options of a kind and fills in the defaults.

    Raises:
        InputError: for an unknown option, or a value that is not a positive integer or is too large.
    """
    allowed = OPTIONS.get(kind, {})
    for name, value in options.items():
        if name not in allowed:
            known = ", ".join(allowed) or "none"
            raise InputError(f"{name!r} is not an option of a {kind} index; its options: {known}.")
        least, most = _BOUNDS.get(name, (1, 2**31 - 1))
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most):
            raise InputError(f"{name} must be an integer of at least {least} and at most {most}, got {value!r}.")
    given = {name: value for name, value in options.items() if value is not None}
    if kind == "ivf":
        return _ivf_options(given, count)
    if kind == "multi_hash":
        return _multi_hash_options(given, bits)
    return {**allowed, **given}


def _ivf_options(given: Mapping[str, int], count: int) -> dict[str, int | None]:
    lists = given.get("lists", 2 ** int(np.log2(np.sqrt(count))))
    if lists > count:
        raise InputError(f"lists must be at most the number of codes, got {lists} for {count} codes.")
    return {"lists": lists, "probes": min(given["probes"], lists) if "probes" in given else None}


def _multi_hash_options(given: Mapping[str, int], bits: int) -> dict[str, int | None]:
    tables = given.get("tables", max(1, round(bits / 16)))
    if tables > bits:
        raise InputError(f"tables must be at most the {bits} bits, got {tables}.")
    width = min(bits // tables, _SUBSTRING_BITS)
    if given.get("flips", 0) > width:
        raise InputError(f"flips must be at most the {width} bits of a substring, got {given['flips']}.")
    return {"tables": tables, "flips": min(given.get("flips", _FLIPS), width)}


def train(kind: str, codes: np.ndarray, bits: int, options: Mapping[str, int | None], seed: int) -> FaissCodes:
    """Creates an empty index, ready for `add`.

    Args:
        kind: a key of `OPTIONS`.
        codes: (N, B) uint8; the partition of an IVF index is trained on a sample of them.
        bits: code length.
        options: from `resolve_options`.
        seed: of the sample and of k-means.
    """
    width = 8 * codes.shape[1]
    chosen = {name: value for name, value in options.items() if value is not None}
    if kind == "hnsw":
        graph = faiss.IndexBinaryHNSW(width, chosen["links"])
        graph.hnsw.efConstruction, graph.hnsw.efSearch = chosen["build_effort"], chosen["search_effort"]
        return FaissCodes(graph, kind)
    if kind == "multi_hash":
        substring = min(bits // chosen["tables"], _SUBSTRING_BITS)
        tables = faiss.IndexBinaryMultiHash(width, chosen["tables"], substring)
        tables.nflip = chosen["flips"]
        return FaissCodes(tables, kind)
    partition = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(width), width, chosen["lists"])
    partition.cp.seed, partition.cp.niter, partition.cp.min_points_per_centroid = seed % 2**31, 10, 1
    size = min(len(codes), _TRAINING_CODES_PER_LIST * chosen["lists"])
    rows = np.random.default_rng(seed).choice(len(codes), size, replace=False)
    partition.train(codes[np.sort(rows)])
    partition.nprobe = chosen.get("probes", 1)
    return FaissCodes(partition, kind)


def recall_meter(codes: np.ndarray, queries: np.ndarray | None, k: int, seed: int) -> Callable[[FaissCodes], Recall]:
    """Finds the true neighbours of some queries and returns a function that measures the recall of an index.

    Args:
        codes: (N, B) uint8.
        queries: (Q, B) uint8; a sample of the codes when None.
        k: neighbours per query.
        seed: of the sample.

    Returns:
        A function from an index of these codes to its recall.
    """
    if queries is None:
        rows = np.random.default_rng(seed).choice(len(codes), min(_TUNING_QUERIES, len(codes)), replace=False)
        queries = codes[np.sort(rows)]
    k = min(k, len(codes))
    farthest = scan(queries, codes, k)[0][:, -1:]

    def recall(index: FaissCodes) -> Recall:
        distances, positions = index.search(queries, k)
        shares = ((positions >= 0) & (distances <= farthest)).mean(axis=1)
        return Recall(float(shares.mean()), float(shares.mean() - 1.96 * shares.std() / np.sqrt(len(shares))))

    return recall


def tune_probes(index: FaissCodes, recall: Callable[[FaissCodes], Recall]) -> int:
    """Sets the smallest number of probes (a power of two) of an IVF index that reliably reaches `TARGET_RECALL`.

    Returns:
        The number of probes; the number of lists if no smaller number suffices.
    """
    partition = index.index
    if not isinstance(partition, faiss.IndexBinaryIVF):
        raise TypeError(f"only an ivf index has probes to tune, got {index.kind}.")
    partition.nprobe = 1
    while recall(index).at_least < TARGET_RECALL and partition.nprobe < partition.nlist:
        partition.nprobe = min(2 * partition.nprobe, partition.nlist)
    return partition.nprobe
