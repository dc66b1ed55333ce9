import pytest
import torch

from brcd_lightning.errors import InputError
from brcd_lightning.metrics import bootstrap_interval, bootstrap_intervals


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
