"""Distances of single queries against products of signs."""

import pytest
import torch

from brcd_lightning.codes import hamming_distance, pack
from brcd_lightning.errors import InputError
from brcd_lightning.search import popcounts as module
from brcd_lightning.search.exact import as_bytes
from brcd_lightning.search.popcounts import as_words, hamming_distances, nearest_groups
from conftest import random_codes


@pytest.mark.parametrize("bits", [1, 8, 60, 64, 65, 300])
def test_distances_are_those_of_all_pairs(bits, generator):
    queries, database = random_codes(4, bits, generator), random_codes(50, bits, generator)
    database[7] = -queries[0]  # at a distance above 255 where there are as many bits
    words = as_words(as_bytes(database))
    found = [hamming_distances(code, words).tolist() for code in as_words(as_bytes(queries)).T]
    assert found == hamming_distance(queries, database).tolist()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("k", [1, 10, 89, 90, 500])
def test_lists_end_with_the_whole_group_of_the_kth(packed, k, generator):
    queries, database = random_codes(5, 6, generator), random_codes(90, 6, generator)
    ordered = hamming_distance(queries, database).sort(dim=1, stable=True)
    if packed:
        queries, database = pack(queries), pack(database)
    distances, positions = nearest_groups(queries, database, k)
    lengths = (ordered.values <= ordered.values[:, min(k, 90) - 1, None]).sum(dim=1)
    assert distances.shape == positions.shape == (5, lengths.max())
    for row, length in enumerate(lengths.tolist()):
        assert torch.equal(distances[row, :length], ordered.values[row, :length])
        assert torch.equal(positions[row, :length], ordered.indices[row, :length])
        assert (distances[row, length:] > 6).all()
        assert (positions[row, length:] == 0).all()


@pytest.mark.parametrize("bits", [4, 64, 300])
def test_the_guess_from_a_sample_is_corrected(bits, generator):
    database = random_codes(2000, bits, generator)
    database[::16] = database[0]  # the sample sees one code only
    for query in (database[:1], -database[:1], random_codes(1, bits, generator)):
        for k in (1, 120, 130, 1999):
            found, _ = nearest_groups(query, database, k)
            ordered = hamming_distance(query, database)[0].sort().values
            assert torch.equal(found[0], ordered[ordered <= ordered[k - 1]])


def test_matrix_products_give_the_same(generator, monkeypatch):
    monkeypatch.setattr(module, "PAIRS", 300)  # two queries at a time
    queries, database = random_codes(9, 12, generator), random_codes(120, 12, generator)
    for row, (distances, positions) in enumerate(module._lists_by_products(queries, database, 50)):
        expected = nearest_groups(queries[row : row + 1], database, 50)
        assert torch.equal(distances, expected[0][0])
        assert torch.equal(positions, expected[1][0])


def test_wrong_codes_and_k_are_refused(generator):
    queries, database = random_codes(2, 6, generator), random_codes(9, 6, generator)
    with pytest.raises(InputError, match="bits"):
        nearest_groups(queries[:, :5], database, 3)
    with pytest.raises(InputError, match="k must be a positive integer"):
        nearest_groups(queries, database, 0)
