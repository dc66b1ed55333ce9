import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from brcd_lightning.errors import InputError
from brcd_lightning.hashing.closed_form import principal_directions, random_rotation
from brcd_lightning.hashing.itq import ITQ
from brcd_lightning.hashing.lsh import LSH
from brcd_lightning.hashing.pca_rr import PCARR
from brcd_lightning.hashing.pcah import PCAH
from brcd_lightning.hashing.sh import SH

MODELS = (LSH, PCAH, PCARR, ITQ, SH)


def features_of(generator, n=200, d=24):
    """Features with a mean and a decaying spectrum."""
    mixing = torch.randn(d, d, generator=generator) * torch.linspace(3, 0.2, d)
    return torch.randn(n, d, generator=generator) @ mixing.T + 5 * torch.randn(d, generator=generator)


def test_directions_are_those_of_scikit_learn(generator):
    rows = features_of(generator).double()
    centred = rows - rows.mean(dim=0)
    oracle = PCA(10, svd_solver="full").fit(rows.numpy())
    found = principal_directions(centred, 10)
    cosines = (found.T.numpy() * oracle.components_).sum(axis=1)
    assert np.allclose(np.abs(cosines), 1, atol=1e-9)
    assert np.allclose((centred @ found).var(dim=0).numpy(), oracle.explained_variance_)
    assert torch.allclose(found.T @ found, torch.eye(10, dtype=torch.float64), atol=1e-12)


def test_the_sign_of_a_direction_does_not_depend_on_the_data_s_sign(generator):
    centred = features_of(generator).double()
    centred = centred - centred.mean(dim=0)
    assert torch.allclose(principal_directions(centred, 5), principal_directions(-centred, 5), atol=1e-12)


def test_a_random_rotation_is_orthogonal_and_seeded():
    one, two = (random_rotation(16, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.allclose(one @ one.T, torch.eye(16, dtype=torch.float64), atol=1e-12)
    assert not torch.allclose(one, random_rotation(16, torch.Generator().manual_seed(4)))


@pytest.mark.parametrize("model", MODELS)
def test_a_fit_is_the_same_bit_for_bit_and_has_its_seed(model, generator):
    features = features_of(generator)
    states = []
    for seed, threads in ((0, 1), (0, 2), (1, 1)):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        each = model(24, 16)
        each.fit(features, seed)
        torch.set_num_threads(before)
        states.append(each.linear_layer().weight)
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2]) == (model in (PCAH, SH))


@pytest.mark.parametrize("model", MODELS)
def test_the_mean_of_the_features_does_not_matter(model, generator):
    features = features_of(generator).double()
    logits = []
    for shift in (0.0, 3.0):
        each = model(24, 16).double()
        each.fit(features + shift)
        logits.append(each.head(features + shift))
    assert torch.allclose(*logits, atol=1e-7)


@pytest.mark.parametrize("model", [PCAH, PCARR, ITQ])
def test_logits_are_centred_projections(model, generator):
    features = features_of(generator).double()
    each = model(24, 16).double()
    each.fit(features)
    logits = each.head(features)
    assert torch.allclose(logits.mean(dim=0), torch.zeros(16, dtype=torch.float64), atol=1e-9)
    kept = principal_directions(features - features.mean(dim=0), 16)
    variance = ((features - features.mean(dim=0)) @ kept).square().sum()
    assert torch.allclose(logits.square().sum(), variance)  # a rotation of the same components


@pytest.mark.parametrize("model", [PCAH, PCARR, ITQ, SH])
def test_more_bits_than_the_rank_are_refused_in_one_line(model, generator):
    features = features_of(generator)
    with pytest.raises(InputError, match="bits must be at most 24, the rank of the 24 features of 200 training images"):
        model(24, 32).fit(features)
    with pytest.raises(InputError, match="bits must be at most 9, the rank"):
        model(24, 16).fit(features[:10])
    flat = features.clone()
    flat[:, 12:] = 7.0
    with pytest.raises(InputError, match="bits must be at most 12, the rank"):
        model(24, 16).fit(flat)


def test_wrong_heads_and_features_are_refused(generator):
    features = features_of(generator)
    with pytest.raises(InputError, match="head must be linear for PCAH"):
        PCAH(24, 16, head="mlp").fit(features)
    features[3, 2] = float("nan")
    with pytest.raises(InputError, match="features of the training images must be finite"):
        LSH(24, 16).fit(features)
