import os

import pyarrow as pa
import pytest
from pyarrow import parquet

from brcd_lightning.data.image_names import image_names
from brcd_lightning.errors import InputError
from small_encoder import write_images


@pytest.fixture
def folder(tmp_path):
    for name in ("b", "a/deep", ".hidden"):
        write_images(tmp_path / name, 2)
    (tmp_path / "notes.txt").write_text("a/deep/000.png\nb/001.png\n")
    (tmp_path / "b" / ".thumb.png").touch()
    (tmp_path / "b" / "UPPER.JPG").touch()
    return tmp_path


def test_folders_are_walked_in_order_without_hidden_files(folder):
    found = image_names(folder)
    assert found.root == folder
    assert found.names == ["a/deep/000.png", "a/deep/001.png", "b/000.png", "b/001.png", "b/UPPER.JPG"]


def test_lists_name_images_relative_to_themselves(folder):
    (folder / "list.csv").write_text("n,file\n1,b/000.png\n2,a/deep/001.png\n", encoding="utf-8-sig")
    parquet.write_table(pa.table({"path": ["b/001.png"], "n": [1]}), folder / "list.parquet")
    assert image_names(folder / "notes.txt").names == ["a/deep/000.png", "b/001.png"]
    assert image_names(folder / "list.csv", "file").names == ["b/000.png", "a/deep/001.png"]
    assert image_names(folder / "list.parquet").names == ["b/001.png"]
    assert image_names(folder / "b" / "000.png") == (folder / "b", ["000.png"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"a,b\n1,2\n", "x.csv has no column 'path'"),
        ("x.csv", b"", "x.csv names no images"),
        ("x.csv", b"path\n", "x.csv names no images"),
        ("x.csv", b"path\n\xff\xfe\n", "x.csv is not a CSV file in UTF-8"),
        ("x.csv", b"path\na.png\na.png\n", "names a.png 2 times"),
        ("x.txt", b"../up.png\n", "names ../up.png, which may lie outside"),
        ("x.parquet", b"PAR1", "x.parquet is not a Parquet file"),
        ("x.txt", b"\xff\xfe\n", "x.txt is not a text file in UTF-8"),
    ],
)
def test_malformed_lists_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        image_names(tmp_path / name)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="nothing is not a folder, an image or a list of images"):
        image_names(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"holds no images \("):
        image_names(tmp_path)
    with pytest.raises(InputError, match="is not a folder, an image or a list of images"):
        image_names(tmp_path / ("x" * 300))
    (tmp_path / "list.txt").write_text("a.png\nb.png\n")
    with pytest.raises(InputError, match="none of the 2 images listed in .*list.txt exists, such as a.png"):
        image_names(tmp_path / "list.txt")


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_names_that_are_no_text_are_refused(tmp_path):
    with open(os.fsencode(tmp_path) + b"/\xff.png", "wb"):
        pass
    with pytest.raises(InputError, match="a file whose name is not UTF-8"):
        image_names(tmp_path)
