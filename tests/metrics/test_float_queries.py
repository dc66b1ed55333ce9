"""Metrics of float queries against slow loops."""

import pytest
import torch

from brcd_lightning.codes import hamming_distance, pack, sign
from brcd_lightning.errors import InputError
from brcd_lightning.metrics import float_queries as module, list_average_precision, recall_at_k
from brcd_lightning.metrics.float_queries import FloatQueries, ScoreFunctions, values_per_float_query
from conftest import random_codes

FUNCTIONS = ScoreFunctions(
    of_database={"map": lambda lists, k: list_average_precision(lists.relevance, k), "recall": recall_at_k},
    of_rescored={"rescored": lambda lists, k: list_average_precision(lists.relevance, k)},
    need_totals=True,
)


def slow_values(values, codes, query_labels, database_labels, k):
    """The three values of every query by sorting in loops; quarters sum exactly."""
    relevance = (
        (query_labels[:, None] == database_labels) if query_labels.ndim == 1 else query_labels @ database_labels.T > 0
    )
    rows = {"map": [], "recall": [], "rescored": []}
    for value, relevant in zip(values, relevance.tolist(), strict=True):
        scores = [float((value * code).sum()) for code in codes]
        distances = hamming_distance(sign(value)[None].long(), codes)[0].tolist()
        nearest = sorted(range(len(codes)), key=lambda row: distances[row])
        for name, candidates in (("map", range(len(codes))), ("rescored", nearest[: 10 * k])):
            hits = [relevant[row] for row in sorted(candidates, key=lambda row: -scores[row])[:k]]
            precisions = [sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit]
            rows[name].append(sum(precisions) / max(1, len(precisions)))
            if name == "map":
                rows["recall"].append(sum(hits) / max(1, sum(relevant)))
    return {name: torch.tensor(each, dtype=torch.float64) for name, each in rows.items()}


@pytest.fixture(params=["classes", "multi_hot"])
def material(request, generator):
    values = torch.randint(-4, 5, (13, 10), generator=generator) / 4
    codes = random_codes(170, 10, generator)
    if request.param == "classes":
        labels = [torch.randint(0, 6, (n,), generator=generator) for n in (13, 170)]
    else:
        labels = [(torch.rand(n, 5, generator=generator) < 0.2).long() for n in (13, 170)]
    return values, codes, *labels


@pytest.mark.parametrize("budget", [1, 1 << 27])
@pytest.mark.parametrize("k", [1, 5, 500])
def test_values_equal_a_slow_loop(material, k, budget, monkeypatch):
    monkeypatch.setattr(module, "MEMORY_BUDGET", budget)
    values, codes, *labels = material
    found = values_per_float_query(FloatQueries(sign(values), values), codes, *labels, k, FUNCTIONS)
    packed = values_per_float_query(FloatQueries(pack(sign(values)), values), pack(codes), *labels, k, FUNCTIONS)
    for name, expected in slow_values(*material, k).items():
        assert torch.allclose(found[name], expected, atol=1e-12), name
        assert torch.equal(packed[name], found[name])


def test_mistakes_are_named(material):
    values, codes, queries, database = material
    good = FloatQueries(sign(values), values)
    for arguments, message in (
        ((good, codes, queries[:4], database), "query needs one label per row, got 13 rows and 4 labels"),
        ((good, codes[:0], queries, database[:0]), "database needs one label per row, got 0 rows"),
        ((good, codes[:, :9], queries, database), "database_codes must have 10 bits, got 9"),
        ((FloatQueries(sign(values)[:, :9], values), codes, queries, database), "query_codes must have 10 bits, got 9"),
    ):
        with pytest.raises(InputError, match=message):
            values_per_float_query(*arguments, 3, FUNCTIONS)


def test_a_function_without_a_value_for_each_query_is_named(material):
    values, codes, *labels = material
    mean = ScoreFunctions(of_database={"mean": lambda lists, k: lists.relevance.double().mean()})
    with pytest.raises(TypeError, match="mean must return one value per query"):
        values_per_float_query(FloatQueries(sign(values), values), codes, *labels, 3, mean)
