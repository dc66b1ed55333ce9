import pytest
import torch

from brcd_lightning.codes import hamming_distance, pack
from brcd_lightning.errors import InputError
from brcd_lightning.metrics import distance_histograms, per_query
from brcd_lightning.metrics.lists import relevant_totals
from brcd_lightning.metrics.per_query import RankingFunctions, values_per_query
from conftest import random_codes


@pytest.fixture
def split(generator):
    codes = [random_codes(n, 6, generator) for n in (12, 90)]
    labels = [torch.randint(0, 4, (n,), generator=generator) for n in (12, 90)]
    return (*codes, *labels)


@pytest.mark.parametrize("budget", [1, 1 << 29])
@pytest.mark.parametrize("k", [1, 10, 89, 500])
def test_functions_see_the_ranking_of_each_query(split, k, budget, monkeypatch):
    monkeypatch.setattr(per_query, "MEMORY_BUDGET", budget)
    functions = RankingFunctions(
        of_lists={
            "hits": lambda lists, k: lists.relevance.sum(dim=1).double(),
            "total": lambda lists, k: lists.total.double(),
        },
        of_ties={"total_too": lambda counts, k: counts.total.double()},
        need_totals=True,
    )
    values = values_per_query(*split, k, functions)
    queries, database, q_labels, d_labels = split
    order = hamming_distance(queries, database).argsort(dim=1, stable=True)[:, :k]
    assert values["hits"].tolist() == (d_labels[order] == q_labels[:, None]).sum(dim=1).tolist()
    for name in ("total", "total_too"):
        assert values[name].tolist() == relevant_totals(q_labels, d_labels).tolist()


@pytest.mark.parametrize("k", [1, 10, 60])
def test_counts_are_complete_up_to_the_distance_at_k(split, k):
    seen = []
    functions = RankingFunctions(of_ties={"x": lambda counts, k: seen.append(counts) or counts.items[:, 0].double()})
    values_per_query(*split, k, functions)
    (counts,), whole = seen, distance_histograms(*split)
    assert counts.total is None
    needed = whole.items.cumsum(dim=1) - whole.items < k
    for found, expected in ((counts.items, whole.items), (counts.relevant, whole.relevant)):
        assert torch.equal(found[:, :7][needed], expected[needed])
        assert not found[:, 7:].any()  # distances that only padding bits could make


def test_packed_codes_have_the_same_values(split):
    functions = RankingFunctions(of_lists={"hits": lambda lists, k: lists.relevance.sum(dim=1).double()})
    queries, database, *labels = split
    plain = values_per_query(queries, database, *labels, 10, functions)["hits"]
    assert torch.equal(values_per_query(pack(queries), pack(database), *labels, 10, functions)["hits"], plain)


def test_an_empty_side_is_refused(split):
    queries, database, q_labels, d_labels = split
    with pytest.raises(InputError, match="query needs one label per row, got 0 rows and 0 labels"):
        values_per_query(queries[:0], database, q_labels[:0], d_labels, 3, RankingFunctions())
