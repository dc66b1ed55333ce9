import itertools
import json
from functools import partial

import pytest
import torch
from hypothesis import given, settings, strategies as st

from both_devices import DEVICES, computed
from brcd_lightning.codes import hamming_distance, pack
from brcd_lightning.errors import InputError
from brcd_lightning.metrics import (
    average_precision,
    average_precisions,
    average_precisions_by_ties,
    mean_average_precision,
    per_query,
    permuted_database,
)
from brcd_lightning.metrics.ties import NORMALIZERS
from conftest import VECTORS, random_codes


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


@pytest.fixture(scope="module")
def vectors():
    return json.loads((VECTORS / "hash.json").read_text())


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize(("ties", "key"), [("stable", "stable"), ("expected", "tie_aware")])
def test_average_precision_equals_the_vectors(vectors, normalizer, ties, key):
    for case in vectors["ap_at_k"]:
        distances, relevance = torch.tensor([case["dist"]]), torch.tensor([case["rel"]])
        value = average_precision(distances, relevance, case["K"], ties=ties, normalizer=normalizer)
        assert value.item() == pytest.approx(case[normalizer][key]["float"], abs=1e-9), case["case"]


@pytest.mark.parametrize("budget", [1, 1 << 29])
@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize(("ties", "key"), [("stable", "stable_mAP"), ("expected", "tie_aware_mAP")])
def test_map_equals_the_vectors(vectors, normalizer, ties, key, budget, monkeypatch):
    monkeypatch.setattr(per_query, "MEMORY_BUDGET", budget)
    v = vectors["retrieval"]
    arguments = [torch.tensor(v[name]) for name in ("query_codes", "db_codes", "query_labels", "db_labels")]
    for k, expected in v["K"].items():
        value = mean_average_precision(*arguments, int(k), ties=ties, normalizer=normalizer)
        assert value.item() == pytest.approx(expected[key][normalizer]["float"], abs=1e-9)


def enumerate_orders(distances, relevance, k, normalizer):
    """Mean AP@K over every order of the database that keeps distances ascending."""
    groups = [[d for d in range(len(distances)) if distances[d] == level] for level in sorted(set(distances))]
    values = []
    for orders in itertools.product(*(itertools.permutations(group) for group in groups)):
        ranking = [relevance[d] for order in orders for d in order][:k]
        hits = [place for place, hit in enumerate(ranking, start=1) if hit]
        gain = sum((i + 1) / place for i, place in enumerate(hits))
        bound = {"topk": len(hits), "min": min(k, sum(relevance)), "all": sum(relevance)}[normalizer]
        values.append(gain / bound if bound else 0.0)
    return sum(values) / len(values)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_expected_equals_enumeration(data):
    size = data.draw(st.integers(1, 7))
    distances = data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    relevance = data.draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
    k, normalizer = data.draw(st.integers(1, 8)), data.draw(st.sampled_from(NORMALIZERS))
    value = average_precision(
        torch.tensor([distances]), torch.tensor([relevance]), k, ties="expected", normalizer=normalizer
    )
    assert value.item() == pytest.approx(enumerate_orders(distances, relevance, k, normalizer), abs=1e-9)


@given(seed=st.integers(0, 999), k=st.sampled_from([1, 5, 20, 200]), normalizer=st.sampled_from(NORMALIZERS))
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_database_does_not_move_expected_values(seed, k, normalizer):
    generator = torch.Generator().manual_seed(seed)
    queries, database = random_codes(6, 8, generator), random_codes(80, 8, generator)
    q_labels, d_labels = (torch.randint(0, 4, (n,), generator=generator) for n in (6, 80))
    order = torch.randperm(80, generator=generator)
    options = {"ties": "expected", "normalizer": normalizer}
    one = mean_average_precision(queries, database, q_labels, d_labels, k, **options)
    other = mean_average_precision(queries, database[order], q_labels, d_labels[order], k, **options)
    assert one.item() == pytest.approx(other.item(), abs=1e-12)
    relevance = q_labels[:, None] == d_labels[None, :]
    direct = average_precision(hamming_distance(queries, database), relevance, k, **options).mean()
    assert one.item() == pytest.approx(direct.item(), abs=1e-12)


def test_without_ties_expected_equals_stable(generator):
    distances = torch.rand(5, 40, generator=generator)
    relevance = torch.rand(5, 40, generator=generator) < 0.3
    for normalizer in NORMALIZERS:
        stable, expected = (
            average_precision(distances, relevance, 15, ties=ties, normalizer=normalizer)
            for ties in ("stable", "expected")
        )
        assert torch.allclose(stable, expected, atol=1e-12)


