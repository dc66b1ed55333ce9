import json

import torch

from brcd_lightning.data.manifest import manifest, write_manifest
from brcd_lightning.data.mirflickr25k import mirflickr25k
from data import stand_ins


def test_it_says_who_plays_which_role(splits):
    found = manifest(splits)
    assert found["sizes"] == splits.sizes()
    assert found["classes"] == 4
    assert found["train_in_database"] == len(splits.train)
    assert found["names"]["query"] == [splits.source.ids[p] for p in splits.query.tolist()]
    assert set(found["names"]) == {"train", "query", "database", "val_query"}


def test_images_without_a_label_are_counted(tmp_path):
    found = manifest(mirflickr25k(**stand_ins.mirflickr25k(tmp_path)))
    assert (found["without_label"]["query"], found["without_label"]["database"]) == (0, 10)
    assert found["classes"] == 2


def test_it_is_written_once(tmp_path, splits):
    path = write_manifest(tmp_path / "splits", splits)
    assert path.stem == splits.fingerprint[:16]
    assert json.loads(path.read_text())["fingerprint"] == splits.fingerprint
    path.write_text("kept")
    assert write_manifest(tmp_path / "splits", splits).read_text() == "kept"


def test_labels_count(splits):
    before = manifest(splits)["labels_sha256"]["train"]
    splits.source.labels[splits.train[0]] += 1
    try:
        assert manifest(splits)["labels_sha256"]["train"] != before
    finally:
        splits.source.labels[splits.train[0]] -= 1
    assert torch.equal(splits.labels("train"), splits.source.labels[splits.train])
