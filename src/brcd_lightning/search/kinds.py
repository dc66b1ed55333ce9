"""The kinds of index, and the choice of `auto`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from rich.progress import track
from torch import Tensor

from brcd_lightning.errors import InputError
from brcd_lightning.options import PositiveInt, Seed, checked
from brcd_lightning.search.approximate import (
    TARGET_RECALL,
    FaissCodes,
    recall_meter,
    resolve_options,
    train,
    tune_probes,
)
from brcd_lightning.search.exact import ScannedCodes, as_bytes
from brcd_lightning.search.stored import EXACT_KINDS, StoredIndex

Engine = ScannedCodes | FaissCodes
Kind = Literal["flat", "sharded", "ivf", "hnsw", "multi_hash", "auto"]
KINDS: tuple[Kind, ...] = get_args(Kind)
AUTO_SIZE = 2_000_000
"""Largest number of codes that `auto` scans: a query takes one or two milliseconds."""
AUTO_BITS = 32
"""Shorter codes have thousands of ties and do not partition well, so `auto` scans them."""
_AUTO_SHARE = 1 / 8  # of the lists; a query that reads more is hardly faster than a scan
_ADD_BLOCK = 1 << 20


@checked()
@dataclass(frozen=True)
class BuildOptions:
    """Options of building an index that do not depend on its kind.

    Args:
        queries: (Q, b) in {-1, +1}, or packed; typical queries, used to measure recall and tune probes. A sample of
            the codes when None.
        recall_k: neighbours per query for which recall is measured and probes are tuned.
        seed: of all random draws during the build.
        progress: show a progress bar while codes are added.
    """

    queries: Tensor | None = None
    recall_k: PositiveInt = 100
    seed: Seed = 0
    progress: bool = False

    def __post_init__(self) -> None:
        if self.queries is not None and len(self.queries) == 0:
            raise InputError("queries must hold at least one code, or be None.")

    def packed_queries(self, bits: int) -> np.ndarray | None:
        """Queries as (Q, B) uint8; raises `InputError` if their number of bits differs."""
        return None if self.queries is None else as_bytes(self.queries, bits, "queries")


class BuiltEngine(NamedTuple):
    """The engine that `HammingIndex` wraps, and its description."""

    engine: Engine
    kind: str
    """Never ``auto``."""
    options: dict[str, int | None]
    """With all defaults filled in, and the probes as tuned."""
    recall: float
    """1 for an exact kind."""


def build_engine(
    kind: str, codes: np.ndarray, bits: int, options: Mapping[str, int | None], build_options: BuildOptions
) -> BuiltEngine:
    """Builds an index of one kind, see `HammingIndex.build`.

    Args:
        kind: one of `KINDS`.
        codes: (N, B) uint8; the exact kinds keep a reference.
        bits: code length.
        options: options of the kind.
        build_options: options common to all kinds.
    """
    queries = build_options.packed_queries(bits)
    if kind == "auto":
        if options:
            raise InputError(f"kind auto takes no options, got {', '.join(options)}; name a kind.")
        if len(codes) > AUTO_SIZE and bits >= AUTO_BITS:
            built = build_engine("ivf", codes, bits, {}, build_options)
            few = (built.options["probes"] or 0) <= _AUTO_SHARE * (built.options["lists"] or 0)
            if built.recall >= TARGET_RECALL and few:
                return built
        kind = "sharded"
    resolved = resolve_options(kind, options, bits, len(codes))
    if kind in EXACT_KINDS:
        return BuiltEngine(ScannedCodes(codes, in_parts=kind == "sharded"), kind, resolved, 1.0)
    engine = train(kind, codes, bits, resolved, build_options.seed)
    for start in track(range(0, len(codes), _ADD_BLOCK), f"adding codes to {kind}", disable=not build_options.progress):
        block = codes[start : start + _ADD_BLOCK]
        engine.add(block, np.arange(start, start + len(block)))
    recall = recall_meter(codes, queries, build_options.recall_k, build_options.seed)
    if kind == "ivf" and resolved["probes"] is None:
        resolved["probes"] = tune_probes(engine, recall)
    return BuiltEngine(engine, kind, resolved, recall(engine).mean)


def open_engine(stored: StoredIndex, *, mmap: bool) -> Engine:
    """The engine of an index file.

    Args:
        stored: the file, whose header has been checked.
        mmap: memory-map the codes.

    Raises:
        InputError: for content that faiss cannot read, or that does not match the header.
    """
    codes, kind, path = stored.array("codes", mmap=mmap), stored.description.kind, stored.path
    if stored.exact:
        return ScannedCodes(codes, in_parts=kind == "sharded")
    try:
        engine = FaissCodes.read(codes, kind, in_place=mmap)
    except (RuntimeError, MemoryError) as error:
        raise InputError(f"index {path} is damaged: faiss cannot read it; build it again.") from error
    width = 8 * stored.description.code_bytes
    if len(engine) != stored.count or engine.index.d != width:
        raise InputError(
            f"index {path} is damaged: its header says {stored.count} codes of {width} bits with their padding, its "
            f"content {len(engine)} of {engine.index.d}; build it again."
        )
    return engine
