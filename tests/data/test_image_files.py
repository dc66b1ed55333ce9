import os

import pytest

from brcd_lightning.data import image_files as module
from brcd_lightning.data.image_files import IMAGE_SUFFIXES, OTHER_IMAGES, image_files
from brcd_lightning.errors import InputError
from data.stand_ins import write_image

NAMES = ["b.png", "a/10.JPG", "a/2.jfif", "a/deep/er/1.png"]


@pytest.fixture
def tree(tmp_path):
    for name in (*NAMES, ".hidden.png", ".trash/1.png", "a/.thumbs/2.png"):
        write_image(tmp_path / f"{name}.bmp")
        (tmp_path / f"{name}.bmp").rename(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    return tmp_path


def test_images_are_found_at_any_depth_and_in_order(tree, capsys):
    assert image_files(tree) == [sorted(NAMES)]
    assert image_files(tree, ["a/deep", "a"]) == [["a/deep/er/1.png"], ["a/10.JPG", "a/2.jfif", "a/deep/er/1.png"]]
    assert capsys.readouterr().out == ""


def test_images_that_are_not_read_are_counted_in_one_line(tree, capsys):
    for name in ("a/1.HEIC", "a/deep/2.heic", "logo.svg", ".hidden.svg"):
        (tree / name).touch()
    assert image_files(tree) == [sorted(NAMES)]
    (line,) = capsys.readouterr().out.splitlines()
    assert "2 .heic, 1 .svg" in line
    assert ".jpg" in line


def test_no_suffix_is_both_read_and_not_read():
    assert not IMAGE_SUFFIXES & OTHER_IMAGES
    assert (".avif" in IMAGE_SUFFIXES) == module._has_avif() != (".avif" in OTHER_IMAGES)


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_names_that_are_no_text_are_refused(tmp_path):
    os.mkdir(os.fsencode(tmp_path) + b"/cat\xff")
    with open(os.fsencode(tmp_path) + b"/cat\xff/a.png", "wb"):
        pass
    with pytest.raises(InputError, match="a file whose name is not UTF-8"):
        image_files(tmp_path)
