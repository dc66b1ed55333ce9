import hashlib

import pytest
import torch

from brcd_lightning.data import cifar10 as module
from brcd_lightning.data.cifar10 import PROTOCOLS, cifar10
from brcd_lightning.data.sources import ArrayImages
from brcd_lightning.errors import InputError


@pytest.fixture
def official(monkeypatch, tmp_path):
    """The official images' names and labels; a pixel each."""
    labels = torch.cat([torch.arange(50_000) % 10, torch.arange(10_000) % 10])
    ids = [f"train/{i}" for i in range(50_000)] + [f"test/{i}" for i in range(10_000)]
    source = ArrayImages(torch.zeros(60_000, 3, 1, 1, dtype=torch.uint8), ids, labels)
    monkeypatch.setattr(module, "_official_images", lambda folder, download: source)
    return str(tmp_path)


def digest(numbers):
    return hashlib.sha256(numbers.numpy().astype("<i8").tobytes()).hexdigest()[:16]


SIZES = {  # train, query, database, val_query
    "paper": (5_000, 10_000, 50_000, 1_000),
    "pool": (5_000, 10_000, 50_000, 1_000),
    "pool_full": (49_000, 10_000, 50_000, 1_000),
    "deephash_1": (5_000, 1_000, 59_000, 1_000),
    "deephash": (5_000, 1_000, 54_000, 1_000),
    "authors": (5_000, 5_000, 50_000, 5_000),
}


@pytest.mark.parametrize("protocol", SIZES)
def test_sizes_of_the_protocols(official, protocol):
    splits = cifar10(official, protocol=protocol)
    assert tuple(splits.sizes()[role] for role in ("train", "query", "database", "val_query")) == SIZES[protocol]
    assert set(SIZES) == {*PROTOCOLS, "authors"}
    assert splits.labels("train").bincount().unique().numel() == 1  # as many of each class
    if protocol != "authors":
        assert splits.labels("query").bincount().unique().numel() == 1


def test_the_release_split_is_reproduced_bit_for_bit(official):
    splits = cifar10(official, protocol="authors")
    val, test = (splits.positions(role) - 50_000 for role in ("val_query", "query"))
    assert val[:3].tolist() == [8816, 8268, 9110]
    assert test[:3].tolist() == [264, 8183, 5245]
    assert (digest(val), digest(test)) == ("d22a6da59377d630", "e49979367288dcb3")
    in_class = splits.train // 10  # the class of training image i is i % 10 here
    assert in_class[:3].tolist() == [398, 3833, 4836]
    assert in_class[500:503].tolist() == [597, 332, 521]
    assert digest(in_class) == "afedd060a4953432"
    assert splits.labels("train").tolist() == sorted(splits.labels("train").tolist())


def test_class_folders_have_not_the_order_of_the_release(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
    with pytest.raises(InputError, match="official order of the images, which class folders do not keep"):
        cifar10(str(tmp_path), protocol="authors")


def test_counts_can_be_set(official):
    splits = cifar10(official, train_per_class=20, query_per_class=30, database_per_class=400)
    assert splits.sizes()["train"] == 200
    assert splits.sizes()["query"] == 300
    assert splits.sizes()["database"] == 4000


def test_unknown_protocols_are_refused(official):
    with pytest.raises(InputError, match=r"dataset\.protocol must be one of paper, pool, .*authors, got 'papr'"):
        cifar10(official, protocol="papr")
