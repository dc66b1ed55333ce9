import pytest
import torch

from brcd_lightning.data import images as module
from brcd_lightning.data.images import images
from brcd_lightning.data.manifest import manifest
from brcd_lightning.errors import InputError
from data.stand_ins import write_image, write_lines


@pytest.fixture(params=["flat", "nested"])
def tree(tmp_path, request):
    for number in range(60):
        folder = "" if request.param == "flat" else f"{number % 4}/{number % 3}/"
        write_image(tmp_path / f"{folder}{number:03}.png", number)
    return tmp_path


def test_few_and_many_images_have_sensible_roles(tree, monkeypatch):
    splits = images(str(tree))
    assert splits.sizes() == {"train": 48, "query": 6, "database": 54, "val_query": 6, "val_database": 48}
    assert splits.neighbours == 5
    assert not splits.has_labels
    assert splits.relevance == "the 5 nearest images by cosine of the teacher backbone's features"
    for name, most in (("_MOST_QUERIES", 4), ("_MOST_TRAIN", 20)):
        monkeypatch.setattr(module, name, most)
    assert images(str(tree)).sizes() == {"train": 20, "query": 4, "database": 56, "val_query": 4, "val_database": 52}


def test_counts_can_be_given(tree):
    splits = images(str(tree), num_query=3, num_val_query=2, num_train=9, relevance_k=4)
    assert splits.sizes() == {"train": 9, "query": 3, "database": 57, "val_query": 2, "val_database": 55}
    assert splits.neighbours == 4
    with pytest.raises(InputError, match=r"dataset\.num_query must be a positive integer or null, got 0"):
        images(str(tree), num_query=0)


def test_the_labels_are_names_of_the_images_and_no_part_of_the_fingerprint(tree):
    splits = images(str(tree))
    assert torch.equal(splits.source.labels, torch.arange(60))
    assert images(str(tree), relevance_k=2).fingerprint == splits.fingerprint
    assert images(str(tree), seed=1).fingerprint != splits.fingerprint
    splits.source.labels += 1
    del splits.__dict__["fingerprint"]
    assert images(str(tree)).fingerprint == splits.fingerprint
    found = manifest(splits)
    assert (found["classes"], found["labels_sha256"]) == (0, {})
    assert found["without_label"] == found["sizes"]


def test_images_of_a_list(tree):
    names = sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.png"))[:40]
    write_lines(tree / "some.txt", names)
    write_lines(tree / "some.csv", ["title,file", *(f'"a, b",{name}' for name in names)])
    write_lines(tree / "absolute.txt", [str(tree / name) for name in names])
    write_lines(tree / "windows.txt", [name.replace("/", "\\") for name in names])
    expected = images(str(tree), list="some.txt")
    assert expected.source.ids == names
    for options in (
        {"list": str(tree / "some.txt")},
        {"list": "some.csv", "column": "file"},
        {"list": "absolute.txt"},
        {"list": "windows.txt"},
    ):
        assert images(str(tree), **options).fingerprint == expected.fingerprint


def test_images_of_a_parquet_file(tree):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    names = sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.png"))
    parquet.write_table(pyarrow.table({"path": names, "size": list(range(60))}), tree / "all.parquet")
    assert images(str(tree), list="all.parquet").source.ids == names


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (None, {"list": "none.txt"}, "none.txt does not exist"),
        (["file,b", "1.png,2"], {"list": "a.csv"}, "a.csv has no column 'path'"),
        (["paths,b", "1.png,2"], {"list": "a.csv"}, "Did you mean 'paths'"),
        (["path"], {"list": "a.csv"}, "names no images"),
        (["1.png", "1.png"], {"list": "a.txt"}, "names 1.png 2 times"),
        (["../1.png"], {"list": "a.txt"}, "may lie outside"),
        (["/elsewhere/1.png"], {"list": "a.txt"}, "names /elsewhere/1.png, which is not below dataset.root"),
        (["nowhere.png"], {"list": "a.txt"}, "1 unreadable image"),
        (["000.png", "001.png"], {"list": "a.txt"}, "needs at least 30 images, of which some are queries; got 2"),
    ],
)
def test_wrong_lists_are_refused_in_one_line(tmp_path, lines, options, message):
    for number in range(2):
        write_image(tmp_path / f"{number:03}.png")
    if lines is not None:
        write_lines(tmp_path / options["list"], lines)
    with pytest.raises(InputError, match=message) as error:
        images(str(tmp_path), **options)
    assert "\n" not in str(error.value)


def test_unreadable_images_stop_the_run_or_are_left_out(tree):
    name = sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.png"))[7]
    (tree / name).write_bytes(b"no image")
    with pytest.raises(InputError, match="set dataset.skip_corrupt=true"):
        images(str(tree))
    splits = images(str(tree), skip_corrupt=True)
    assert list(splits.skipped) == [name]
    assert len(splits.source) == 59
    assert len(splits.source.labels.unique()) == 59


@pytest.mark.parametrize("root", [None, "nowhere"])
def test_a_missing_folder_is_said(root):
    with pytest.raises(InputError, match=r"dataset\.root"):
        images(root)


def test_an_empty_folder_is_said(tmp_path):
    with pytest.raises(InputError, match="needs at least 30 images"):
        images(str(tmp_path))
