import pytest
import torch

from both_devices import DEVICES, difference, metrics
from brcd_lightning.errors import InputError
from brcd_lightning.metrics import (
    average_precisions_by_ties,
    float_queries,
    list_average_precision,
    per_query,
    precision_at_k,
    ranked_lists,
    recall_at_k,
    zero_hit_rate,
)
from brcd_lightning.metrics.declared import (
    COLUMNS,
    FLOAT_COLUMNS,
    REPORTED,
    VALIDATED,
    ListMetric,
    ScoreMetric,
    TieMetric,
    reported_values,
)
from brcd_lightning.metrics.float_queries import FloatQueries, ScoreFunctions, values_per_float_query
from brcd_lightning.search import nearest_by_values, nearest_codes
from conftest import random_codes


@pytest.fixture
def query_values(generator):
    return torch.randn(40, 8, generator=generator).tanh()


@pytest.fixture
def split(generator):
    codes = [random_codes(n, 8, generator) for n in (40, 300)]
    labels = [torch.randint(0, 30, (n,), generator=generator) for n in (40, 300)]
    return (*codes, *labels)


def test_keys_and_titles_are_those_of_results():
    """Of mAP and its companions; a metric of one's own is declared behind them, without a line here."""
    own = REPORTED[:5]
    names = ["map", "map_expected", "map_zero_hit_rate", "map_float", "map_rescored"]
    assert [metric.name for metric in own] == names
    assert [metric.key("sshp") for metric in own] == [name.replace("map", "map_sshp") for name in names]
    assert [metric.whole_ties for metric in own] == [False, True, False, False, False]
    assert (VALIDATED[0], COLUMNS[0]) == (own[0], own[0])
    assert COLUMNS[0].title_at(100) == "mAP@100"


def test_no_two_metrics_share_a_key():
    for pair in ("", "sshp"):
        assert len({metric.key(pair) for metric in REPORTED}) == len(REPORTED)


@pytest.mark.parametrize("k", [1, 10, 500])
def test_values_equal_the_functions_by_themselves(split, k, query_values):
    values = reported_values(*split, k, query_values=query_values)
    by_ties = average_precisions_by_ties(*split, k)
    assert list(values) == [metric.name for metric in REPORTED]
    assert torch.equal(values["map"], by_ties["stable"])
    assert torch.equal(values["map_expected"], by_ties["expected"])
    assert torch.equal(values["map_zero_hit_rate"], (by_ties["stable"] == 0).double())
    lists = ranked_lists(nearest_codes(*split[:2], k)[1], *split[2:])
    assert values["map_zero_hit_rate"].mean() == zero_hit_rate(lists, k)
    assert torch.equal(reported_values(*split, k, VALIDATED)["map"], values["map"])
    queries = FloatQueries(split[0], query_values)
    functions = ScoreFunctions(of_database={"map_float": map_at_k}, of_rescored={"map_rescored": map_at_k})
    for name, expected in values_per_float_query(queries, *split[1:], k, functions).items():
        assert torch.equal(values[name], expected)


def map_at_k(lists, k):
    return list_average_precision(lists.relevance, k)


def test_metrics_of_float_queries_stand_apart():
    assert [metric.name for metric in FLOAT_COLUMNS] == ["map_float", "map_rescored"]
    assert not set(FLOAT_COLUMNS) & set(COLUMNS + VALIDATED)
    assert all("float queries" in metric.title for metric in FLOAT_COLUMNS)


def test_a_score_metric_needs_values(split):
    with pytest.raises(InputError, match="map_float needs query_values"):
        reported_values(*split, 7)


def counted_searches(monkeypatch):
    calls = []

    def counted(search):
        return lambda *arguments: calls.append(arguments[-1]) or search(*arguments)

    for name in ("nearest_codes", "nearest_groups"):
        monkeypatch.setattr(per_query, name, counted(getattr(per_query, name)))
    return calls


def test_all_metrics_of_hamming_distances_share_one_search(split, query_values, monkeypatch):
    calls = counted_searches(monkeypatch)
    reported_values(*split, 300, query_values=query_values)
    assert calls == [300]


def test_validation_does_not_search_beyond_k(split, monkeypatch):
    calls = counted_searches(monkeypatch)
    reported_values(*split, 10, VALIDATED)
    assert calls == [10]


@pytest.mark.parametrize("budget", [1, 1 << 29])
def test_a_further_metric_is_one_entry(split, query_values, budget, monkeypatch):
    for module in (per_query, float_queries):
        monkeypatch.setattr(module, "MEMORY_BUDGET", budget)
    further = (
        ListMetric(prefix="precision", title="P@{k}", per_query=precision_at_k, in_tables=True),
        ListMetric(prefix="recall", title="R@{k}", per_query=recall_at_k, needs_totals=True),
        ScoreMetric(prefix="float_recall", title="R@{k}", per_query=recall_at_k, needs_totals=True),
        TieMetric(prefix="depth", title="items counted", per_query=lambda counts, k: counts.items.sum(dim=1).double()),
    )
    values = reported_values(*split, 7, (*REPORTED, *further), query_values)
    by_score = ranked_lists(nearest_by_values(query_values, split[1], 7)[1], *split[2:])
    assert torch.equal(values["float_recall"], recall_at_k(by_score, 7))
    lists = ranked_lists(nearest_codes(*split[:2], 7)[1], *split[2:])
    assert torch.equal(values["precision"], precision_at_k(lists, 7))
    assert torch.equal(values["recall"], recall_at_k(lists, 7))
    assert (values["depth"] >= 7).all()
    assert further[0].key("ashp") == "precision_ashp"


def test_a_function_without_a_value_for_each_query_is_named(split):
    mean = ListMetric(prefix="mean", title="mean", per_query=lambda lists, k: precision_at_k(lists, k).mean())
    with pytest.raises(TypeError, match="mean must return one value per query"):
        reported_values(*split, 7, (mean,))


@pytest.mark.parametrize("device", DEVICES)
def test_a_gpu_gives_the_same_values_of_every_metric(device):
    assert difference(metrics(device), metrics("cpu")) < 1e-9
