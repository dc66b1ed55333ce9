"""Float queries against slow loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from score_loops import few_values, ranked

from brcd_lightning.codes import pack
from brcd_lightning.errors import InputError
from brcd_lightning.search import nearest_by_values, nearest_codes, values as module
from brcd_lightning.search.values import as_values, best_places
from conftest import random_codes


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 30), st.integers(1, 60), st.integers(1, 9), st.integers(1, 70), st.integers(9, 12), st.booleans())
def test_nearest_by_values_equals_a_slow_loop(bits, rows, queries, k, log_block, ties):
    generator = torch.Generator().manual_seed(bits * rows)
    codes = random_codes(rows, bits, generator)
    values = few_values(queries, bits, generator) if ties else torch.randn(queries, bits, generator=generator).tanh()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", 1 << log_block)
        scores, positions = nearest_by_values(values, codes, k)
        packed = nearest_by_values(values, pack(codes), k)
    for query in range(queries):
        expected, places = ranked(values[query], codes, range(rows), k)
        assert positions[query].tolist() == places
        assert scores[query].tolist() == pytest.approx(expected, abs=1e-10)
    assert torch.equal(scores, packed[0])
    assert torch.equal(positions, packed[1])


def test_values_that_are_bits_rank_as_hamming_distances(generator):
    queries, codes = random_codes(20, 24, generator), random_codes(300, 24, generator)
    scores, positions = nearest_by_values(queries.float(), codes, 50)
    distances, expected = nearest_codes(queries, codes, 50)
    assert torch.equal(positions, expected)
    assert torch.equal(scores, 24.0 - 2 * distances)


def test_equal_codes_have_equal_scores_wherever_they_are(generator):
    values = torch.randn(33, 63, generator=generator).tanh()
    codes = random_codes(1, 63, generator).expand(5003, 63)
    scores, positions = nearest_by_values(values, codes, 4000)
    assert torch.equal(positions, torch.arange(4000).expand(33, 4000))
    assert bool((scores == scores[:, :1]).all())


@pytest.mark.parametrize("scale", [1e-30, 1, 1e30])
def test_rounding_is_far_below_single_precision(generator, scale):
    values = torch.randn(5, 16, generator=generator) * scale
    assert np.abs(as_values(values) - values.double().numpy()).max() <= values.abs().max().item() * 2**-40
    assert torch.equal(nearest_by_values(values, torch.ones(2, 16), 1)[1], torch.zeros(5, 1, dtype=torch.int64))


def test_the_best_of_equal_numbers_are_the_first():
    scores = np.array([[1.0, 3, 2, 3, 2, 2], [5, 5, 5, 5, 5, 5], [-np.inf, 1, -np.inf, 0, -np.inf, 2]])
    assert best_places(scores, 4).tolist() == [[1, 3, 2, 4], [0, 1, 2, 3], [5, 1, 3, 0]]
    assert best_places(scores, 6)[0].tolist() == [1, 3, 2, 4, 5, 0]


@pytest.mark.parametrize("k", [1, 7, 40, 399, 400])
@pytest.mark.parametrize("kind", ["real", "few", "equal", "sampled_first", "sampled_last"])
def test_the_best_are_those_of_a_full_sort(kind, k, generator):
    scores = torch.randn(9, 400, generator=generator, dtype=torch.float64)
    if kind == "few":
        scores = (scores * 2).round()
    elif kind == "equal":
        scores = torch.ones_like(scores)
    elif kind.startswith("sampled"):  # the columns that are looked at first are all the largest, or all the smallest
        scores[:, ::16] += 100 if kind == "sampled_first" else -100
    expected = np.argsort(-scores.numpy(), axis=1, kind="stable")[:, :k]
    assert (best_places(scores.numpy(), k) == expected).all()


@pytest.mark.parametrize("scale", [1e-300, 1, 1e300])
@pytest.mark.parametrize("k", [1, 30, 900])
def test_what_single_precision_hides_is_summed_exactly(scale, k, generator):
    codes = random_codes(1500, 40, generator)
    codes[:, 20:] = codes[:, :20]  # nearly opposite values of the second half leave sums near its rounding errors
    values = torch.rand(3, 20, generator=generator, dtype=torch.float64)
    values = torch.cat([values, -values + 1e-7 * torch.randn(3, 20, generator=generator, dtype=torch.float64)], dim=1)
    scores, positions = nearest_by_values(values * scale, codes, k)
    exact = as_values(values * scale) @ codes.double().numpy().T
    expected = np.argsort(-exact, axis=1, kind="stable")[:, :k]
    assert (positions.numpy() == expected).all()
    assert (scores.numpy() == np.take_along_axis(exact, expected, axis=1)).all()


def test_no_queries_and_no_codes():
    assert nearest_by_values(torch.ones(0, 8), torch.ones(3, 8), 2)[1].shape == (0, 2)
    assert nearest_by_values(torch.ones(4, 8), torch.ones(0, 8), 2)[1].shape == (4, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.ones(2, 8, dtype=torch.int8), "values must be a tensor of floating-point numbers, got torch.int8"),
        ([[0.5] * 8], "got list"),
        (torch.ones(8), r"values must have shape \(queries, bits\), got \(8,\)"),
        (torch.full((2, 8), float("nan")), "values must be finite"),
        (torch.ones(2, 7), "codes must have 7 bits, got 8"),
    ],
)
def test_mistakes_are_named(values, message):
    with pytest.raises(InputError, match=message):
        nearest_by_values(values, torch.ones(3, 8), 1)


def test_values_and_packed_codes_must_have_the_same_bits():
    with pytest.raises(InputError, match="packed codes of 20 bits must have 3 bytes, got 2"):
        nearest_by_values(torch.ones(2, 20), torch.zeros(3, 2, dtype=torch.uint8), 1)
