import pytest

from brcd_lightning.data.mirflickr25k import mirflickr25k
from brcd_lightning.errors import InputError
from data import stand_ins
from data.stand_ins import multi_hot, write_lines


def test_its_own_files(tmp_path):
    splits = mirflickr25k(**stand_ins.mirflickr25k(tmp_path))
    assert splits.sizes() == {"train": 6, "query": 4, "database": 26, "val_query": 3, "val_database": 23}
    assert splits.source.labels.sum(dim=0).tolist() == [11, 15]  # sea, sky; the stricter file is left out
    assert splits.source.classes == ["sea", "sky"]
    assert splits.labels("query").any(dim=1).all()
    assert splits.labels("val_query").any(dim=1).all()
    assert (~splits.labels("database").any(dim=1)).sum() == 10


def test_ready_lists_and_a_folder_of_images(tmp_path):
    options = stand_ins.mirflickr25k(tmp_path)
    (tmp_path / "mirflickr").mkdir()
    for image in tmp_path.glob("im*.jpg"):
        image.rename(tmp_path / "mirflickr" / image.name)
    write_lines(tmp_path / "img.txt", [f"im{n}.jpg" for n in range(1, 31)])
    write_lines(tmp_path / "targets.txt", [multi_hot([n % 2], 2) + " " for n in range(30)])
    assert mirflickr25k(**options).sizes()["database"] == 26


def test_what_is_wrong_is_said(tmp_path):
    options = stand_ins.mirflickr25k(tmp_path)
    with pytest.raises(InputError, match="must hold 24 label files, got 2"):
        mirflickr25k(**{**options, "num_labels": 24})
    with pytest.raises(InputError, match=r"sea\.txt must name images 1 to 19, got 10 to 20"):
        mirflickr25k(**{**options, "num_images": 19})
    write_lines(tmp_path / "targets.txt", ["1 0"])
    with pytest.raises(InputError, match=r"img\.txt is missing"):
        mirflickr25k(**options)
    write_lines(tmp_path / "img.txt", ["im1.jpg", "im2.jpg"])
    with pytest.raises(InputError, match=r"img\.txt names 2 images, targets\.txt labels 1"):
        mirflickr25k(**options)
    for second, message in (("./im1.jpg", "names im1.jpg 2 times"), ("../im1.jpg", "may lie outside")):
        write_lines(tmp_path / "img.txt", ["im1.jpg", second])
        with pytest.raises(InputError, match=message):
            mirflickr25k(**options)
