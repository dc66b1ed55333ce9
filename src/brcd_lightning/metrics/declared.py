"""The metrics that a run reports, declared in one place.

A new one needs its function, an entry in `REPORTED` and its test. Evaluation, ``results.json`` and tables loop over the
entries.

Shapes: Q queries, N database items, b bits, K the cut of the ranking, C classes, R ids in a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from brcd_lightning.errors import InputError
from brcd_lightning.metrics.float_queries import FloatQueries, ScoreFunctions, values_per_float_query
from brcd_lightning.metrics.lists import RankedLists, list_average_precision, recall_at_k, zero_hits
from brcd_lightning.metrics.per_query import (
    ListFunction,
    RankingFunctions,
    TieCounts,
    TieFunction,
    values_per_query,
)
from brcd_lightning.metrics.ties import expected_average_precision


@dataclass(frozen=True, kw_only=True)
class ReportedMetric:
    """A metric that has one value per query; a run reports the mean.

    Declare a `ListMetric`, a `TieMetric` or a `ScoreMetric`.

    Args:
        prefix: first part of its keys, such as ``map``.
        suffix: last part of its keys, behind the pair of encoders; none when empty.
        title: heading of a table, with ``{k}`` where K stands.
        at_validation: computed at validation too, so that it can choose the epoch.
        in_tables: a column of tables, beside the other ones.
        in_neighbour_tables: a column too where relevant images are nearest neighbours instead of those of a class: then
            all of them can be found.
        needs_totals: its function reads ``total``, the relevant items in the whole database.
    """

    prefix: str
    suffix: str = ""
    title: str
    at_validation: bool = False
    in_tables: bool = False
    in_neighbour_tables: bool = False
    needs_totals: bool = False

    whole_ties: ClassVar[bool]
    """True if the search must go on to the end of the group of equal distances at the K-th place."""

    @property
    def name(self) -> str:
        """The key without a pair, such as ``map_expected``; no two metrics share it."""
        return self.key()

    def key(self, pair: str = "") -> str:
        """Key of the metric for a pair of encoders, without a stage.

        Args:
            pair: such as ``sshp`` in ``map_sshp_expected``; left out when empty.
        """
        return "_".join(part for part in (self.prefix, pair, self.suffix) if part)

    def title_at(self, k: int) -> str:
        """Heading of a table for a given K."""
        return self.title.format(k=k)


@dataclass(frozen=True, kw_only=True)
class ListMetric(ReportedMetric):
    """A metric of ranked lists, with equal distances in database order.

    Args:
        per_query: (lists of Q queries, K) -> (Q,) float64.
    """

    per_query: ListFunction
    whole_ties = False


@dataclass(frozen=True, kw_only=True)
class TieMetric(ReportedMetric):
    """A metric of the counts by distance, independent of the order of equal distances.

    Args:
        per_query: (counts of Q queries, K) -> (Q,) float64.
    """

    per_query: TieFunction
    whole_ties = True


@dataclass(frozen=True, kw_only=True)
class ScoreMetric(ReportedMetric):
    """A metric of lists ranked by ``<v(q), c(x)>``, real values of the query against stored bits: no Hamming score.

    Tables show it apart from the others, under the words "float queries", unless it is `in_tables`.

    Args:
        per_query: (lists of Q queries, K) -> (Q,) float64.
        rescored: rank the best of a Hamming search instead of the whole database.
    """

    per_query: ListFunction
    rescored: bool = False
    whole_ties = False


def _average_precision(lists: RankedLists, k: int) -> Tensor:
    return list_average_precision(lists.top(k), k)


def _expected_average_precision(counts: TieCounts, k: int) -> Tensor:
    return expected_average_precision(counts.items, counts.relevant, k)


REPORTED: tuple[ReportedMetric, ...] = (
    ListMetric(prefix="map", title="mAP@{k}", per_query=_average_precision, at_validation=True, in_tables=True),
    TieMetric(
        prefix="map",
        suffix="expected",
        title="mAP@{k}, mean over orders of ties",
        per_query=_expected_average_precision,
    ),
    ListMetric(
        prefix="map", suffix="zero_hit_rate", title="share of queries without a hit in the top {k}", per_query=zero_hits
    ),
    ScoreMetric(prefix="map", suffix="float", title="mAP@{k}, float queries", per_query=_average_precision),
    ScoreMetric(
        prefix="map",
        suffix="rescored",
        title="mAP@{k}, float queries, rescored",
        per_query=_average_precision,
        rescored=True,
    ),
    ListMetric(prefix="recall", title="recall@{k}", per_query=recall_at_k, in_neighbour_tables=True, needs_totals=True),
)
"""All metrics of a test, in the order in which they are reported."""
VALIDATED = tuple(metric for metric in REPORTED if metric.at_validation)
"""The metrics of a validation."""
COLUMNS = tuple(metric for metric in REPORTED if metric.in_tables)
"""The metrics that tables show."""
NEIGHBOUR_COLUMNS = tuple(metric for metric in REPORTED if metric.in_tables or metric.in_neighbour_tables)
"""Those of data sets whose relevant images are nearest neighbours."""
FLOAT_COLUMNS = tuple(metric for metric in REPORTED if isinstance(metric, ScoreMetric) and not metric.in_tables)
"""The metrics of float queries, which tables of their own show."""


def reported_values(
    query_codes: Tensor,
    database_codes: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    k: int,
    metrics: Sequence[ReportedMetric] = REPORTED,
    query_values: Tensor | None = None,
) -> dict[str, Tensor]:
    """Values of all metrics for every query. Those of Hamming distances share one search.

    Args:
        query_codes: (Q, b) in {-1, +1}, or packed (Q, B) uint8.
        database_codes: (N, b), the same form.
        query_labels: (Q,) class indices, (Q, C) multi-hot, or (Q, R) lists of relevant ids, see `lists`.
        database_labels: (N,) or (N, C), the same kind; of lists (N,) ids.
        k: cut of the ranking; the whole database when larger than N.
        metrics: `REPORTED`, or `VALIDATED`.
        query_values: (Q, b) real values of the queries, which a `ScoreMetric` needs.

    Returns:
        (Q,) float64 by `ReportedMetric.name`, in the order of `metrics`.
    """
    by_score = [metric for metric in metrics if isinstance(metric, ScoreMetric)]
    by_distance = [metric for metric in metrics if not isinstance(metric, ScoreMetric)]
    labels = query_labels, database_labels
    values: dict[str, Tensor] = {}
    if by_distance:
        functions = RankingFunctions(
            of_lists={metric.name: metric.per_query for metric in by_distance if isinstance(metric, ListMetric)},
            of_ties={metric.name: metric.per_query for metric in by_distance if isinstance(metric, TieMetric)},
            need_totals=any(metric.needs_totals for metric in by_distance),
        )
        values |= values_per_query(query_codes, database_codes, *labels, k, functions)
    if by_score:
        if query_values is None:
            raise InputError(f"{by_score[0].name} needs query_values, the real values of the queries; give them.")
        scores = ScoreFunctions(
            of_database={metric.name: metric.per_query for metric in by_score if not metric.rescored},
            of_rescored={metric.name: metric.per_query for metric in by_score if metric.rescored},
            need_totals=any(metric.needs_totals for metric in by_score),
        )
        queries = FloatQueries(query_codes, query_values)
        values |= values_per_float_query(queries, database_codes, *labels, k, scores)
    return {metric.name: values[metric.name] for metric in metrics}
