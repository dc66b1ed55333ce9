import sys

import pytest

from brcd_lightning.data.huggingface import _classes, _labels, huggingface
from brcd_lightning.errors import InputError
from data import stand_ins


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return stand_ins.huggingface(tmp_path)


def test_splits_of_local_files(folder):
    splits = huggingface(**folder)
    assert splits.sizes() == {"train": 6, "query": 4, "database": 12, "val_query": 2, "val_database": 10}
    assert splits.source.classes == ["cat", "dog"]
    for position in range(len(splits.source)):
        shade = int(splits.source.load(position)[0, 0, 0])
        assert shade // 100 == splits.source.labels[position]
        assert splits.source.ids[position].startswith("test/" if shade % 10 else "train/")
    assert splits.fingerprint == huggingface(**folder).fingerprint


def test_wrong_columns_and_splits_are_named(folder):
    with pytest.raises(InputError, match="no column 'labels'. Did you mean 'label'"):
        huggingface(**folder, label_column="labels")
    with pytest.raises(InputError, match="split validation, cannot be loaded"):
        huggingface(**folder, query_split="validation")


def test_lists_of_labels_become_multi_hot():
    assert _labels([[0, 2], [], [1]]).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert _labels([3, 1]).tolist() == [3, 1]


def test_columns_of_labels_name_the_classes_if_they_can():
    datasets = pytest.importorskip("datasets")
    label = datasets.ClassLabel(names=["cat", "dog"])
    assert _classes(label) == ["cat", "dog"]
    assert _classes([label]) == ["cat", "dog"]
    assert _classes(datasets.Sequence(label)) == ["cat", "dog"]
    assert _classes(datasets.Value("int64")) == ()


def test_the_missing_library_and_name_are_said(monkeypatch):
    with pytest.raises(InputError, match=r"dataset\.name is not set"):
        huggingface(None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'brcd_lightning\[huggingface\]'"):
        huggingface("x")
