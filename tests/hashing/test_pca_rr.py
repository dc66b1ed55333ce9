import torch

from brcd_lightning.hashing.closed_form import random_rotation
from brcd_lightning.hashing.pca_rr import PCARR
from brcd_lightning.hashing.pcah import PCAH
from hashing.test_closed_form import features_of


def test_it_is_pcah_times_the_seeded_rotation(generator):
    features = features_of(generator).double()
    plain, rotated = PCAH(24, 16).double(), PCARR(24, 16).double()
    plain.fit(features)
    rotated.fit(features, seed=5)
    expected = plain.head(features) @ random_rotation(16, torch.Generator().manual_seed(5))
    assert torch.allclose(rotated.head(features), expected, atol=1e-9)


def test_bits_share_the_variance(generator):
    features = features_of(generator)
    spreads = []
    for model in (PCAH(24, 16), PCARR(24, 16)):
        model.fit(features)
        variances = model.head(features).var(dim=0)
        spreads.append((variances.max() / variances.min()).item())
    assert spreads[1] < spreads[0] / 2
