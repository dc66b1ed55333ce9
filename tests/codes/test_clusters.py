from fractions import Fraction

import pytest
import torch

from both_devices import DEVICES, clusters, difference
from brcd_lightning.codes import pack
from brcd_lightning.codes.clusters import _lloyd, bit_expectations, bit_masks, kmeans_codes, nearest_centroid
from brcd_lightning.errors import InputError
from conftest import random_codes


@pytest.fixture
def vector(kd_vectors):
    return kd_vectors["v8_masks_and_labels"]


def test_expectations_equal_the_vectors(vector):
    e = bit_expectations(torch.tensor(vector["codes"]), torch.tensor(vector["assign"]), 2)
    assert torch.allclose(e, torch.tensor(vector["expected"]["e"], dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("delta", [0.5, 0.6, 0.0])
def test_masks_equal_the_vectors_also_exactly_on_delta(vector, delta):
    masks = bit_masks(torch.tensor(vector["codes"]), torch.tensor(vector["assign"]), 2, delta)
    assert masks.tolist() == vector["expected"][f"mask_delta_{delta}"]


def test_labels_equal_the_vectors(vector):
    labels = nearest_centroid(torch.tensor(vector["probes"]), torch.tensor(vector["centroids"]))
    assert labels.tolist() == vector["expected"]["probe_labels"]


def test_label_ties_go_to_the_lowest_cluster(vector):
    label = nearest_centroid(torch.tensor([vector["tie_probe"]]), torch.tensor(vector["tie_centroids"]))
    assert label.item() == vector["expected"]["tie_label"]


def test_nearest_centroid_equals_a_loop(generator):
    codes, centroids = random_codes(40, 12, generator), torch.randn(5, 12, generator=generator)
    loop = [min(range(5), key=lambda c: (code - centroids[c]).square().sum().item()) for code in codes.float()]
    assert nearest_centroid(codes, centroids).tolist() == loop


def exact_labels(codes, members, assignments):
    """Labels by distances in fractions from the means of clusters of `members`; ties to the lowest cluster."""
    clusters = [members[assignments == c].long() for c in range(int(assignments.max()) + 1)]
    means = [[Fraction(total, len(rows)) for total in rows.sum(dim=0).tolist()] for rows in clusters]
    distances = [
        [sum((int(bit) - m) ** 2 for bit, m in zip(code, mean, strict=True)) for mean in means] for code in codes
    ]
    tied = sum(sorted(row)[0] == sorted(row)[1] for row in distances)
    return [row.index(min(row)) for row in distances], tied


def clusters_with_ties(bits, sizes, generator):
    """Clusters whose means tie for many codes: each is a copy of the first under another order of its bits."""
    members, assignments = [], []
    for cluster, copies in enumerate(sizes):
        first = torch.tensor([[1] * bits, [1] * (bits - 1) + [-1], [1] * (bits - 2) + [-1, 1]])
        members += [first[:, torch.randperm(bits, generator=generator)]] * copies
        assignments += [cluster] * (3 * copies)
    return torch.cat(members), torch.tensor(assignments)


@pytest.mark.parametrize("bits", [12, 16, 64])
def test_exact_ties_go_to_the_lowest_cluster_however_many_codes_are_asked(bits, generator):
    members, assignments = clusters_with_ties(bits, (1, 5, 2, 7, 1, 3), generator)
    centroids = torch.stack([members[assignments == c].double().mean(dim=0) for c in range(6)])
    codes = torch.cat([random_codes(500, bits, generator), members])
    expected, tied = exact_labels(codes.tolist(), members, assignments)
    assert tied > 100
    for size in (1, 2, 3, 7, 64, len(codes)):
        assert torch.cat([nearest_centroid(part, centroids) for part in codes.float().split(size)]).tolist() == expected
    assert nearest_centroid(codes.T.contiguous().T, centroids.T.contiguous().T).tolist() == expected


@pytest.mark.parametrize("rows", [40, 400, 3000])
def test_assignments_of_kmeans_are_the_labels_of_codes_asked_alone(rows, generator):
    codes = random_codes(rows, 8, generator)  # few bits: many codes lie between two means
    centroids, assignments = kmeans_codes(codes, 7, seed=0, n_init=2)
    assert exact_labels(codes.tolist(), codes, assignments)[0] == assignments.tolist()
    for size in (1, 5, 128):
        labels = torch.cat([nearest_centroid(part, centroids) for part in codes.split(size)])
        assert torch.equal(labels, assignments)


@pytest.mark.parametrize("seed", [125, 289, 509])  # rounded distances would end with a code in a higher tied cluster
def test_kmeans_settles_exact_ties_by_the_lowest_cluster(seed):
    generator = torch.Generator().manual_seed(seed)
    codes = random_codes(16, 7, generator).double()
    start = torch.randint(0, 5, (16,), generator=generator)
    centroids, assignments = _lloyd(codes, start, 5)
    assert exact_labels(codes.tolist(), codes, assignments)[0] == assignments.tolist()
    assert torch.cat([nearest_centroid(code[None], centroids) for code in codes]).tolist() == assignments.tolist()


def test_labels_of_real_centroids_do_not_depend_on_the_batch(generator):
    codes, centroids = random_codes(200, 64, generator).float(), 30 * torch.randn(40, 64, generator=generator)
    centroids[20:] = centroids[:20]  # a tie for every code
    together = nearest_centroid(codes, centroids)
    assert together.max() < 20
    assert torch.cat([nearest_centroid(code[None], centroids) for code in codes]).tolist() == together.tolist()


def test_kmeans_ends_at_a_fixed_point(generator):
    codes = random_codes(300, 16, generator)
    centroids, assignments = kmeans_codes(codes, 7, seed=3, n_init=4)
    assert torch.equal(nearest_centroid(codes, centroids), assignments)
    for cluster in range(7):
        assert torch.equal(codes[assignments == cluster].double().mean(dim=0), centroids[cluster])
    assert torch.equal(bit_expectations(codes, assignments, 7), centroids.abs())  # Eq. (8) is |centroid|


def test_kmeans_finds_separate_groups(generator):
    prototypes = random_codes(4, 32, generator)
    truth = torch.arange(4).repeat(25)
    codes = prototypes[truth]
    codes[torch.arange(100), torch.randint(0, 32, (100,), generator=generator)] *= -1
    _, assignments = kmeans_codes(codes, 4, seed=0, n_init=5)
    pairs = set(zip(truth.tolist(), assignments.tolist(), strict=True))
    assert len(pairs) == 4


@pytest.mark.parametrize("method", ["sklearn", "faiss"])
def test_both_methods_end_at_the_same_identities(method, generator):
    codes = random_codes(400, 16, generator)
    centroids, assignments = kmeans_codes(codes, 6, seed=0, n_init=3, method=method)
    assert torch.equal(nearest_centroid(codes, centroids), assignments)
    assert assignments.bincount(minlength=6).min() > 0
    assert torch.equal(bit_expectations(codes, assignments, 6), centroids.abs())
    again = kmeans_codes(codes, 6, seed=0, n_init=3, method=method)
    assert torch.equal(again[0], centroids)


@pytest.mark.parametrize("method", ["sklearn", "faiss"])
def test_the_largest_seed_is_one(method, generator):
    codes = random_codes(60, 16, generator)
    centroids, assignments = kmeans_codes(codes, 3, seed=2**32 - 1, n_init=1, method=method)
    assert torch.equal(nearest_centroid(codes, centroids), assignments)


def test_an_empty_cluster_takes_the_farthest_code():
    points = torch.tensor([[1.0, 1], [1, 1], [1, -1], [-1, -1]], dtype=torch.float64)
    _, assignments = _lloyd(points, torch.zeros(4, dtype=torch.long), 3)
    assert sorted(assignments.bincount(minlength=3).tolist()) == [1, 1, 2]


def test_kmeans_repeats_bit_for_bit(generator):
    codes = random_codes(500, 16, generator)
    first, second = (kmeans_codes(codes, 9, seed=1, n_init=3) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_more_clusters_than_images_is_refused(generator):
    with pytest.raises(InputError, match="at most the number of training images, got 6 clusters for 5 images"):
        kmeans_codes(random_codes(5, 8, generator), 6)


def test_more_clusters_than_distinct_codes_is_refused():
    with pytest.raises(InputError, match="1 distinct codes; the teacher may have collapsed"):
        kmeans_codes(torch.ones(20, 8), 2)


def test_min_bits_keeps_the_strongest_bits_and_warns():
    codes = torch.tensor([[1, 1, 1, -1], [1, -1, 1, 1], [-1, 1, 1, 1], [1, 1, -1, -1]])  # e = .5 .5 .5 0
    with pytest.warns(UserWarning, match="delta=0.9 leaves fewer than 2 bits in clusters \\[0\\]"):
        masks = bit_masks(codes, torch.zeros(4, dtype=torch.long), 1, 0.9, min_bits=2)
    assert masks.tolist() == [[1, 1, 0, 0]]  # ties to the lowest bit
    assert bit_masks(codes, torch.zeros(4, dtype=torch.long), 1, 0.9, min_bits=0).sum() == 0
    with pytest.warns(UserWarning, match="leaves fewer than 4 bits"):
        everything = bit_masks(codes, torch.zeros(4, dtype=torch.long), 1, 0.9, min_bits=codes.shape[1])
    assert everything.all()


@pytest.mark.parametrize("delta", [-0.1, 1.1, float("nan"), True])
def test_delta_outside_the_unit_interval_is_refused(delta):
    with pytest.raises(InputError, match="delta must be in \\[0, 1\\]"):
        bit_masks(torch.ones(2, 4), torch.zeros(2, dtype=torch.long), 1, delta)


@pytest.mark.parametrize("method", ["sklearn", "faiss"])
def test_only_codes_are_clustered(generator, method):
    codes = random_codes(50, 8, generator)
    for wrong in (codes.float() * float("nan"), codes[None], codes.tolist(), pack(codes), codes * 0.5):
        with pytest.raises(InputError, match="codes must"):
            kmeans_codes(wrong, 1, method=method)


@pytest.mark.parametrize("seed", [-1, 2**40, "x", None, 1.5])
def test_the_draws_have_a_seed(generator, seed):
    with pytest.raises(InputError, match="seed must be"):
        kmeans_codes(random_codes(50, 8, generator), 3, seed=seed, n_init=1)


@pytest.mark.parametrize("cluster", [7, -1])
def test_assignments_are_clusters(generator, cluster):
    with pytest.raises(InputError, match=r"assignments must be clusters in \[0, 3\)"):
        bit_masks(random_codes(5, 8, generator), torch.full((5,), cluster), 3, 0.5)


def test_there_is_a_centroid(generator):
    with pytest.raises(InputError, match="at least one centroid"):
        nearest_centroid(random_codes(5, 8, generator), torch.zeros(0, 8))


@pytest.mark.parametrize("device", DEVICES)
def test_a_gpu_gives_the_same_clusters_and_masks(device):
    assert difference(clusters(device), clusters("cpu")) == 0
