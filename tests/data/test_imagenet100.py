import hashlib
import shutil

import pytest

from brcd_lightning.data.imagenet100 import CLASSES, imagenet100
from brcd_lightning.errors import InputError
from data import stand_ins


@pytest.fixture
def options(tmp_path):
    return stand_ins.imagenet100(tmp_path)


def test_the_hundred_classes_are_those_of_the_protocol():
    digest = hashlib.sha256("\n".join(CLASSES).encode()).hexdigest()
    assert digest == "748202a58a159ef53edb4ae8e2426ba27dce22659edded6d9ffa7a27feb3d97f"


def test_validation_images_are_the_queries(options):
    splits = imagenet100(**options)
    assert splits.sizes() == {"train": 100, "query": 100, "database": 300, "val_query": 100, "val_database": 200}
    assert splits.source.classes[:3] == ["cock", "indigo bunting", "bulbul"]
    for position in splits.query.tolist():
        name = splits.source.ids[position]
        assert name.startswith(f"val/{CLASSES[splits.source.labels[position]]}/")
    assert not any("n99999999" in name for name in splits.source.ids)


def test_missing_classes_are_named(options, tmp_path):
    shutil.rmtree(tmp_path / "val" / CLASSES[3])
    with pytest.raises(InputError, match=f"val lacks 1 of ImageNet100's 100 class folders, {CLASSES[3]} first"):
        imagenet100(**options)


def test_loose_validation_images_are_recognised(options, tmp_path):
    shutil.rmtree(tmp_path / "val")
    stand_ins.write_image(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(InputError, match="its images are not in class folders"):
        imagenet100(**options)


def test_an_empty_class_is_named(options, tmp_path):
    for path in (tmp_path / "train" / CLASSES[5]).iterdir():
        path.unlink()
    with pytest.raises(InputError, match=f"{CLASSES[5]} holds no images"):
        imagenet100(**options)
