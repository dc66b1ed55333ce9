"""Rescoring against slow loops, and from a ranking against rescoring all candidates."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from score_loops import few_values, ranked

from brcd_lightning.codes import hamming_distance, pack, sign
from brcd_lightning.search import nearest_by_values, rescoring as module
from brcd_lightning.search.exact import scan
from brcd_lightning.search.rescoring import Ranking, rescore_candidates, rescored_positions
from brcd_lightning.search.values import as_values
from conftest import clustered_codes, random_codes


@pytest.mark.parametrize("bits", [1, 12, 16])
def test_candidates_are_rescored_as_in_a_slow_loop(bits, generator):
    codes, values = random_codes(80, bits, generator), few_values(6, bits, generator)
    positions = torch.stack([torch.randperm(80, generator=generator)[:30] for _ in range(6)])
    positions[2, 25:] = -1
    scores, places = rescore_candidates(as_values(values), pack(codes).numpy(), positions.numpy(), 27)
    for query in range(6):
        found = positions[query][positions[query] >= 0].tolist()
        expected, order = ranked(values[query], codes, found, 27)
        assert places[query, : len(order)].tolist() == order
        assert scores[query, : len(order)].tolist() == expected
    assert (scores[2, 25:] == -np.inf).all()
    assert places[2, 25:].tolist() == [25, 26]


def by_ranking(values, codes, candidates, k, depth):
    """`rescored_positions` with a ranking of a depth."""
    queries, packed = pack(sign(values).long()), pack(codes)
    ranking = Ranking(*(each.numpy() for each in nearest_by_values(values, packed, depth)))
    return rescored_positions(as_values(values), queries.numpy(), packed.numpy(), candidates, k, ranking)


@settings(deadline=None, max_examples=80)
@given(
    st.integers(1, 20), st.integers(1, 50), st.integers(1, 50), st.integers(1, 50), st.integers(1, 50), st.booleans()
)
def test_positions_equal_a_slow_loop(bits, rows, candidates, k, depth, ties):
    generator = torch.Generator().manual_seed(rows * bits)
    candidates, depth = min(candidates, rows), min(depth, rows)
    k = min(k, candidates)
    codes = random_codes(rows, bits, generator)
    values = few_values(4, bits, generator) if ties else torch.randn(4, bits, generator=generator).tanh()
    found = by_ranking(values, codes, candidates, k, depth)
    distances = hamming_distance(sign(values).long(), codes)
    for query in range(4):
        nearest = sorted(range(rows), key=lambda row, query=query: int(distances[query, row]))[:candidates]
        places = ranked(values[query], codes, nearest, k)[1]
        assert found[query].tolist() == [nearest[place] for place in places]


@pytest.mark.parametrize("bits", [16, 64, 300])
def test_a_deep_ranking_spares_the_candidates(bits, generator, monkeypatch):
    codes = clustered_codes(2000, bits, generator)
    values = codes[:30] * torch.rand(30, bits, generator=generator)
    packed = pack(codes).numpy()
    nearest = scan(pack(sign(values).long()).numpy(), packed, 400)[1]
    expected = np.take_along_axis(nearest, rescore_candidates(as_values(values), packed, nearest, 40)[1], axis=1)
    monkeypatch.setattr(module, "nearest_positions", None)
    assert (by_ranking(values, codes, 400, 40, 80) == expected).all()
