import pytest
import torch

from brcd_lightning.metrics import (
    average_precisions_by_ties,
    per_query,
    precision_at_k,
    ranked_lists,
    recall_at_k,
    zero_hit_rate,
)
from brcd_lightning.metrics.declared import COLUMNS, REPORTED, VALIDATED, ListMetric, TieMetric, reported_values
from brcd_lightning.search import nearest_codes
from conftest import random_codes


@pytest.fixture
def split(generator):
    codes = [random_codes(n, 8, generator) for n in (40, 300)]
    labels = [torch.randint(0, 30, (n,), generator=generator) for n in (40, 300)]
    return (*codes, *labels)


def test_keys_and_titles_are_those_of_results():
    """Of mAP and its companions; a metric of one's own is declared behind them, without a line here."""
    own = REPORTED[:3]
    assert [metric.key("sshp") for metric in own] == ["map_sshp", "map_sshp_expected", "map_sshp_zero_hit_rate"]
    assert [metric.name for metric in own] == ["map", "map_expected", "map_zero_hit_rate"]
    assert [metric.whole_ties for metric in own] == [False, True, False]
    assert (VALIDATED[0], COLUMNS[0]) == (own[0], own[0])
    assert COLUMNS[0].title_at(100) == "mAP@100"


def test_no_two_metrics_share_a_key():
    for pair in ("", "sshp"):
        assert len({metric.key(pair) for metric in REPORTED}) == len(REPORTED)


@pytest.mark.parametrize("k", [1, 10, 500])
def test_values_equal_the_functions_by_themselves(split, k):
    values = reported_values(*split, k)
    by_ties = average_precisions_by_ties(*split, k)
    assert list(values) == [metric.name for metric in REPORTED]
    assert torch.equal(values["map"], by_ties["stable"])
    assert torch.equal(values["map_expected"], by_ties["expected"])
    assert torch.equal(values["map_zero_hit_rate"], (by_ties["stable"] == 0).double())
    lists = ranked_lists(nearest_codes(*split[:2], k)[1], *split[2:])
    assert values["map_zero_hit_rate"].mean() == zero_hit_rate(lists, k)
    assert torch.equal(reported_values(*split, k, VALIDATED)["map"], values["map"])


def counted_searches(monkeypatch):
    calls = []

    def search(*arguments):
        calls.append(arguments[-1])
        return nearest_codes(*arguments)

    monkeypatch.setattr(per_query, "nearest_codes", search)
    return calls


def test_all_metrics_share_one_search(split, monkeypatch):
    calls = counted_searches(monkeypatch)
    reported_values(*split, 300)
    assert calls == [300]


def test_validation_does_not_search_beyond_k(split, monkeypatch):
    calls = counted_searches(monkeypatch)
    reported_values(*split, 10, VALIDATED)
    assert calls == [10]


@pytest.mark.parametrize("budget", [1, 1 << 29])
def test_a_further_metric_is_one_entry(split, budget, monkeypatch):
    monkeypatch.setattr(per_query, "MEMORY_BUDGET", budget)
    further = (
        ListMetric(prefix="precision", title="P@{k}", per_query=precision_at_k, in_tables=True),
        ListMetric(prefix="recall", title="R@{k}", per_query=recall_at_k, needs_totals=True),
        TieMetric(prefix="depth", title="items counted", per_query=lambda counts, k: counts.items.sum(dim=1).double()),
    )
    values = reported_values(*split, 7, (*REPORTED, *further))
    lists = ranked_lists(nearest_codes(*split[:2], 7)[1], *split[2:])
    assert torch.equal(values["precision"], precision_at_k(lists, 7))
    assert torch.equal(values["recall"], recall_at_k(lists, 7))
    assert (values["depth"] >= 7).all()
    assert further[0].key("ashp") == "precision_ashp"


def test_a_function_without_a_value_for_each_query_is_named(split):
    mean = ListMetric(prefix="mean", title="mean", per_query=lambda lists, k: precision_at_k(lists, k).mean())
    with pytest.raises(TypeError, match="mean must return one value per query"):
        reported_values(*split, 7, (mean,))
