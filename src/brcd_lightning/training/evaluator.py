"""Evaluation by retrieval: collects the codes of whole splits and ranks them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

from torch import Tensor, nn

from brcd_lightning.data.datamodule import EvalBatch, finished
from brcd_lightning.hashing.base import Encoder
from brcd_lightning.metrics import CodeTable
from brcd_lightning.metrics.declared import REPORTED, VALIDATED, reported_values

SIDES = ("query", "database")
"""Order of the evaluation loaders."""
IN_TRAINING = "student"
"""Name of the one encoder whose codes change between evaluations."""


class Pair(NamedTuple):
    """Who encodes the queries and who the database, by names of encoders."""

    query: str
    database: str


class Evaluation(NamedTuple):
    """Outcome of one evaluation."""

    scores: dict[str, Tensor]
    """Values (Q,) float64 of each query, by metric, such as ``test/map_sshp``."""
    codes: dict[str, tuple[Tensor, Tensor]]
    """Codes (n, b) and labels of whole splits, by ``<encoder>_<side>``."""


class RetrievalEvaluator(nn.Module):
    """Collects codes batch by batch and computes the reported metrics once, on whole splits and over all processes.

    An encoder that is not in training encodes a split once; later evaluations use the same codes.

    Args:
        pairs: by stage (``val``, ``test``) and then by the name that metrics carry, such as ``sshp``.
        k: cut of the ranking.
    """

    def __init__(self, pairs: Mapping[str, Mapping[str, Pair]], k: int) -> None:
        super().__init__()
        self.pairs, self.k = pairs, k
        places = {place for stage in pairs for place in self._places(stage)}
        self.tables = nn.ModuleDict({_key(*place): CodeTable() for place in sorted(places)})
        self._fixed: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}

    def collect(self, stage: str, side: str, batch: EvalBatch, encoders: Mapping[str, Encoder]) -> None:
        """Encodes one batch of a split by all that are asked for it.

        Args:
            stage: ``val`` or ``test``.
            side: ``query`` or ``database``.
            batch: of the split.
            encoders: by name.
        """
        for encoder, its_side in self._places(stage):
            key = _key(encoder, its_side)
            if its_side == side and (stage, key) not in self._fixed:
                self._table(key).update(batch.index, encoders[encoder].encode(finished(batch.image)), batch.label)

    def evaluate(self, stage: str) -> Evaluation:
        """The metrics of `metrics.declared` for all queries of a stage; empties the tables for the next evaluation."""
        codes = {_key(*place): self._codes(stage, *place) for place in self._places(stage)}
        metrics = VALIDATED if stage == "val" else REPORTED
        scores: dict[str, Tensor] = {}
        for name, pair in self.pairs[stage].items():
            query_codes, query_labels = codes[_key(pair.query, "query")]
            database_codes, database_labels = codes[_key(pair.database, "database")]
            values = reported_values(query_codes, database_codes, query_labels, database_labels, self.k, metrics)
            scores |= {f"{stage}/{metric.key(name)}": values[metric.name] for metric in metrics}
        return Evaluation(scores, codes)

    def _places(self, stage: str) -> list[tuple[str, str]]:
        """Encoders and sides that a stage needs."""
        return sorted({place for pair in self.pairs[stage].values() for place in zip(pair, SIDES, strict=True)})

    def _table(self, key: str) -> CodeTable:
        return cast(CodeTable, self.tables[key])

    def _codes(self, stage: str, encoder: str, side: str) -> tuple[Tensor, Tensor]:
        """Codes and labels of a split, from the table or as they were before."""
        key = _key(encoder, side)
        if (stage, key) in self._fixed:
            return self._fixed[stage, key]
        table = self._table(key)
        found = table.compute()
        table.reset()
        if encoder != IN_TRAINING:
            self._fixed[stage, key] = found
        return found


def _key(encoder: str, side: str) -> str:
    return f"{encoder}_{side}"
