import json

import pytest
import torch

from brcd_lightning.codes import pack
from brcd_lightning.errors import InputError
from brcd_lightning.metrics import (
    individual_sample_distance,
    individual_sample_distances,
    neighbor_relevance_accuracies,
    neighbor_relevance_accuracy,
    offset_positive_rate,
    offset_positives,
)
from conftest import VECTORS


@pytest.fixture(scope="module")
def vector():
    v = json.loads((VECTORS / "hash.json").read_text())["alignment"]
    return v | {key: torch.tensor(v[key]) for key in ("student", "teacher", "labels")}


def test_isd(vector):
    student, teacher = vector["student"], vector["teacher"]
    assert individual_sample_distance(student, teacher).item() == pytest.approx(vector["ISD"]["float"], abs=1e-9)
    assert individual_sample_distance(student, student).item() == 0
    assert individual_sample_distance(student, -student).item() == student.shape[1]


@pytest.mark.parametrize("own", ["with_self", "no_self"])
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize(("ties", "key"), [("stable", "normalised_stable"), ("expected", "normalised_tie_aware")])
def test_nra(vector, own, k, ties, key):
    value = neighbor_relevance_accuracy(
        vector["student"], vector["teacher"], vector["labels"], k, exclude_self=own == "no_self", ties=ties
    )
    assert value.item() == pytest.approx(vector["NRA"][f"K{k}_{own}"][key]["float"], abs=1e-9)


def test_nra_refuses_more_neighbours_than_there_are(vector):
    with pytest.raises(InputError, match="k must be at most the 3 candidates, got 4"):
        neighbor_relevance_accuracy(vector["student"], vector["teacher"], vector["labels"], 4, exclude_self=True)


@pytest.mark.parametrize("distance", ["euclid", "sign"])
def test_opr(distance):
    v = json.loads((VECTORS / "hash.json").read_text())["opr"]
    codes, views, centroids = (torch.tensor(v[key]) for key in ("codes", "codes_aug", "centroids"))
    rate = offset_positive_rate(codes, views, centroids, distance=distance)
    assert rate.item() == pytest.approx(v[distance]["OPR"]["float"], abs=1e-9)
    assert offset_positive_rate(codes, codes, centroids, distance=distance).item() == 0


def test_unpaired_codes_are_refused():
    with pytest.raises(InputError, match="same shape"):
        individual_sample_distance(torch.ones(2, 4), torch.ones(3, 4))


def test_values_of_each_image(vector):
    student, teacher, labels = vector["student"], vector["teacher"], vector["labels"]
    assert individual_sample_distances(student, teacher).tolist() == [1, 0, 1, 6]
    each = neighbor_relevance_accuracies(student, teacher, labels, 2)
    assert each.shape == (4,)
    assert each.mean() == neighbor_relevance_accuracy(student, teacher, labels, 2)
    assert offset_positives(teacher, teacher, teacher[:2].double()).tolist() == [False] * 4


def test_packed_codes_give_the_same(vector):
    student, teacher, labels = vector["student"], vector["teacher"], vector["labels"]
    packed = pack(student), pack(teacher)
    assert individual_sample_distance(*packed) == individual_sample_distance(student, teacher)
    for options in ({}, {"exclude_self": True}, {"ties": "stable"}):
        value = neighbor_relevance_accuracy(student, teacher, labels, 2, **options)
        assert neighbor_relevance_accuracy(*packed, labels, 2, **options) == value


def test_logits_and_missing_labels_are_refused(vector):
    student, teacher = vector["student"], vector["teacher"]
    with pytest.raises(InputError, match="binarise"):
        individual_sample_distance(student * 0.3, teacher)
    with pytest.raises(InputError, match="got 4 images and 3 labels"):
        neighbor_relevance_accuracy(student, teacher, vector["labels"][:3], 2)


@pytest.mark.parametrize("codes", [[[1, -1]], torch.ones(0, 8)])
def test_codes_of_no_images_are_refused(codes):
    with pytest.raises(InputError, match="codes must"):
        individual_sample_distance(codes, codes)
