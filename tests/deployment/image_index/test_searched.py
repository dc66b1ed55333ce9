import numpy as np
import pytest
import torch

from brcd_lightning.deployment.image_index.bundle import Images, Manifest
from brcd_lightning.deployment.image_index.image_index import ImageIndex
from brcd_lightning.errors import InputError
from brcd_lightning.search import HammingIndex
from code_folders import clustered
from small_encoder import TEACHER, make_encoder

BITS, COUNT = 64, 500


def index_of(kind, bits=BITS, role="student", encoder="e", **options):
    codes = clustered(COUNT, bits, prototypes=COUNT)
    manifest = Manifest(bits, role, encoder, TEACHER, "/photos", kind, COUNT, 0)
    built = HammingIndex.build(torch.from_numpy(codes), kind=kind, **options)
    paths = [f"{number}.png" for number in range(COUNT)]
    return ImageIndex("folder", manifest, built, Images(np.arange(COUNT), paths, codes))


def test_what_an_approximate_index_does_not_find_is_counted():
    poor, query = index_of("ivf", lists=32, probes=1), torch.from_numpy(clustered(1, BITS, seed=1))
    found = poor.ranked(query, COUNT)
    assert 0 < len(found.hits) < COUNT
    assert found.empty_slots == COUNT - len(found.hits)
    assert poor.nearest(query, COUNT) == found.hits
    assert index_of("flat").ranked(query, 2 * COUNT).empty_slots == 0


def test_all_that_is_searched_says_what_it_holds():
    index = index_of("flat")
    assert (len(index), index.bits, index.kind, str(index.root)) == (COUNT, BITS, "flat", "/photos")
    assert index.packed_codes().shape == (COUNT, BITS // 8)


def test_codes_of_other_lengths_are_refused():
    teacher = make_encoder("teacher")
    index = index_of("flat", role="teacher", encoder=teacher.fingerprint)
    with pytest.raises(InputError, match=r"folder holds codes of teacher \w+, and student \w+ makes other ones"):
        index.check(make_encoder(bits=16))
    index.check(make_encoder(bits=64))
