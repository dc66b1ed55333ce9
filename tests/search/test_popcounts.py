"""Distances of single queries against products of signs."""

import pytest
import torch

from brcd_lightning.codes import hamming_distance, pack
from brcd_lightning.errors import InputError
from brcd_lightning.search.exact import as_bytes
from brcd_lightning.search.popcounts import as_words, hamming_distances, positions_at
from conftest import random_codes


@pytest.mark.parametrize("bits", [1, 8, 60, 64, 65, 300])
def test_distances_are_those_of_all_pairs(bits, generator):
    queries, database = random_codes(4, bits, generator), random_codes(50, bits, generator)
    database[7] = -queries[0]  # at a distance above 255 where there are as many bits
    words = as_words(as_bytes(database))
    found = [hamming_distances(code, words).tolist() for code in as_words(as_bytes(queries)).T]
    assert found == hamming_distance(queries, database).tolist()


@pytest.mark.parametrize("packed", [False, True])
def test_positions_at_a_distance_ascend_and_are_all(packed, generator):
    queries, database = random_codes(5, 6, generator), random_codes(90, 6, generator)
    distances, at = hamming_distance(queries, database), torch.tensor([0, 1, 2, 3, 6])
    expected = [(row == distance).nonzero().flatten().tolist() for row, distance in zip(distances, at, strict=True)]
    if packed:
        queries, database = pack(queries), pack(database)
    assert [positions.tolist() for positions in positions_at(queries, database, at)] == expected


def test_each_query_needs_a_distance_and_codes_of_the_same_length(generator):
    queries, database = random_codes(2, 6, generator), random_codes(9, 6, generator)
    with pytest.raises(ValueError, match="zip"):
        list(positions_at(queries, database, torch.tensor([1])))
    with pytest.raises(InputError, match="bits"):
        list(positions_at(queries[:, :5], database, torch.tensor([1, 1])))
