import json

import pytest
import torch

from brcd_lightning.codes import hamming_distance, pack
from brcd_lightning.errors import InputError
from brcd_lightning.metrics import (
    distance_histograms,
    expected_precision_at_k,
    expected_recall_at_k,
    precision_recall_by_radius,
    precision_within_radius,
)
from conftest import VECTORS, random_codes


@pytest.fixture(scope="module")
def vector():
    return json.loads((VECTORS / "hash.json").read_text())["retrieval"]


@pytest.fixture(scope="module")
def histograms(vector):
    arguments = [torch.tensor(vector[name]) for name in ("query_codes", "db_codes", "query_labels", "db_labels")]
    return distance_histograms(*arguments)


def test_counts_equal_a_loop(generator):
    queries, database = random_codes(7, 9, generator), random_codes(50, 9, generator)
    q_labels, d_labels = (torch.randint(0, 3, (n,), generator=generator) for n in (7, 50))
    distances = hamming_distance(queries, database)
    for budget in (1, 1 << 29):
        items, relevant = distance_histograms(queries, database, q_labels, d_labels, memory_budget=budget)
        for q in range(7):
            for distance in range(10):
                at = distances[q] == distance
                assert items[q, distance] == at.sum()
                assert relevant[q, distance] == (at & (d_labels == q_labels[q])).sum()


@pytest.mark.parametrize("average", ["macro", "micro", "nonzero"])
def test_curves_equal_the_vectors(vector, histograms, average):
    curve = precision_recall_by_radius(histograms, average)
    assert curve.precision.tolist() == pytest.approx(vector["pr_by_radius"][f"{average}_P"], abs=1e-9)
    assert curve.recall.tolist() == pytest.approx(vector["pr_by_radius"][f"{average}_R"], abs=1e-9)


def test_precision_at_k_equals_the_vectors(vector, histograms):
    for k, expected in vector["K"].items():
        value = expected_precision_at_k(histograms, int(k)).mean().item()
        assert value == pytest.approx(expected["expected_precision_at_K"]["float"], abs=1e-9)


def test_recall_of_the_whole_database_is_one(histograms):
    assert expected_recall_at_k(histograms, 8).tolist() == pytest.approx([1, 1, 1])


def test_precision_within_radius(vector, histograms):
    precision, empty = precision_within_radius(histograms, 2)
    assert precision.mean().item() == pytest.approx(vector["precision_within_radius_2_macro"], abs=1e-9)
    assert empty.item() == 0
    assert precision_within_radius(histograms, 0)[1].item() == pytest.approx(2 / 3)
    with pytest.raises(InputError, match="radius must be an integer of at least 0, got -1"):
        precision_within_radius(histograms, -1)


@pytest.mark.parametrize("bits", [1, 9, 12, 16])
@pytest.mark.parametrize("average", ["macro", "micro", "nonzero"])
def test_packed_codes_give_the_same_counts_and_curves(bits, average, generator):
    queries, database = random_codes(5, bits, generator), random_codes(40, bits, generator)
    labels = [torch.randint(0, 3, (n,), generator=generator) for n in (5, 40)]
    plain = distance_histograms(queries, database, *labels)
    packed = distance_histograms(pack(queries), pack(database), *labels, bits=bits)
    assert plain.items.shape == (5, bits + 1)
    for one, other in zip(plain, packed, strict=True):
        assert torch.equal(one, other)
    curves = [precision_recall_by_radius(histograms, average) for histograms in (plain, packed)]
    for one, other in zip(*curves, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(distance_histograms(queries, database, *labels, bits=bits).items, plain.items)


def test_codes_must_have_the_bits_that_are_given(generator):
    codes, labels = random_codes(4, 9, generator), torch.zeros(4)
    with pytest.raises(InputError, match="query_codes must have 12 bits, got 9"):
        distance_histograms(codes, codes, labels, labels, bits=12)
    with pytest.raises(InputError, match="packed query_codes of 17 bits must have 3 bytes, got 2"):
        distance_histograms(pack(codes), pack(codes), labels, labels, bits=17)
    with pytest.raises(InputError, match="packed database_codes must be 0 beyond their 9 bits"):
        distance_histograms(pack(codes), pack(codes) | 128, labels, labels, bits=9)
