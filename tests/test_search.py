import pytest
import torch

from brcd_lightning.codes import hamming_distance
from brcd_lightning.errors import InputError
from brcd_lightning.search import _nearest_by_products, nearest_codes
from conftest import random_codes


@pytest.mark.parametrize("bits", [3, 8, 20, 64])
def test_equals_a_stable_sort_of_all_distances(bits, generator):
    queries, database = random_codes(9, bits, generator), random_codes(120, bits, generator)
    distances, positions = nearest_codes(queries, database, 50)
    expected = hamming_distance(queries, database).sort(dim=1, stable=True)
    assert torch.equal(distances.long(), expected.values[:, :50])
    assert torch.equal(positions, expected.indices[:, :50])


def test_matrix_products_give_the_same(generator):
    queries, database = random_codes(9, 12, generator), random_codes(120, 12, generator)
    for found, expected in zip(
        _nearest_by_products(queries, database, 50), nearest_codes(queries, database, 50), strict=True
    ):
        assert torch.equal(found.long(), expected.long())


def test_k_beyond_the_database_returns_all_of_it(generator):
    _, positions = nearest_codes(random_codes(2, 8, generator), random_codes(5, 8, generator), 99)
    assert positions.sort(dim=1).values.tolist() == [[0, 1, 2, 3, 4]] * 2


def test_different_bits_are_refused(generator):
    with pytest.raises(InputError, match="same bits, got 8 and 16"):
        nearest_codes(random_codes(2, 8, generator), random_codes(5, 16, generator), 1)


@pytest.mark.parametrize("k", [0, -1, 2.0, True])
def test_k_must_be_a_positive_integer(k, generator):
    with pytest.raises(InputError, match="k must be a positive integer"):
        nearest_codes(random_codes(2, 8, generator), random_codes(5, 8, generator), k)
