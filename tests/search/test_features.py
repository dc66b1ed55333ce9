import faiss
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from brcd_lightning.errors import InputError
from brcd_lightning.search import features as module
from brcd_lightning.search.features import nearest_by_features


def material(generator, n=600, d=20):
    """Features in clusters, of different lengths."""
    centres = torch.randn(30, d, generator=generator)
    rows = centres[torch.randint(30, (n + 40,), generator=generator)] + 0.2 * torch.randn(
        n + 40, d, generator=generator
    )
    rows = rows * (0.5 + torch.rand(n + 40, 1, generator=generator))
    return rows[:40], rows[40:]


def by_cosine(query, database, k):
    similarity = F.normalize(query.double(), dim=1) @ F.normalize(database.double(), dim=1).T
    return similarity.argsort(dim=1, descending=True)[:, :k]


@pytest.mark.parametrize("k", [1, 7, 1000])
def test_cosine_is_exact(generator, k):
    query, database = material(generator)
    found = nearest_by_features(query, database, database, kind="features", bits=32, k=k)
    assert found.shape == (40, min(k, 600))
    assert torch.equal(found, by_cosine(query, database, min(k, 600)))


@pytest.mark.parametrize("kind", ["pq", "opq"])
@pytest.mark.parametrize("d", [20, 18])  # 18: not divisible by the 4 bytes
def test_quantised_features_come_near(generator, kind, d):
    query, database = material(generator, d=d)
    exact = by_cosine(query, database, 20)

    def overlap(bits):
        found = nearest_by_features(query, database, database, kind=kind, bits=bits, k=20)
        return (found[:, :, None] == exact[:, None]).any(dim=2).float().mean().item()

    coarse, fine = overlap(8), overlap(32)
    assert 20 / 600 < coarse < fine
    assert fine > 0.6


@pytest.mark.parametrize("kind", ["pq", "opq"])
def test_equal_distances_come_in_database_order(generator, kind):
    query, database = material(generator)
    thrice = torch.cat([database, database.flip(0), database])
    found = nearest_by_features(query, thrice, database, kind=kind, bits=16, k=90)
    row = torch.where(found < 600, found, torch.where(found < 1200, 1199 - found, found - 1200))
    for positions, rows in zip(found.tolist(), row.tolist(), strict=True):
        for one in set(rows):
            copies = [position for position, its_row in zip(positions, rows, strict=True) if its_row == one]
            assert copies == sorted(copies)
            first = {0: one, 1: 1199 - one, 2: 1200 + one}
            assert copies == [first[place] for place in range(len(copies))]


@pytest.mark.parametrize("width", [8, 20])  # 20: centroids of five dimensions
def test_quantised_distances_are_those_of_faiss(generator, width, monkeypatch):
    monkeypatch.setattr(module, "_QUERIES", 7)
    query, database = (each.numpy() for each in material(generator, d=width))
    quantiser = faiss.ProductQuantizer(width, 4, 8)
    quantiser.train(database)
    codes = quantiser.compute_codes(database)
    distances = np.square(query[:, None] - quantiser.decode(codes)[None]).sum(axis=2)
    found = module._nearest_by_tables(quantiser, query, codes, 30)
    its_distances = np.take_along_axis(distances, found, axis=1)
    assert np.allclose(its_distances, np.sort(distances, axis=1)[:, :30], rtol=1e-5)


def test_the_same_features_give_the_same_answer(generator):
    query, database = material(generator)
    found = [nearest_by_features(query, database, database, kind="opq", bits=32, k=5) for _ in range(2)]
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 20}, "bits must be a multiple of 8 for product quantisation, got 20"),
        ({"kind": "lsh"}, "kind must be one of features, pq, opq"),
        ({"k": 0}, "k must be a positive integer"),
    ],
)
def test_wrong_options_are_refused(generator, options, message):
    query, database = material(generator)
    with pytest.raises(InputError, match=message):
        nearest_by_features(query, database, database, **{"kind": "pq", "bits": 16, "k": 3} | options)


def test_a_quantiser_needs_its_images(generator):
    query, database = material(generator)
    with pytest.raises(InputError, match="product quantisation needs at least 256 training images, got 255"):
        nearest_by_features(query, database, database[:255], kind="pq", bits=16, k=3)
