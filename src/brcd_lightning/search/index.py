"""`HammingIndex`: one object to build, search, change and store an index of hash codes.

Shapes: Q queries, N codes, b bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self, overload

import numpy as np
import torch
from torch import Tensor

from brcd_lightning.codes import require_tensor
from brcd_lightning.errors import InputError, require_non_negative_int, require_positive_int
from brcd_lightning.options import PositiveInt, checked
from brcd_lightning.search.exact import as_bytes
from brcd_lightning.search.ids import checked_ids, few
from brcd_lightning.search.index_file import read_header, write_index
from brcd_lightning.search.kinds import BuildOptions, Engine, Kind, build_engine, open_engine
from brcd_lightning.search.rescoring import candidate_count, rescore_candidates
from brcd_lightning.search.results import RadiusResult, RescoredResult, SearchResult
from brcd_lightning.search.stored import IndexDescription
from brcd_lightning.search.values import as_values

_DEFAULTS = BuildOptions()
_CANDIDATE_BYTES = 1 << 27
"""Bytes of candidates that are rescored at a time."""


class HammingIndex:
    """An index of hash codes, created by `build` or `load`.

    ``flat`` and ``sharded`` are exact: they return the true neighbours, with equal distances in database order.
    ``sharded`` distributes a single query over all threads. ``ivf`` (reads only the nearest lists of a k-means
    partition), ``hnsw`` (traverses a graph) and ``multi_hash`` (looks up substrings in hash tables) are approximate.
    They may leave slots empty, and `recall` is the share of the true neighbours that they found when they were built.
    All kinds search a batch of queries with the threads of OpenMP (``OMP_NUM_THREADS``).

    Several threads may search an index concurrently. While one modifies it (`add`, `remove`), no other may use it.

    Examples:
        >>> import torch
        >>> codes = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, -1, -1]])
        >>> index = HammingIndex.build(codes, ids=torch.tensor([7, 8, 9]))
        >>> index.search(torch.tensor([[1, 1, -1]]), k=2).ids.tolist()
        [[7, 8]]
    """

    def __init__(
        self, engine: Engine, description: IndexDescription, ids: np.ndarray | None = None, *, read_only: bool = False
    ) -> None:
        self._engine = engine
        self._ids = ids  # id of each position, -1 where it was removed; None: positions are ids
        self.description = description
        self.read_only = read_only
        """True for a memory-mapped index."""

    @property
    def bits(self) -> int:
        """Code length."""
        return self.description.bits

    @property
    def kind(self) -> str:
        """Kind of the index; never ``auto``."""
        return self.description.kind

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the model that computed the codes."""
        return self.description.fingerprint

    @property
    def options(self) -> dict[str, int | None]:
        """Options that the index was built with, with the probes as tuned."""
        return self.description.options

    @property
    def recall(self) -> float | None:
        """1 for an exact index; otherwise the recall measured at build time, or None after its codes have changed."""
        return self.description.recall

    @classmethod
    @checked()
    def build(
        cls,
        codes: Tensor,
        *,
        bits: PositiveInt | None = None,
        ids: Tensor | None = None,
        kind: Kind = "auto",
        fingerprint: str = "",
        build_options: BuildOptions = _DEFAULTS,
        **options: int | None,
    ) -> Self:
        """Builds an index.

        Args:
            codes: (N, b) in {-1, +1}, or packed (N, ceil(b / 8)) uint8.
            bits: code length; required for packed codes whose length is not a multiple of 8.
            ids: (N,) distinct integers of at least 0; 0..N-1 when None.
            kind: ``flat``, ``sharded``, ``ivf``, ``hnsw``, ``multi_hash`` or ``auto``. ``auto`` is ``sharded`` for up
                to 2 million codes or fewer than 32 bits. Otherwise it is ``ivf`` if that reaches a recall of 0.99
                by reading an eighth of the codes, else ``sharded``.
            fingerprint: of the model that computed the codes; `load` can check it.
            build_options: measurement of recall, seed and progress bar.
            **options: options of the kind, see `approximate.OPTIONS`: ``lists``, ``probes``; ``links``,
                ``build_effort``, ``search_effort``; ``tables``, ``flips``.
        """
        require_tensor("codes", codes)
        if not isinstance(fingerprint, str):
            raise InputError(f"fingerprint must be text, got {type(fingerprint).__name__}.")
        if codes.ndim == 0 or len(codes) == 0:
            raise InputError(f"an index needs at least one code to be built, got shape {tuple(codes.shape)}.")
        if bits is None:
            bits = codes.shape[-1] * (8 if codes.dtype == torch.uint8 else 1)
        rows = as_bytes(codes, bits)
        if codes.dtype == torch.uint8:
            rows = rows.copy()  # the index must not change with the caller's tensor
        known = None if ids is None else checked_ids(ids, len(rows))
        built = build_engine(kind, rows, bits, options, build_options)
        description = IndexDescription(bits, built.kind, fingerprint, built.options, built.recall)
        return cls(built.engine, description, known)

    @property
    def exact(self) -> bool:
        """True if results are the true neighbours, with equal distances in database order."""
        return self._engine.exact

    def __len__(self) -> int:
        return len(self._engine)

    def __repr__(self) -> str:
        measured = "unknown since codes changed" if self.recall is None else f"{self.recall:.4f}"
        truth = "exact" if self.exact else f"recall {measured}"
        return f"HammingIndex({len(self)} codes, {self.bits} bits, {self.kind}, {truth})"

    def add(self, codes: Tensor, ids: Tensor | None = None) -> None:
        """Appends codes.

        Args:
            codes: (M, b) or packed.
            ids: (M,) new ids; the numbers following the largest id in the index when None.
        """
        self._check_writable()
        rows = as_bytes(codes, self.bits)
        used = len(self) if self._ids is None else len(self._ids)
        first = used if self._ids is None else int(self._ids.max(initial=-1)) + 1
        new = None
        if ids is not None or self._ids is not None:
            known = self._known_ids()
            new = np.arange(first, first + len(rows)) if ids is None else checked_ids(ids, len(rows))
            taken = new[np.isin(new, known)]
            if len(taken):
                raise InputError(f"ids must be new to the index, {len(taken)} are not: {few(taken)}.")
        self._engine.add(rows, np.arange(used, used + len(rows)))
        self.description = self.description.of_other_codes()
        if new is not None:
            self._ids = np.concatenate([known, new])

    def remove(self, ids: Tensor) -> None:
        """Removes codes; the others keep their ids and their order."""
        self._check_writable()
        unwanted, known = checked_ids(ids), self._known_ids()
        absent = unwanted[~np.isin(unwanted, known)]
        if len(absent):
            raise InputError(f"ids must be in the index, {len(absent)} are not: {few(absent)}.")
        positions = np.flatnonzero(np.isin(known, unwanted))
        self._engine.remove(positions)
        self.description = self.description.of_other_codes()
        if self._engine.removal_shifts:
            self._ids = np.delete(known, positions)
        else:
            self._ids = known.copy()
            self._ids[positions] = -1

    @overload
    def search(self, queries: Tensor, k: int) -> SearchResult: ...

    @overload
    def search(self, queries: Tensor, k: int, rescore: Tensor, candidates: int | None = None) -> RescoredResult: ...

    def search(
        self, queries: Tensor, k: int, rescore: Tensor | None = None, candidates: int | None = None
    ) -> SearchResult | RescoredResult:
        """The k nearest codes of each query (all codes if there are fewer).

        With `rescore`, the best `candidates` of the Hamming search are re-ordered by their score ``<v(q), c(x)>``,
        which is not a Hamming distance. Equal scores are ordered by distance, then by database order.

        Args:
            queries: (Q, b) in {-1, +1}, or packed.
            k: neighbours per query.
            rescore: (Q, b) real values v(q) of the queries, such as those of `HashNetwork.encode_soft`.
            candidates: number of results of the Hamming search to rescore, at least k; 10 k when None.

        Returns:
            Results on the CPU; for an approximate index, check `SearchResult.empty_slots`.
        """
        require_positive_int("k", k)
        if len(self) == 0:
            raise InputError("the index is empty; add codes before searching.")
        rows = as_bytes(queries, self.bits, "queries")
        if rescore is not None:
            return self._search_rescored(rows, k, rescore, candidates)
        if candidates is not None:
            raise InputError(f"candidates are those to rescore, got {candidates} without rescore; give rescore too.")
        distances, positions = self._engine.search(rows, min(k, len(self)))
        if not self.exact:
            distances[positions < 0] = self.bits + 1
        return SearchResult(torch.from_numpy(distances), torch.from_numpy(self._ids_at(positions)))

    def _search_rescored(self, rows: np.ndarray, k: int, given: Tensor, candidates: int | None) -> RescoredResult:
        """`search` with `rescore`, in blocks of queries limited by `_CANDIDATE_BYTES`."""
        values = as_values(given, self.bits, "rescore")
        if len(values) != len(rows):
            raise InputError(f"rescore must have one row for each query, got {len(values)} for {len(rows)} queries.")
        k, candidates = min(k, len(self)), min(candidate_count(k, candidates), len(self))
        distances, positions = np.empty((len(rows), k), np.int32), np.empty((len(rows), k), np.int64)
        scores = np.empty((len(rows), k))
        step = max(1, _CANDIDATE_BYTES // (candidates * (self.description.code_bytes + 64)))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            found = self._engine.search_codes(rows[part], candidates)
            scores[part], places = rescore_candidates(values[part], found.codes, found.rows, k)
            distances[part] = np.take_along_axis(found.distances, places, axis=1)
            positions[part] = np.take_along_axis(found.positions, places, axis=1)
        distances[positions < 0] = self.bits + 1
        return RescoredResult(*map(torch.from_numpy, (distances, self._ids_at(positions), scores)))

    def search_radius(self, queries: Tensor, radius: int) -> RadiusResult:
        """All codes within a Hamming distance of each query, inclusive (approximate kinds may miss some).

        Args:
            queries: (Q, b) in {-1, +1}, or packed.
            radius: Hamming distance, at least 0.
        """
        require_non_negative_int("radius", radius)
        hits = self._engine.search_radius(as_bytes(queries, self.bits, "queries"), min(radius, self.bits))
        return RadiusResult(*map(torch.from_numpy, (hits.offsets, hits.distances, self._ids_at(hits.positions))))

    @checked()
    def save(self, path: Path | str) -> None:
        """Writes the index to one file, atomically; a symbolic link is replaced by the file.

        Raises:
            InputError: if the file cannot be written.
        """
        write_index(Path(path), self.description, self._engine, self._ids)

    @classmethod
    @checked()
    def load(
        cls,
        path: Path | str,
        *,
        bits: int | None = None,
        fingerprint: str | None = None,
        mmap: bool = True,
        verify: bool = True,
    ) -> Self:
        """Opens an index file.

        Args:
            path: of the file.
            bits: expected code length; any when None.
            fingerprint: expected fingerprint of the model; any when None.
            mmap: memory-map the codes, shared between processes and read on demand; the index is then read-only.
            verify: verify the checksum, which reads the whole file once.

        Raises:
            InputError: if the file is missing, foreign, truncated or damaged, or has other bits or fingerprint.
        """
        stored = read_header(Path(path))
        for name, wanted in (("bits", bits), ("fingerprint", fingerprint)):
            found = getattr(stored.description, name)
            if wanted is not None and found != wanted:
                raise InputError(f"index {path} has {name} {found!r}, not {wanted!r}; use the index that fits.")
        if verify:
            stored.check_content()
        engine = open_engine(stored, mmap=mmap)
        ids = stored.array("ids", mmap=mmap) if "ids" in stored.arrays else None
        if ids is not None and int((ids >= 0).sum()) != len(engine):
            raise InputError(f"index {path} is damaged: its ids do not belong to its codes; build it again.")
        return cls(engine, stored.description, ids, read_only=mmap)

    def _check_writable(self) -> None:
        if self.read_only:
            raise InputError("a memory-mapped index is read-only; open it with HammingIndex.load(path, mmap=False).")

    def _known_ids(self) -> np.ndarray:
        return np.arange(len(self)) if self._ids is None else self._ids

    def _ids_at(self, positions: np.ndarray) -> np.ndarray:
        if self._ids is None:
            return positions
        return np.where(positions < 0, -1, self._ids[positions])
