import pytest
import torch

from brcd_lightning.data.label_lists import below, check_names, read_list, read_names
from brcd_lightning.errors import InputError
from data.stand_ins import write_image


def written(tmp_path, text, name="list.txt"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_text_with_labels_of_zeros_and_ones(tmp_path):
    names, labels, classes = read_list(written(tmp_path, "a/1.jpg 0 1 1\n\n  b/2.jpg  1 0 0  \n"), 3)
    assert names == ["a/1.jpg", "b/2.jpg"]
    assert classes == ()
    assert labels.tolist() == [[0, 1, 1], [1, 0, 0]]


def test_text_with_class_indices(tmp_path):
    labels = read_list(written(tmp_path, "1.jpg 4\n2.jpg 0\n")).labels
    assert labels.tolist() == [4, 0]
    assert labels.dtype == torch.int64


def test_tables(tmp_path):
    _, single, none = read_list(written(tmp_path, "path,label\n1.jpg,2\n2.jpg,0\n", "one.csv"))
    assert single.tolist() == [2, 0]
    names, several, classes = read_list(written(tmp_path, "cat,path,dog\n1,1.jpg,0\n0,2.jpg,1\n", "many.csv"), 2)
    assert (names, several.tolist()) == (["1.jpg", "2.jpg"], [[1, 0], [0, 1]])
    assert (none, classes) == ((), ["cat", "dog"])


def test_parquet_says_what_it_needs_or_reads(tmp_path):
    path = tmp_path / "list.parquet"
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        path.write_bytes(b"")
        with pytest.raises(InputError, match=r"needs pyarrow: pip install 'brcd_lightning\[parquet\]'"):
            read_list(path)
        return
    parquet.write_table(pyarrow.table({"path": ["1.jpg", "2.jpg"], "label": [3, 1]}), path)
    assert read_list(path).labels.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no images"),
        ("1.jpg 0 1\n2.jpg 1\n3.jpg 1 0\n", "line 2: expected 2 labels, got 1"),
        ("1.jpg\n2.jpg\n", "line 1: expected 1 labels, got 0"),
        ("1.jpg 0 2\n", "labels must be 0 or 1, but those of image 1 are not"),
        ("1.jpg a\n", "labels must be whole numbers"),
        ("1.jpg 0 1 0\n", "expected 2 labels an image, got 3"),
        ("1.jpg -1\n", "class indices must be at least 0 and below 2, got -1 to -1"),
        ("1.jpg 0\n2.jpg 1\n1.jpg 1\n", "names 1.jpg 2 times"),
        ("../secret.jpg 0\n", "names ../secret.jpg, which may lie outside"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, text, message):
    with pytest.raises(InputError) as error:
        read_list(written(tmp_path, text), 2)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no images"),
        ("path,label\n", "names no images"),
        ("file,label\n1.jpg,0\n", "needs a column 'path', got file, label"),
        ("path\n1.jpg\n", "needs a column 'label', or one"),
        ("path,label\n1.jpg,0\n2.jpg\n", "line 3: expected 2 columns, got 1"),
        ("path,label\n1.jpg,x\n", "labels must be whole numbers"),
    ],
)
def test_wrong_tables_are_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_list(written(tmp_path, text, "list.csv"))


def test_missing_and_binary_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.txt does not exist"):
        read_list(tmp_path / "none.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a text file"):
        read_list(tmp_path / "binary.txt")


def test_prefixes_of_another_machine_are_cut(tmp_path):
    write_image(tmp_path / "val2014" / "1.jpg")
    assert below(tmp_path, ["val2014/1.jpg"]) == ["val2014/1.jpg"]
    assert below(tmp_path, ["/home/someone/data/coco/val2014/1.jpg"]) == ["val2014/1.jpg"]
    assert below(tmp_path, ["./data/coco/val2014/1.jpg"]) == ["val2014/1.jpg"]
    assert below(tmp_path, ["elsewhere/1.jpg"]) == ["elsewhere/1.jpg"]  # the scan will say that it is missing


@pytest.mark.parametrize("prefix", ["/home/someone/data/", "data/", ""])
def test_what_is_left_of_a_path_is_as_long_as_the_folder_is_deep(tmp_path, prefix):
    names = ["train/cat/1.jpg", "test/cat/1.jpg", "2.jpg"]
    write_image(tmp_path / names[0])
    assert below(tmp_path, [f"{prefix}{name}" for name in names]) == names
    assert below(tmp_path, [f"{tmp_path}/{name}" for name in names]) == names


def test_paths_of_which_too_little_would_be_left_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"/data/train/1/1\.jpg of a list does not lie below .*set dataset\.root"):
        below(tmp_path, ["/data/train/1/1.jpg", "/data/test/1/1.jpg"])


def test_many_rows_are_read_as_they_were_written(tmp_path, generator):
    rows = (torch.rand(2000, 80, generator=generator) < 0.04).long()
    lines = [f"i/{number}.jpg {' '.join(map(str, row))}\n" for number, row in enumerate(rows.tolist())]
    names, labels, _ = read_list(written(tmp_path, "".join(lines)), 80)
    assert names[-1] == "i/1999.jpg"
    assert torch.equal(labels, rows)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["i/1.jpg", "./i/1.jpg"], r"names i/1\.jpg 2 times"),
        (["i/1.jpg", "i//1.jpg"], r"names i/1\.jpg 2 times"),
        (["i/1.jpg", "i/../../1.jpg"], "may lie outside"),
    ],
)
def test_an_image_stands_once_and_inside_however_it_is_spelt(tmp_path, names, message):
    with pytest.raises(InputError, match=message):
        check_names(tmp_path, names)
    with pytest.raises(InputError, match=message):
        read_names(written(tmp_path, "\n".join(name.replace("/", "\\") for name in names)))


def test_relative_and_absolute_paths_do_not_mix(tmp_path):
    with pytest.raises(InputError, match="all relative or all absolute"):
        below(tmp_path, ["1.jpg", "/etc/2.jpg"])


def test_spreadsheets_are_read_and_what_is_no_table_is_refused(tmp_path):
    path = tmp_path / "list.CSV"
    path.write_bytes(b"\xef\xbb\xbfpath,label\r\n1.jpg,2\r\n\r\n")
    assert read_list(path).labels.tolist() == [2]
    path.write_bytes(b"path,label\n\xff.jpg,2\n")
    with pytest.raises(InputError, match="not a CSV file in UTF-8"):
        read_list(path)
    path.write_text("path,a,a\n1.jpg,0,1\n")
    with pytest.raises(InputError, match="two columns 'a'"):
        read_list(path)
    path.write_text(f"path,label\n1.jpg,{10**20}\n")
    with pytest.raises(InputError, match="must be whole numbers"):
        read_list(path)
    with pytest.raises(InputError, match="must be whole numbers"):
        read_list(written(tmp_path, f"1.jpg {10**20}\n"))
    pytest.importorskip("pyarrow")
    (tmp_path / "list.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(InputError, match="not a Parquet file"):
        read_list(tmp_path / "list.parquet")
