import math

import pytest
import torch

from brcd_lightning.hashing.closed_form import random_rotation
from brcd_lightning.hashing.lsh import LSH

BITS = 20_000


def collisions(features, seed):
    """Share of equal bits of all pairs of rows (n, n)."""
    model = LSH(features.shape[1], BITS).double()
    model.fit(features, seed)
    signs = torch.where(model.head(features) >= 0, 1.0, -1.0)
    return (1 + signs @ signs.T / BITS) / 2


def test_bits_collide_with_one_minus_the_angle_over_pi(generator):
    features = torch.randn(8, 12, dtype=torch.float64, generator=generator)
    unit = torch.nn.functional.normalize(features - features.mean(dim=0), dim=1)
    expected = 1 - (unit @ unit.T).clamp(-1, 1).acos() / math.pi
    assert (collisions(features, 0) - expected).abs().max().item() < 5 * 0.5 / math.sqrt(BITS)


def test_rotated_features_have_collisions_of_the_same_distribution(generator):
    features = torch.randn(8, 12, dtype=torch.float64, generator=generator)
    rotated = features @ random_rotation(12, generator)
    found, other = collisions(features, 0), collisions(rotated, 0)
    assert not torch.equal(found, other)  # other bits
    assert (found - other).abs().max().item() < 5 * math.sqrt(0.5 / BITS)


def test_entries_are_standard_normal(generator):
    model = LSH(50, 400)
    model.fit(torch.randn(60, 50, generator=generator))
    weight = model.head.weight
    assert weight.mean().item() == pytest.approx(0, abs=0.03)
    assert weight.var().item() == pytest.approx(1, abs=0.05)


def test_it_may_have_more_bits_than_features(generator):
    model = LSH(4, 64)
    model.fit(torch.randn(10, 4, generator=generator))
    assert bool(model.head.weight.isfinite().all())
