import json

import numpy as np
import pytest
import torch

from brcd_lightning.deployment.image_index import bundle
from brcd_lightning.deployment.image_index.bundle import Images, Manifest, read_images, read_manifest, write_change
from brcd_lightning.errors import InputError
from brcd_lightning.search import HammingIndex

IMAGES = Images(np.array([0, 3, 4]), ["a.png", "é/b.png", "<c>.png"], np.array([[1, 2], [3, 4], [5, 6]], np.uint8))


def manifest(change=0):
    return Manifest(16, "student", "e", "t", "/photos", "flat", 3, change)


def index():
    return HammingIndex.build(torch.from_numpy(IMAGES.codes.copy()), ids=torch.tensor([0, 3, 4]), kind="flat")


def test_round_trip(tmp_path):
    write_change(tmp_path, manifest(), index(), IMAGES)
    assert read_manifest(tmp_path) == manifest()
    found = read_images(bundle.images_path(tmp_path, 0))
    assert found.paths == IMAGES.paths
    assert (found.ids == IMAGES.ids).all()
    assert (found.codes == IMAGES.codes).all()


def test_a_change_replaces_the_one_before(tmp_path):
    for change in (0, 1):
        write_change(tmp_path, manifest(change), index(), IMAGES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codes-1.safetensors", "images-1.parquet", "index.json"]


@pytest.mark.parametrize("call", ["_write_images", "write_text"])
def test_a_change_that_fails_did_not_happen(tmp_path, monkeypatch, call):
    write_change(tmp_path, manifest(), index(), IMAGES)

    def fail(*_):
        raise OSError("full")

    monkeypatch.setattr(bundle, call, fail)
    with pytest.raises(OSError, match="full"):
        write_change(tmp_path, manifest(1), index(), IMAGES)
    assert read_manifest(tmp_path).change == 0
    assert read_images(bundle.images_path(tmp_path, 0)).paths == IMAGES.paths


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": "brcd_lightning.ImageIndex", "version": 2}'])
def test_what_is_no_index_is_named(tmp_path, content):
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(InputError, match="is not an image index; make one with: brcd index"):
        read_manifest(tmp_path)
    with pytest.raises(InputError, match="is not an image index"):
        read_manifest(tmp_path / "missing")


def test_a_damaged_table_is_named(tmp_path):
    write_change(tmp_path, manifest(), index(), IMAGES)
    path = bundle.images_path(tmp_path, 0)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=r"images-0.parquet is missing or damaged"):
        read_images(path)
    assert json.loads((tmp_path / "index.json").read_text())["count"] == 3
