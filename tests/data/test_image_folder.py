import pytest
import torch
from PIL import Image

from brcd_lightning.data.cifar10 import cifar10
from brcd_lightning.data.image_folder import image_folder
from brcd_lightning.errors import InputError
from data import stand_ins
from data.test_sources import assert_same_images, fail_once

COUNTS = {"train_per_class": 3, "val_query_per_class": 1}


def write_images(folder, count, size=(9, 7), mode="RGB"):
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new(mode, size, i * 20).save(folder / f"{i:03}.png")


@pytest.fixture
def tree(tmp_path):
    for name in ("cat", "dog"):
        write_images(tmp_path / "train" / name, 6)
        write_images(tmp_path / "test" / name, 2)
    return tmp_path


def test_train_and_test_folders(tree):
    splits = image_folder(str(tree), **COUNTS)
    assert splits.sizes() == {"train": 6, "query": 4, "database": 12, "val_query": 2, "val_database": 10}
    assert splits.source.classes == ["cat", "dog"]
    assert {splits.source.ids[i].split("/")[0] for i in splits.query.tolist()} == {"test"}
    assert {splits.source.ids[i].split("/")[0] for i in splits.database.tolist()} == {"train"}
    for position in splits.query.tolist():
        assert splits.source.ids[position].split("/")[1] == ("cat", "dog")[splits.source.labels[position]]


def test_plain_class_folders(tree):
    splits = image_folder(str(tree / "train"), query_per_class=2, **COUNTS)
    assert splits.sizes() == {"train": 6, "query": 4, "database": 8, "val_query": 2, "val_database": 6}


def test_fingerprint_follows_the_files_not_their_names(tree):
    before = image_folder(str(tree), **COUNTS).fingerprint
    assert image_folder(str(tree), **COUNTS).fingerprint == before
    Image.new("RGB", (9, 7), 3).save(tree / "test" / "cat" / "000.png")
    assert image_folder(str(tree), **COUNTS).fingerprint != before


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    write_images(tmp_path / "a", 8, mode=mode)
    image = image_folder(str(tmp_path), query_per_class=2, **COUNTS).source.load(0)
    assert image.shape == (3, 7, 9)
    assert image.dtype == torch.uint8


def test_an_animation_in_a_class_folder_is_an_image(tree):
    Image.new("RGB", (9, 7), "red").save(tree / "train" / "cat" / "moving.gif")
    assert "train/cat/moving.gif" in image_folder(str(tree), **COUNTS).source.ids


@pytest.mark.parametrize("damage", [b"", b"<html>", None])
def test_a_corrupt_image_is_named_and_skipped_only_on_request(tree, damage):
    bad = tree / "train" / "cat" / "002.png"
    bad.write_bytes(bad.read_bytes()[:40] if damage is None else damage)
    with pytest.raises(InputError) as error:
        image_folder(str(tree), **COUNTS)
    assert "1 unreadable image(s)" in str(error.value)
    assert str(bad) in str(error.value)
    assert "dataset.skip_corrupt=true" in str(error.value)
    splits = image_folder(str(tree), **COUNTS, skip_corrupt=True)
    assert list(splits.skipped) == ["train/cat/002.png"]
    assert splits.sizes()["database"] == 11


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (None, "dataset.root is not set"),
        ("missing", "is not a folder; point it at"),
        ("empty", "holds no class folders"),
        ("hollow", "holds no images"),
    ],
)
def test_wrong_roots_are_refused(tmp_path, root, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "hollow" / "cat").mkdir(parents=True)
    with pytest.raises(InputError) as error:
        image_folder(root and str(tmp_path / root), query_per_class=1, **COUNTS)
    assert message in str(error.value)


def test_plain_folders_need_a_query_count(tree):
    with pytest.raises(InputError, match="dataset.query_per_class must be set"):
        image_folder(str(tree / "train"), **COUNTS)


def test_unequal_class_folders_are_refused(tree):
    write_images(tree / "train" / "emu", 3)
    with pytest.raises(InputError, match="must hold the same class folders"):
        image_folder(str(tree), **COUNTS)


def test_cifar10_reads_image_files_too(tree):
    assert cifar10(str(tree), **COUNTS).sizes()["query"] == 4


def test_cifar10_that_is_absent_says_where_to_put_it(tmp_path):
    with pytest.raises(InputError, match="CIFAR-10 is not in .*Set dataset.root=DIR"):
        cifar10(str(tmp_path / "nowhere"), download=False)


def test_cifar10_official_archive(tmp_path, monkeypatch):
    """The official layout, through torchvision; its download is replaced by a small stand-in."""
    import numpy as np
    from torchvision import datasets

    class StandIn:
        def __init__(self, root, train, download):
            generator = np.random.default_rng(train)
            count = 60 if train else 20
            self.data = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
            self.targets = [i % 10 for i in range(count)]
            self.classes = [*"abcdefghij"]

        def __len__(self):
            return len(self.data)

    monkeypatch.setattr(datasets, "CIFAR10", StandIn)
    splits = cifar10(str(tmp_path), **COUNTS)
    assert splits.sizes() == {"train": 30, "query": 20, "database": 60, "val_query": 10, "val_database": 50}
    assert splits.source.load(0).shape == (3, 32, 32)
    assert splits.source.classes == [*"abcdefghij"]
    assert {splits.source.ids[i].split("/")[0] for i in splits.query.tolist()} == {"test"}


@pytest.mark.parametrize("way", ["permission", "restored with its size and time"])
def test_an_image_that_can_be_read_again_keeps_its_place_and_label(tmp_path, monkeypatch, way):
    for number, name in enumerate(("cat", "dog", "emu")):
        for image in range(8):
            stand_ins.write_image(tmp_path / name / f"{image}.png", 10 * number + image)

    def build():
        return image_folder(str(tmp_path), query_per_class=2, **COUNTS, skip_corrupt=True)

    splits = fail_once(tmp_path, "cat/2.png", way, monkeypatch, build)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.with_name("empty_cache")))
    assert_same_images(splits, tmp_path, build())
    for position, name in enumerate(splits.source.ids):
        assert ("cat", "dog", "emu")[splits.source.labels[position]] == name.split("/")[0]
