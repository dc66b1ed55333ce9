"""Evaluation by retrieval: collects the codes of whole splits and ranks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from torch import Tensor, nn

from brcd_lightning.data.datamodule import EvalBatch, finished
from brcd_lightning.hashing.base import Encoder
from brcd_lightning.metrics import CodeTable, ValueTable
from brcd_lightning.metrics.declared import REPORTED, VALIDATED, ReportedMetric, ScoreMetric, reported_values
from brcd_lightning.options import PositiveInt, checked
from brcd_lightning.training.kept_scores import KeptScores, Scores

SIDES = ("query", "database")
"""Order of the evaluation loaders."""
IN_TRAINING = "student"
"""Name of the one encoder whose codes change between evaluations."""


class Pair(NamedTuple):
    """The encoders of queries and of database items, by their names."""

    query: str
    database: str


class Evaluation(NamedTuple):
    """Outcome of one evaluation."""

    scores: dict[str, Tensor]
    """Values (Q,) float64 of each query, by metric, such as ``test/map_sshp``."""
    codes: dict[str, tuple[Tensor, Tensor]]
    """Codes (n, b) and labels of whole splits, by ``<encoder>_<side>``; queries may have lists of relevant ids."""


class _Split(NamedTuple):
    """A split as an encoder sees it."""

    codes: Tensor
    labels: Tensor
    values: Tensor | None
    """Soft values (n, b) of queries if a metric needs them."""


@checked()
class RetrievalEvaluator(nn.Module):
    """Collects codes batch by batch and computes the reported metrics once, on whole splits and over all processes.

    An encoder that is not in training encodes a split once; later evaluations use the same codes. Soft values of
    queries are also collected if a metric needs them.

    Args:
        pairs: encoders by stage (``val``, ``test``) and then by the name used in metrics, such as ``sshp``.
        k: cut of the ranking.
        float_queries: whether a test also ranks by soft values of queries.
        kept_scores: folder of scores computed before, for pairs that do not change in training; None recomputes them
            each time.
    """

    def __init__(
        self,
        pairs: Mapping[str, Mapping[str, Pair]],
        k: PositiveInt,
        float_queries: bool = True,
        kept_scores: Path | None = None,
    ) -> None:
        super().__init__()
        self.pairs, self.k = pairs, k
        self._kept, self._not_kept = KeptScores(kept_scores), KeptScores(None)
        reported = tuple(metric for metric in REPORTED if float_queries or not isinstance(metric, ScoreMetric))
        self._metrics: dict[str, Sequence[ReportedMetric]] = {"val": VALIDATED, "test": reported}
        places = {place for stage in pairs for place in self._places(stage)}
        self.tables = nn.ModuleDict({_key(*place): CodeTable() for place in sorted(places)})
        self.values = nn.ModuleDict({_key(*place): ValueTable() for place in sorted(places) if place[1] == SIDES[0]})
        self._fixed: dict[tuple[str, str], _Split] = {}
        self.relevant: dict[str, Tensor] = {}
        """Lists (Q, R) of the ids that are relevant to the queries of a stage, in place of labels; the ids of database
        images are their labels."""

    def collect(self, stage: str, side: str, batch: EvalBatch, encoders: Mapping[str, Encoder]) -> None:
        """Encodes one batch of a split with all encoders that evaluate it.

        Args:
            stage: ``val`` or ``test``.
            side: ``query`` or ``database``.
            batch: batch of the split.
            encoders: encoders by name.
        """
        for encoder, its_side in self._places(stage):
            key = _key(encoder, its_side)
            if its_side != side or (stage, key) in self._fixed:
                continue
            images = finished(batch.image)
            if self._needs_values(stage, side):
                codes, values = encoders[encoder].encode_soft(images)
                self._values(key).update(batch.index, values)
            else:
                codes = encoders[encoder].encode(images)
            self._table(key).update(batch.index, codes, batch.label)

    def evaluate(self, stage: str) -> Evaluation:
        """The metrics of `metrics.declared` for all queries of a stage; empties the tables for the next evaluation."""
        splits = {_key(*place): self._split(stage, *place) for place in self._places(stage)}
        metrics = self._metrics[stage]
        scores: dict[str, Tensor] = {}
        for name, pair in self.pairs[stage].items():
            query, database = splits[_key(pair.query, "query")], splits[_key(pair.database, "database")]
            values = self._scores(pair, query, database, metrics)
            scores |= {f"{stage}/{metric.key(name)}": values[metric.name] for metric in metrics}
        return Evaluation(scores, {key: (split.codes, split.labels) for key, split in splits.items()})

    def _scores(self, pair: Pair, query: _Split, database: _Split, metrics: Sequence[ReportedMetric]) -> Scores:
        inputs = {
            "query_codes": query.codes,
            "database_codes": database.codes,
            "query_labels": query.labels,
            "database_labels": database.labels,
        }
        if query.values is not None:
            inputs["query_values"] = query.values
        kept = self._not_kept if IN_TRAINING in pair else self._kept
        protocol = f"{self.k} {' '.join(metric.name for metric in metrics)}"
        return kept.of(inputs, protocol, lambda: reported_values(**inputs, k=self.k, metrics=metrics))

    def _needs_values(self, stage: str, side: str) -> bool:
        """True if a metric of the stage reads soft values of that side."""
        return side == SIDES[0] and any(isinstance(metric, ScoreMetric) for metric in self._metrics[stage])

    def _places(self, stage: str) -> list[tuple[str, str]]:
        """Encoders and sides that a stage needs."""
        return sorted({place for pair in self.pairs[stage].values() for place in zip(pair, SIDES, strict=True)})

    def _table(self, key: str) -> CodeTable:
        return cast(CodeTable, self.tables[key])

    def _values(self, key: str) -> ValueTable:
        return cast(ValueTable, self.values[key])

    def _split(self, stage: str, encoder: str, side: str) -> _Split:
        """A split from the tables, or from an earlier evaluation."""
        key = _key(encoder, side)
        if (stage, key) in self._fixed:
            return self._fixed[stage, key]
        values = None
        if self._needs_values(stage, side):
            values = self._values(key).compute()
            self._values(key).reset()
        table = self._table(key)
        codes, labels = table.compute()
        found = _Split(codes, self.relevant.get(stage, labels) if side == SIDES[0] else labels, values)
        table.reset()
        if encoder != IN_TRAINING:
            self._fixed[stage, key] = found
        return found


def _key(encoder: str, side: str) -> str:
    return f"{encoder}_{side}"
