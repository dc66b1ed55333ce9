import pytest
import torch

from brcd_lightning.data.nuswide21 import nuswide21
from brcd_lightning.errors import InputError
from data import stand_ins
from data.stand_ins import multi_hot, write_lines


def numbers(splits, role):
    return [int(splits.source.ids[p][-8:-4]) for p in splits.positions(role).tolist()]


def test_its_own_files(tmp_path):
    splits = nuswide21(**stand_ins.nuswide21(tmp_path))
    # 30 of 40 images have one of the two frequent concepts; 2 queries and 3 training images for each
    assert splits.sizes() == {"train": 6, "query": 4, "database": 26, "val_query": 2, "val_database": 24}
    assert splits.source.classes == ["sea", "sky"]
    assert set(numbers(splits, "database")) | set(numbers(splits, "query")) == set(range(30))
    for role, count in (("query", 2), ("train", 3)):
        assert torch.all(splits.labels(role).sum(dim=0) >= count)
    assert splits.fingerprint == nuswide21(**stand_ins.nuswide21(tmp_path)).fingerprint


def ready(root):
    options = stand_ins.nuswide21(root)
    for part, members in (("test", range(4)), ("database", range(4, 30))):
        write_lines(root / f"{part}_img.txt", [f"actor/{n:04}.jpg" for n in members])
        rows = [multi_hot([c for c, r in enumerate((range(20), range(10, 30))) if n in r], 2) for n in members]
        write_lines(root / f"{part}_label_onehot.txt", rows)
    return options


def test_ready_lists(tmp_path):
    splits = nuswide21(**ready(tmp_path))
    assert splits.sizes() == {"train": 6, "query": 4, "database": 26, "val_query": 2, "val_database": 24}
    assert sorted(numbers(splits, "query")) == [0, 1, 2, 3]


def test_what_is_wrong_is_said(tmp_path):
    options = stand_ins.nuswide21(tmp_path)
    with pytest.raises(InputError, match=r"Labels_\*\.txt of 21 concepts, got 3"):
        nuswide21(**{**options, "num_concepts": 21})
    with pytest.raises(InputError, match="images left for 30 queries"):
        nuswide21(**{**options, "query_per_concept": 30})
    write_lines(tmp_path / "Groundtruth" / "AllLabels" / "Labels_sky.txt", ["1"])
    with pytest.raises(InputError, match=r"Labels_sky\.txt must have one number for each of 40 images"):
        nuswide21(**options)
    options = ready(tmp_path)
    write_lines(tmp_path / "test_label_onehot.txt", ["1 0"])
    with pytest.raises(InputError, match=r"names 4 images, .*test_label_onehot\.txt labels 1"):
        nuswide21(**options)
    write_lines(tmp_path / "test_img.txt", ["actor/0000.jpg"] * 2)
    with pytest.raises(InputError, match=r"names actor/0000\.jpg 2 times"):
        nuswide21(**options)
