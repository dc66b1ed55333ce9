import json
from itertools import permutations, product

import pytest
import torch

from brcd_lightning.codes import hamming_distance
from brcd_lightning.errors import InputError
from brcd_lightning.metrics import (
    RankedLists,
    average_precision,
    distance_histograms,
    expected_precision_at_k,
    expected_recall_at_k,
    list_average_precision,
    mean_average_precision,
    precision_at_k,
    precision_curve,
    ranked_lists,
    recall_at_k,
    relevance_of,
    zero_hit_rate,
    zero_hits,
)
from brcd_lightning.metrics.declared import REPORTED, reported_values
from brcd_lightning.metrics.lists import relevance_matrix, relevant_totals
from brcd_lightning.search import HammingIndex, nearest_codes
from conftest import VECTORS, clustered_codes, random_codes


@pytest.fixture(scope="module")
def vector():
    v = json.loads((VECTORS / "hash.json").read_text())["retrieval"]
    names = {"query_codes": "queries", "db_codes": "database", "query_labels": "q_labels", "db_labels": "d_labels"}
    return v | {name: torch.tensor(v[key]) for key, name in names.items()}


def lists_of(v, k):
    _, positions = nearest_codes(v["queries"], v["database"], k)
    return ranked_lists(positions, v["q_labels"], v["d_labels"])


def test_lists_equal_the_vectors(vector):
    for k, expected in vector["K"].items():
        lists = lists_of(vector, int(k))
        value = list_average_precision(lists.relevance, int(k), "all", lists.total).mean()
        assert value.item() == pytest.approx(expected["stable_mAP"]["all"]["float"], abs=1e-9)


@pytest.mark.parametrize("k", [1, 3, 8, 20])
def test_precision_and_recall_equal_a_count_by_hand(vector, k):
    lists = lists_of(vector, 20)
    relevant = (vector["q_labels"][:, None] & vector["d_labels"][None]).any(dim=2)
    distances = (vector["queries"][:, None] != vector["database"][None]).sum(dim=2)
    for q in range(len(relevant)):
        ranking = sorted(range(8), key=lambda d: (distances[q, d].item(), d))[:k]
        hits = sum(relevant[q, d].item() for d in ranking)
        assert precision_at_k(lists, k)[q].item() == pytest.approx(hits / k, abs=1e-12)
        assert recall_at_k(lists, k)[q].item() == pytest.approx(hits / relevant[q].sum().item(), abs=1e-12)
        assert lists.total[q] == relevant[q].sum()
    curve = precision_curve(lists)
    if k <= 8:
        assert curve[k - 1].item() == pytest.approx(precision_at_k(lists, k).mean().item(), abs=1e-12)


def loop_over_orders(distances, relevant, k):
    """P@K and R@K by counting hits place by place, mean over all orders of equal distances; P@K divides by K always."""
    groups = {d: [i for i in range(len(distances)) if distances[i] == d] for d in sorted(set(distances))}
    orders = [[place for group in order for place in group] for order in product(*map(permutations, groups.values()))]
    hits = sum(sum(relevant[place] for place in order[:k]) for order in orders) / len(orders)
    return hits / k, hits / max(1, sum(relevant))


@pytest.mark.parametrize("k", [1, 2, 5, 6, 7, 50])
def test_precision_and_recall_equal_a_loop_also_beyond_the_database(k, generator):
    queries, database = random_codes(5, 4, generator), random_codes(6, 4, generator)
    q_labels, d_labels = (torch.randint(0, 3, (n,), generator=generator) for n in (5, 6))
    lists = ranked_lists(nearest_codes(queries, database, 6)[1], q_labels, d_labels)
    histograms = distance_histograms(queries, database, q_labels, d_labels)
    distances, relevance = hamming_distance(queries, database), relevance_matrix(q_labels, d_labels)
    for q in range(5):
        row, relevant = distances[q].tolist(), relevance[q].tolist()
        precision, recall = loop_over_orders(row, relevant, k)
        assert expected_precision_at_k(histograms, k)[q].item() == pytest.approx(precision, abs=1e-12)
        assert expected_recall_at_k(histograms, k)[q].item() == pytest.approx(recall, abs=1e-12)
        precision, recall = loop_over_orders([6 * d + place for place, d in enumerate(row)], relevant, k)  # stable
        assert precision_at_k(lists, k)[q].item() == pytest.approx(precision, abs=1e-12)
        assert recall_at_k(lists, k)[q].item() == pytest.approx(recall, abs=1e-12)


