import pytest
import torch

from brcd_lightning.codes import hamming_distance
from brcd_lightning.errors import InputError
from brcd_lightning.metrics import CodeTable, average_precision_of_ranking, mean_average_precision, relevance_of
from conftest import random_codes


def oracle(query_codes, database_codes, relevant, k):
    """mAP@K by a slow loop: distance, then database position; hits in the top K as denominator."""
    total = 0.0
    for q, distances in enumerate(hamming_distance(query_codes, database_codes).tolist()):
        ranking = sorted(range(len(distances)), key=lambda d: (distances[d], d))[:k]
        hits, score = 0, 0.0
        for place, d in enumerate(ranking, start=1):
            if relevant(q, d):
                hits += 1
                score += hits / place
        total += score / hits if hits else 0.0
    return total / len(query_codes)


@pytest.mark.parametrize("k", [1, 7, 60, 500])
def test_map_equals_the_loop_with_ties(k, generator):
    queries, database = random_codes(11, 6, generator), random_codes(60, 6, generator)
    q_labels, d_labels = (torch.randint(0, 5, (n,), generator=generator) for n in (11, 60))
    expected = oracle(queries, database, lambda q, d: q_labels[q] == d_labels[d], k)
    assert mean_average_precision(queries, database, q_labels, d_labels, k).item() == pytest.approx(expected, abs=1e-12)


def test_multi_hot_labels_share_at_least_one(generator):
    queries, database = random_codes(8, 6, generator), random_codes(30, 6, generator)
    q_labels, d_labels = (torch.randint(0, 2, (n, 4), generator=generator) for n in (8, 30))
    expected = oracle(queries, database, lambda q, d: bool((q_labels[q] & d_labels[d]).any()), 10)
    assert mean_average_precision(queries, database, q_labels, d_labels, 10).item() == pytest.approx(
        expected, abs=1e-12
    )


def test_query_without_relevant_item_counts_as_zero():
    codes = torch.tensor([[1, 1], [1, -1]])
    value = mean_average_precision(codes, codes, torch.tensor([0, 9]), torch.tensor([0, 1]), 2)
    assert value.item() == pytest.approx(0.5)


def test_average_precision_by_hand():
    relevance = torch.tensor([[True, False, True, True], [False, False, False, False]])
    assert average_precision_of_ranking(relevance).tolist() == pytest.approx([(1 + 2 / 3 + 3 / 4) / 3, 0])


def test_mixed_label_kinds_are_refused():
    with pytest.raises(InputError, match="both be class indices or both be multi-hot"):
        relevance_of(torch.zeros(2), torch.zeros(3, 2), torch.zeros(2, 1, dtype=torch.long))


@pytest.mark.parametrize("k", [0, -5])
def test_k_of_zero_is_refused(k):
    codes, labels = torch.ones(2, 4), torch.zeros(2)
    with pytest.raises(InputError, match="k must be a positive integer"):
        mean_average_precision(codes, codes, labels, labels, k)


def test_missing_labels_are_refused():
    codes = torch.ones(2, 4)
    with pytest.raises(InputError, match="database needs one label per code, got 2 codes and 3 labels"):
        mean_average_precision(codes, codes, torch.zeros(2), torch.zeros(3), 1)


def test_code_table_sorts_and_drops_doubles(generator):
    codes, labels = random_codes(6, 8, generator).to(torch.int8), torch.arange(6)
    table = CodeTable()
    for index in ([4, 1], [0, 5, 4], [2, 3, 0]):  # 4 and 0 twice, as a padding sampler would
        rows = torch.tensor(index)
        table.update(rows, codes[rows], labels[rows])
    found, found_labels = table.compute()
    assert torch.equal(found, codes)
    assert torch.equal(found_labels, labels)
