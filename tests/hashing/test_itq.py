from itertools import pairwise

import faiss
import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes

from brcd_lightning.errors import InputError
from brcd_lightning.hashing.closed_form import random_rotation
from brcd_lightning.hashing.itq import ITQ, learn_rotation, quantisation_error
from hashing.test_closed_form import features_of

BITS, ITERATIONS = 16, 50


def unit_pairs(generator):
    """Rows of length 1 with mean 0: what faiss.ITQTransform makes of features before it looks for components."""
    rows = torch.nn.functional.normalize(features_of(generator, n=400) - 1, dim=1)
    return torch.cat([rows, -rows])


def test_the_objective_never_rises(generator):
    projected = features_of(generator).double()[:, :BITS]
    projected = projected - projected.mean(dim=0)
    start = random_rotation(BITS, generator)
    errors = [quantisation_error(projected, learn_rotation(projected, start, count)).item() for count in range(30)]
    assert all(after <= before + 1e-9 for before, after in pairwise(errors))
    assert errors[-1] < errors[0]


def test_the_rotation_is_the_best_for_its_codes(generator):
    """No small rotation of two axes comes nearer to the codes that the last turn saw."""
    projected = features_of(generator).double()[:, :4]
    start = random_rotation(4, generator)
    codes = torch.where(projected @ start >= 0, 1.0, -1.0).double()
    best = learn_rotation(projected, start, 1)
    least = (codes - projected @ best).square().sum()
    for one in range(4):
        for other in range(one):
            for angle in (-0.05, 0.05):
                turn = torch.eye(4, dtype=torch.float64)
                turn[one, one] = turn[other, other] = np.cos(angle)
                turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
                assert (codes - projected @ best @ turn).square().sum() >= least - 1e-9


def test_scipy_reaches_the_same_objective_from_the_same_start(generator):
    projected = features_of(generator)[:, :BITS].double()
    projected = (projected - projected.mean(dim=0)) / 3
    start = random_rotation(BITS, generator)
    rows, rotation = projected.numpy(), start.numpy()
    for count in range(1, ITERATIONS + 1):
        rotation, _ = orthogonal_procrustes(rows, np.where(rows @ rotation >= 0, 1.0, -1.0))
        if count in (1, 5, ITERATIONS):
            rotated = rows @ rotation
            expected = ((np.where(rotated >= 0, 1.0, -1.0) - rotated) ** 2).sum() / len(rows)
            found = quantisation_error(projected, learn_rotation(projected, start, count))
            assert found.item() == pytest.approx(expected, rel=1e-9)


def test_it_loses_no_more_than_faiss_from_the_same_start(generator):
    """faiss 1.15.1 multiplies by V where Procrustes has V^T, so its iterations do not descend; the start agrees."""
    projected = features_of(generator)[:, :BITS].double()
    projected = (projected - projected.mean(dim=0)) / 3
    start = random_rotation(BITS, generator)
    for iterations in (0, 1, 5, ITERATIONS):
        oracle = faiss.ITQMatrix(BITS)
        oracle.max_iter = iterations
        faiss.copy_array_to_vector(start.numpy().ravel(), oracle.init_rotation)
        oracle.train(projected.float().numpy())
        rotated = torch.from_numpy(oracle.apply(projected.float().numpy()))
        expected = quantisation_error(rotated, torch.eye(BITS)).item()
        found = quantisation_error(projected, learn_rotation(projected, start, iterations)).item()
        assert found <= expected * (1 + 1e-5)
        assert iterations or found == pytest.approx(expected, rel=1e-5)


def test_the_fit_has_the_components_of_faiss_itq_transform_and_loses_no_more(generator):
    rows = unit_pairs(generator)
    oracle = faiss.ITQTransform(rows.shape[1], BITS, True)
    oracle.itq.max_iter = ITERATIONS
    oracle.train(rows.numpy())
    theirs = torch.from_numpy(oracle.apply(rows.numpy()))
    model = ITQ(rows.shape[1], BITS, ITERATIONS)
    for seed in range(3):  # theirs starts from a random rotation of its own
        model.fit(rows, seed)
        ours = model.head(rows).detach()
        assert torch.allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-4)
        assert quantisation_error(ours, torch.eye(BITS)) <= quantisation_error(theirs, torch.eye(BITS)) * (1 + 1e-3)


def test_without_iterations_it_is_randomly_rotated(generator):
    from brcd_lightning.hashing.pca_rr import PCARR

    features = features_of(generator)
    one, other = ITQ(24, BITS, iterations=0), PCARR(24, BITS)
    one.fit(features, 3)
    other.fit(features, 3)
    assert torch.equal(one.head.weight, other.head.weight)
    with pytest.raises(InputError, match="iterations must be an integer of at least 0, got -1"):
        ITQ(24, BITS, iterations=-1)