@pytest.mark.parametrize("metric", [precision_at_k, recall_at_k, zero_hits, zero_hit_rate])
def test_a_list_that_was_cut_before_the_k_th_place_is_refused(metric):
    lists = ranked_lists(torch.tensor([[0, 1, 2]]), torch.tensor([0]), torch.tensor([0, 1, 0, 0, 1]))
    metric(lists, 3)
    with pytest.raises(InputError, match="length of the lists, 3, got 4; retrieve more of the 5 database items"):
        metric(lists, 4)
    with pytest.raises(InputError, match="length of the lists, 3, got 4; retrieve more, or give database_size"):
        metric(RankedLists(lists.relevance, lists.total), 4)
    assert precision_curve(lists).tolist() == pytest.approx([1, 1 / 2, 2 / 3])


def test_average_precision_of_a_cut_list_is_refused():
    lists = ranked_lists(torch.tensor([[0, 1, 2]]), torch.tensor([0]), torch.tensor([0, 1, 0, 0, 1]))
    (map_at_k,) = (metric for metric in REPORTED if metric.name == "map")
    assert map_at_k.per_query(lists, 3).tolist() == pytest.approx([(1 + 2 / 3) / 2])
    with pytest.raises(InputError, match="length of the lists, 3, got 4"):
        map_at_k.per_query(lists, 4)


def test_without_ties_both_tie_rules_agree():
    database = torch.ones(4, 4, dtype=torch.long).triu() * 2 - 1  # distances 0, 1, 2, 3 from the first
    labels = torch.tensor([1, 0, 1, 1])
    arguments = (database[:1], database, torch.tensor([1]), labels)
    lists = ranked_lists(nearest_codes(database[:1], database, 4)[1], *arguments[2:])
    for k in range(1, 5):
        expected = expected_precision_at_k(distance_histograms(*arguments), k)
        assert torch.equal(precision_at_k(lists, k), expected)


def test_zero_hits_are_counted():
    lists = ranked_lists(torch.tensor([[0, 1], [1, 0]]), torch.tensor([0, 7]), torch.tensor([0, 1]))
    assert zero_hit_rate(lists, 2).item() == 0.5
    assert recall_at_k(lists, 2).tolist() == [1, 0]
    assert zero_hit_rate(ranked_lists(torch.tensor([[1]]), torch.tensor([0]), torch.tensor([0, 1])), 1).item() == 1


@pytest.mark.parametrize("multi_hot", [False, True])
def test_totals_equal_the_matrix(multi_hot, generator):
    shape = (4,) if multi_hot else ()
    q_labels, d_labels = (torch.randint(0, 2 if multi_hot else 6, (n, *shape), generator=generator) for n in (9, 30))
    q_labels[0] = 0 if multi_hot else 99
    assert relevant_totals(q_labels, d_labels).tolist() == relevance_matrix(q_labels, d_labels).sum(dim=1).tolist()


def test_results_of_an_index_are_judged_like_those_of_a_scan(generator):
    codes, labels = clustered_codes(500, 32, generator), torch.randint(0, 5, (500,), generator=generator)
    found = HammingIndex.build(codes, kind="flat").search(codes[:40], 60)
    lists = ranked_lists(found.ids, labels[:40], labels)
    expected = mean_average_precision(codes[:40], codes, labels[:40], labels, 60)
    assert list_average_precision(lists.relevance, 60).mean().item() == pytest.approx(expected.item(), abs=1e-12)


def test_empty_slots_are_refused(generator):
    codes, labels = random_codes(300, 64, generator), torch.zeros(300)
    found = HammingIndex.build(codes, kind="multi_hash", flips=0).search(-codes[:10], 200)
    with pytest.raises(InputError, match="10 of 10 queries have empty slots among their 200 results"):
        ranked_lists(found.ids, labels[:10], labels)


def test_the_total_is_asked_for():
    with pytest.raises(InputError, match="normalizer min needs the total"):
        list_average_precision(torch.ones(1, 3, dtype=torch.bool), 3, "min")


def test_label_kinds_must_agree():
    with pytest.raises(InputError, match="both be class indices, both be multi-hot, or be lists of ids"):
        relevance_of(torch.zeros(2), torch.zeros(3, 2), torch.zeros(2, 1, dtype=torch.long))


@pytest.mark.parametrize(
    ("queries", "database", "message"),
    [
        (torch.ones(5, 1), torch.ones(9, 3), "same classes, got shapes .5, 1. and .9, 3."),
        (torch.ones(5, 1, 1), torch.ones(9, 1, 1), "must be .rows, classes."),
    ],
)
def test_labels_of_other_widths_are_refused(queries, database, message):
    with pytest.raises(InputError, match=message):
        relevance_of(queries, database, torch.zeros(5, 2, dtype=torch.long))


def test_positions_must_fit_their_labels():
    with pytest.raises(InputError, match="got 3 queries and 1 labels"):
        ranked_lists(torch.zeros(3, 4, dtype=torch.long), torch.zeros(1), torch.zeros(9))
    with pytest.raises(InputError, match="below the 9 database labels, got 70"):
        ranked_lists(torch.tensor([[70]]), torch.zeros(1), torch.zeros(9))


