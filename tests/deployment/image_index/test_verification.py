import itertools

import numpy as np
import pytest
import torch

from brcd_lightning.codes import pack
from brcd_lightning.deployment.image_index.bundle import Images, Manifest
from brcd_lightning.deployment.image_index.image_index import ImageIndex
from brcd_lightning.deployment.image_index.verification import near_duplicates, verify
from brcd_lightning.search import HammingIndex
from conftest import clustered_codes, random_codes


def index_of(codes, bits, kind="flat", **options):
    packed = pack(codes.to(torch.int8))
    paths = [f"{number:04d}.png" for number in range(len(codes))]
    manifest = Manifest(bits, "student", "e", "t", "/photos", kind, len(codes), 0)
    built = HammingIndex.build(packed, bits=bits, kind=kind, **options)
    return ImageIndex(None, manifest, built, Images(np.arange(len(codes)), paths, packed.numpy()))


@pytest.mark.parametrize("bits", [12, 32])
def test_an_exact_index_has_recall_1(bits, generator):
    found = verify(index_of(clustered_codes(300, bits, generator), bits), queries=20)
    assert (found.recall, found.empty_slots, found.queries, found.k) == (1.0, 0, 20, 10)
    assert 0 < found.p50_ms <= found.p95_ms
    assert verify(index_of(random_codes(3, bits, generator), bits), queries=2).k == 3


def test_a_poor_index_is_found_out(generator):
    poor = index_of(random_codes(2000, 64, generator), 64, "ivf", lists=64, probes=1)
    found = verify(poor, queries=50)
    assert found.recall < 0.6
    assert found.empty_slots >= 0


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_groups_are_those_of_a_slow_search(limit, generator):
    codes = clustered_codes(60, 16, generator, prototypes=12, flips=0.08)
    distances = (16 - codes @ codes.T) // 2
    group = list(range(60))
    for one, two in itertools.combinations(range(60), 2):
        if distances[one, two] <= limit:
            group = [group[one] if each == group[two] else each for each in group]
    expected = [[f"{row:04d}.png" for row in range(60) if group[row] == name] for name in sorted(set(group))]
    found = near_duplicates(index_of(codes, 16), limit)
    assert sorted(found) == sorted(each for each in expected if len(each) > 1)
    assert [len(each) for each in found] == sorted((len(each) for each in found), reverse=True)
