"""The kinds of index, and which one `auto` takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from rich.progress import track

from brcd_lightning.errors import InputError
from brcd_lightning.search.approximate import (
    OPTIONS,
    TARGET_RECALL,
    FaissCodes,
    recall_meter,
    resolve_options,
    train,
    tune_probes,
)
from brcd_lightning.search.exact import ScannedCodes

Engine = ScannedCodes | FaissCodes
EXACT_KINDS = ("flat", "sharded")
KINDS = (*EXACT_KINDS, *OPTIONS, "auto")
AUTO_SIZE = 2_000_000
"""Up to here `auto` scans: a query takes a millisecond or two."""
AUTO_BITS = 32
"""Shorter codes tie by the thousand and do not partition: `auto` scans them."""
_AUTO_SHARE = 1 / 8  # of the lists that a query may read; beyond, a partition is hardly faster than a scan
_ADD_BLOCK = 1 << 20


class BuiltEngine(NamedTuple):
    """What `HammingIndex` wraps."""

    engine: Engine
    kind: str
    """Never ``auto``."""
    options: dict[str, int | None]
    """With all defaults filled in, and the probes as tuned."""
    recall: float
    """1 for an exact kind."""


def build_engine(
    kind: str,
    codes: np.ndarray,
    bits: int,
    options: Mapping[str, int | None],
    *,
    queries: np.ndarray | None,
    recall_k: int,
    seed: int,
    progress: bool,
) -> BuiltEngine:
    """Builds an index of one kind, see `HammingIndex.build`.

    Args:
        kind: one of `KINDS`.
        codes: (N, B) uint8; kept by the exact kinds.
        bits: code length.
        options: of the kind.
        queries: (Q, B) uint8 to measure recall with; a sample of the codes when None.
        recall_k: neighbours for which recall is measured and probes are tuned.
        seed: of everything random.
        progress: show a bar while codes are added.
    """
    if kind == "auto":
        if options:
            raise InputError(f"kind auto takes no options, got {', '.join(options)}; name a kind.")
        if len(codes) > AUTO_SIZE and bits >= AUTO_BITS:
            measure = {"queries": queries, "recall_k": recall_k, "seed": seed}
            built = build_engine("ivf", codes, bits, {}, **measure, progress=progress)
            few = built.options["probes"] <= _AUTO_SHARE * built.options["lists"]
            if built.recall >= TARGET_RECALL and few:
                return built
        kind = "sharded"
    resolved = resolve_options(kind, options, bits, len(codes))
    if kind in EXACT_KINDS:
        return BuiltEngine(ScannedCodes(codes, in_parts=kind == "sharded"), kind, resolved, 1.0)
    engine = train(kind, codes, bits, resolved, seed)
    for start in track(range(0, len(codes), _ADD_BLOCK), f"adding codes to {kind}", disable=not progress):
        block = codes[start : start + _ADD_BLOCK]
        engine.add(block, np.arange(start, start + len(block)))
    recall = recall_meter(codes, queries, recall_k, seed)
    if kind == "ivf" and resolved["probes"] is None:
        resolved["probes"] = tune_probes(engine, recall)
    return BuiltEngine(engine, kind, resolved, recall(engine).mean)
