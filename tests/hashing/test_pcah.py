import numpy as np
import torch
from sklearn.decomposition import PCA

from brcd_lightning.hashing.pcah import PCAH
from hashing.test_closed_form import features_of


def test_logits_are_the_components_of_scikit_learn_up_to_their_signs(generator):
    features = features_of(generator).double()
    model = PCAH(24, 8).double()
    model.fit(features)
    expected = PCA(8, svd_solver="full").fit_transform(features.numpy())
    found = model.head(features).detach().numpy()
    assert np.allclose(np.abs(found), np.abs(expected), atol=1e-8)


def test_bits_are_about_balanced_and_ordered_by_variance(generator):
    features = features_of(generator, n=2000)
    model = PCAH(24, 8)
    model.fit(features)
    logits = model.head(features)
    variances = logits.var(dim=0)
    assert bool((variances[:-1] >= variances[1:]).all())
    assert torch.where(logits >= 0, 1.0, -1.0).mean(dim=0).abs().max() < 0.15