@pytest.mark.parametrize("k", [1, 10, 100])
@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("budget", [1, 1 << 29])
def test_both_rules_for_ties_from_one_search(k, normalizer, budget, generator, monkeypatch):
    monkeypatch.setattr(per_query, "MEMORY_BUDGET", budget)
    queries, database = random_codes(9, 6, generator), random_codes(80, 6, generator)
    labels = [torch.randint(0, 4, (n,), generator=generator) for n in (9, 80)]
    together = average_precisions_by_ties(queries, database, *labels, k, normalizer=normalizer)
    assert list(together) == ["stable", "expected"]
    for rule, values in together.items():
        assert torch.equal(values, average_precisions(queries, database, *labels, k, ties=rule, normalizer=normalizer))


@pytest.mark.parametrize("ties", ["stable", "expected"])
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_packed_codes_have_the_same_value(ties, normalizer, generator):
    queries, database = random_codes(9, 20, generator), random_codes(70, 20, generator)
    labels = [torch.randint(0, 3, (n,), generator=generator) for n in (9, 70)]
    options = {"ties": ties, "normalizer": normalizer}
    plain = mean_average_precision(queries, database, *labels, 15, **options)
    assert mean_average_precision(pack(queries), pack(database), *labels, 15, **options) == plain


def test_one_seeded_permutation_of_a_database_sorted_by_class(generator):
    queries, database = random_codes(30, 4, generator), random_codes(200, 4, generator)
    q_labels, d_labels = torch.zeros(30), torch.arange(200) // 50
    arguments = (queries, database, q_labels, d_labels, 20)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(5))
    shuffled = mean_average_precision(queries, database[order], q_labels, d_labels[order], 20)
    permuted_codes, permuted_labels = permuted_database(database, d_labels, seed=5)
    permuted = (queries, permuted_codes, q_labels, permuted_labels, 20)
    assert mean_average_precision(*permuted) == shuffled
    assert mean_average_precision(*arguments) > shuffled  # class 0 comes first: every tie favours it
    expected = [mean_average_precision(*each, ties="expected").item() for each in (arguments, permuted)]
    assert expected[0] == pytest.approx(expected[1], abs=1e-12)


@pytest.mark.parametrize("k", [0, -5])
def test_k_of_zero_is_refused(k):
    codes, labels = torch.ones(2, 4), torch.zeros(2)
    with pytest.raises(InputError, match="k must be a positive integer"):
        mean_average_precision(codes, codes, labels, labels, k)


def test_missing_labels_are_refused():
    codes = torch.ones(2, 4)
    with pytest.raises(InputError, match="database needs one label per row, got 2 rows and 3 labels"):
        mean_average_precision(codes, codes, torch.zeros(2), torch.zeros(3), 1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("ties", ["stable", "expected"])
@pytest.mark.parametrize("bits", [8, 64])
def test_a_gpu_gives_the_same(device, ties, bits, generator):
    arguments = [random_codes(n, bits, generator) for n in (50, 2000)]
    arguments += [torch.randint(0, 5, (n,), generator=generator) for n in (50, 2000)]
    for normalizer in NORMALIZERS:
        score = partial(mean_average_precision, k=300, ties=ties, normalizer=normalizer)
        expected = score(*arguments).item()
        assert computed(score, *arguments, device=device).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("ties", ["stable", "expected"])
def test_average_precision_is_of_numbers_and_zeros_and_ones(ties):
    distances, relevance = torch.rand(2, 6), torch.ones(2, 6)
    for wrong, message in (
        ((distances.tolist(), relevance), "distances must be a tensor, got list"),
        ((distances / 0 * 0, relevance), "distances must be numbers"),
        ((distances[:, :0], relevance[:, :0]), "at least one database item"),
        ((distances, 2 * relevance), "relevance must hold only 0 and 1"),
        ((distances, relevance * float("nan")), "relevance must hold only 0 and 1"),
    ):
        with pytest.raises(InputError, match=message):
            average_precision(*wrong, 3, ties=ties)
    assert average_precision(distances[:0], relevance[:0], 3, ties=ties).shape == (0,)


@pytest.mark.parametrize("seed", [-1, 1.5, "x", 2**70])
def test_a_permutation_has_a_seed(seed):
    with pytest.raises(InputError, match="seed must be"):
        permuted_database(torch.ones(3, 8), torch.arange(3), seed)
