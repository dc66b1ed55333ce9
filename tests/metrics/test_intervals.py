import pytest
import torch

from brcd_lightning.errors import InputError
from brcd_lightning.metrics import bootstrap_interval, bootstrap_intervals, bootstrap_over_seeds, holm


def test_covers_the_mean_as_a_normal_interval_would(generator):
    values = torch.rand(2000, generator=generator, dtype=torch.float64)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std().item() / 2000**0.5
    assert low == pytest.approx(values.mean().item() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean().item() + half, abs=0.1 * half)


def test_repeats_by_seed_and_does_not_depend_on_blocks(monkeypatch, generator):
    values = torch.rand(100, generator=generator)
    first = bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) == first != bootstrap_interval(values, seed=4)
    monkeypatch.setattr("brcd_lightning.metrics.intervals._BLOCK", 700)
    assert bootstrap_interval(values, seed=3) == pytest.approx(first, abs=1e-12)


def test_equal_values_have_no_width():
    assert bootstrap_interval(torch.full((7,), 0.25)) == (0.25, 0.25)


@pytest.mark.parametrize(("values", "options"), [(torch.empty(0), {}), (torch.ones(3), {"confidence": 1.0})])
def test_wrong_input_is_refused(values, options):
    with pytest.raises(InputError):
        bootstrap_interval(values, **options)


def test_several_metrics_share_their_draws(generator):
    values = torch.rand(3, 200, generator=generator, dtype=torch.float64)
    together = bootstrap_intervals(values, seed=5)
    assert together.shape == (3, 2)
    for row, ends in zip(values, together, strict=True):
        assert bootstrap_interval(row, seed=5) == pytest.approx(tuple(ends.tolist()), abs=1e-12)


def test_the_interval_is_that_of_means_of_drawn_values(generator):
    values = torch.rand(50, generator=generator, dtype=torch.float64)
    drawn = torch.randint(50, (300, 50), generator=torch.Generator().manual_seed(2))
    means = values[drawn].mean(dim=1)
    expected = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    assert bootstrap_interval(values, resamples=300, seed=2) == pytest.approx(tuple(expected), abs=1e-12)


def test_an_interval_over_seeds_is_that_of_means_of_drawn_seeds_and_queries(generator):
    values = torch.rand(4, 30, generator=generator, dtype=torch.float64)
    draws = torch.Generator().manual_seed(6)
    seeds = torch.randint(4, (500, 4), generator=draws)
    queries = torch.randint(30, (500, 30), generator=draws)
    means = torch.stack([values[one][:, other].mean() for one, other in zip(seeds, queries, strict=True)])
    expected = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    (found,) = bootstrap_over_seeds(values[None], resamples=500, seed=6)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-12)


def test_seeds_that_disagree_widen_the_interval(generator):
    """Many queries alone would tell the two apart; the seeds do not."""
    noise = 0.01 * torch.randn(5, 5000, generator=generator)
    seeds = torch.tensor([0.3, -0.2, 0.1, -0.25, 0.15])[:, None]
    one, other = bootstrap_over_seeds(torch.stack([noise + seeds, noise + 0.1]))
    low, high, p_value = one
    assert low < 0 < high
    assert p_value > 0.5
    low, high, p_value = other
    assert 0.09 < low < high < 0.11
    assert p_value == pytest.approx(1e-4)


def test_a_difference_of_zero_has_no_evidence():
    assert bootstrap_over_seeds(torch.zeros(2, 3, 4)) == [(0, 0, 1)] * 2


@pytest.mark.parametrize(
    ("values", "options"),
    [(torch.empty(1, 0, 3), {}), (torch.ones(2, 3), {}), (torch.ones(1, 2, 3), {"confidence": 1.0})],
)
def test_wrong_values_over_seeds_are_refused(values, options):
    with pytest.raises(InputError):
        bootstrap_over_seeds(values, **options)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([0.4, 0.3]) == pytest.approx([0.6, 0.6])
    assert holm([]) == []


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([1.0, 2.0], {}, "values must be a tensor, got list"),
        (torch.tensor([1.0, float("nan")]), {}, "values must be numbers, got NaN"),
        (torch.rand(9), {"confidence": "x"}, r"confidence must be in \(0, 1\), got 'x'"),
        (torch.rand(9), {"resamples": 10**12}, "resamples must be at most 10,000,000"),
    ],
)
def test_what_cannot_be_drawn_from_is_refused(values, options, message):
    with pytest.raises(InputError, match=message):
        bootstrap_interval(values, **options)