@pytest.fixture
def listed(generator):
    """Codes, lists of relevant ids, some of them short or empty, and a database of ids in no order."""
    queries, database = random_codes(12, 8, generator), random_codes(60, 8, generator)
    ids = 3 * torch.randperm(60, generator=generator)
    lists = torch.stack([torch.randperm(200, generator=generator)[:9] for _ in range(12)])  # most are no ids at all
    lists[:, :4] = ids[torch.stack([torch.randperm(60, generator=generator)[:4] for _ in range(12)])]
    lists = torch.stack([row if len(set(row.tolist())) == 9 else torch.arange(9) * 3 for row in lists])
    lists[3, 5:] = -1
    lists[4] = -1
    return queries, database, lists, ids


def loop_over_lists(lists, ids):
    """Relevance by looking every id up in every list."""
    return torch.tensor(
        [[item in [each for each in row if each >= 0] for item in ids.tolist()] for row in lists.tolist()]
    )


def test_lists_of_ids_equal_a_loop(listed):
    queries, database, lists, ids = listed
    expected = loop_over_lists(lists, ids)
    assert expected.any(dim=1).tolist() == [row != 4 for row in range(12)]
    assert torch.equal(relevance_matrix(lists, ids), expected)
    assert torch.equal(relevant_totals(lists, ids), expected.sum(dim=1))
    positions = nearest_codes(queries, database, 20)[1]
    assert torch.equal(relevance_of(lists, ids, positions), expected.gather(1, positions))
    assert torch.equal(relevance_of(lists.int(), ids.int(), positions), expected.gather(1, positions))


@pytest.mark.parametrize("k", [1, 7, 60, 90])
def test_metrics_of_lists_of_ids_equal_those_of_their_relevance(listed, k):
    queries, database, lists, ids = listed
    relevance = loop_over_lists(lists, ids)
    distances = hamming_distance(queries, database)
    values = reported_values(queries, database, lists, ids, k, query_values=queries.double())
    for name, ties in (("map", "stable"), ("map_expected", "expected")):
        assert torch.allclose(values[name], average_precision(distances, relevance, k, ties=ties), atol=1e-12)
    for q in range(12):
        ranking = sorted(range(60), key=lambda d: (distances[q, d].item(), d))[:k]
        hits, total = sum(relevance[q, d].item() for d in ranking), relevance[q].sum().item()
        assert values["recall"][q].item() == pytest.approx(hits / max(1, total), abs=1e-12)
    histograms = distance_histograms(queries, database, lists, ids)
    assert torch.equal(histograms.relevant.sum(dim=1), relevance.sum(dim=1))


def test_a_negative_id_is_never_relevant():
    assert not relevance_matrix(torch.tensor([[-1, 4]]), torch.tensor([-1, 5])).any()
    assert relevant_totals(torch.tensor([[-1, 4]]), torch.tensor([-1, 4, 4])).tolist() == [2]


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (torch.tensor([[0, 1, 0]]), "multi-hot query_labels need multi-hot database_labels"),
        (torch.zeros(1, 0, dtype=torch.long), "whole numbers"),
        (torch.ones(1, 2), "whole numbers, got torch.float32"),
    ],
)
def test_wrong_lists_are_refused(lists, message):
    with pytest.raises(InputError, match=message):
        relevance_matrix(lists, torch.arange(4))


@pytest.mark.parametrize(
    ("queries", "database", "message"),
    [
        ([0, 1], torch.tensor([0, 1, 1]), "query_labels must be a tensor, got list"),
        (torch.tensor([0.5, 1]), torch.tensor([0, 1, 1]), "query_labels must be whole numbers of at least 0"),
        (torch.tensor([0, 1]), torch.tensor([0, -1, 1]), "database_labels must be whole numbers of at least 0"),
        (torch.tensor([[0, 1], [1, 2]]), torch.ones(3, 2), "query_labels of shape .* must hold only 0 and 1"),
        (torch.ones(2, 2), torch.full((3, 2), float("nan")), "database_labels of shape .* must hold only 0 and 1"),
        (torch.tensor([[0], [1]]), torch.tensor([[0], [1], [2]]), "database_labels .* must hold only 0 and 1"),
    ],
)
def test_values_that_are_no_labels_are_refused(queries, database, message):
    with pytest.raises(InputError, match=message):
        ranked_lists(torch.tensor([[0, 1], [2, 0]]), queries, database)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (torch.tensor([[0, 0, 1]]), "positions must be distinct"),
        (torch.tensor([[0.0, 1.0]]), r"positions must be \(queries, K\) integers"),
        (torch.tensor([0, 1]), r"positions must be \(queries, K\) integers"),
    ],
)
def test_positions_are_distinct_integers(positions, message):
    with pytest.raises(InputError, match=message):
        ranked_lists(positions, torch.tensor([1]), torch.tensor([1, 0]))
