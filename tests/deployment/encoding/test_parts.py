import dataclasses

import numpy as np
import pytest
from pyarrow import parquet

from brcd_lightning.deployment.encoding.parts import (
    CodeRows,
    CodesDescription,
    begin,
    part_path,
    read_description,
    read_part,
    read_parts,
    write_part,
)
from brcd_lightning.errors import InputError

DESCRIPTION = CodesDescription(
    bits=12, encoder="e", role="student", teacher="t", root="/r", names="n", count=5, part_size=3
)
ROWS = CodeRows(["a", "é/b", "c"], np.array([[1, 2], [0, 0], [255, 15]], np.uint8), ["ok", "the file is empty", "ok"])


def test_a_part_comes_back_and_is_an_ordinary_table(tmp_path):
    path = part_path(tmp_path, 0)
    write_part(path, ROWS)
    found = read_part(path)
    assert (found.paths, found.status) == (ROWS.paths, ROWS.status)
    assert (found.codes == ROWS.codes).all()
    table = parquet.read_table(path).to_pydict()
    assert table == {"path": ["a", "é/b", "c"], "code": [b"\1\2", None, b"\xff\x0f"], "status": ROWS.status}


def test_equal_rows_give_equal_bytes(tmp_path):
    for name in ("one", "two"):
        write_part(tmp_path / name, ROWS)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_parts_are_read_in_order_and_only_when_all_are_there(tmp_path):
    begin(tmp_path, DESCRIPTION)
    write_part(part_path(tmp_path, 1), CodeRows(["d", "e"], np.ones((2, 2), np.uint8), ["ok", "ok"]))
    with pytest.raises(InputError, match="lacks 1 of 2 parts; run brcd encode again"):
        list(read_parts(tmp_path))
    write_part(part_path(tmp_path, 0), ROWS)
    assert [path for part in read_parts(tmp_path) for path in part.paths] == ["a", "é/b", "c", "d", "e"]
    assert read_description(tmp_path) == DESCRIPTION


@pytest.mark.parametrize("change", [{"encoder": "x"}, {"names": "x"}, {"bits": 8}, {"part_size": 4}, {"root": "/x"}])
def test_codes_of_something_else_are_not_continued(tmp_path, change):
    begin(tmp_path, DESCRIPTION)
    begin(tmp_path, DESCRIPTION)
    with pytest.raises(InputError, match=f"holds codes of something else \\({next(iter(change))} differ\\)"):
        begin(tmp_path, dataclasses.replace(DESCRIPTION, **change))


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="is not empty and holds no codes"):
        begin(tmp_path, DESCRIPTION)
    with pytest.raises(InputError, match="is not a folder of codes"):
        read_description(tmp_path)


def test_a_damaged_part_is_named(tmp_path):
    path = part_path(tmp_path, 0)
    write_part(path, ROWS)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="part-00000.parquet is not a part of codes, or a damaged one"):
        read_part(path)
