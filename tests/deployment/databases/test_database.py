import json

import numpy as np
import pytest

from brcd_lightning.deployment.databases.database import Nearest, TableDescription, by_distance
from brcd_lightning.errors import InputError

TOLD = TableDescription(16, "teacher", "e", "t", "/photos of 'x'", "hnsw", 3)


def test_a_description_comes_back():
    assert TableDescription.of_json(TOLD.as_json(), "table x") == TOLD


@pytest.mark.parametrize(
    "text",
    [None, "", "a table of mine", "[]", "3", "{}", json.dumps({**json.loads(TOLD.as_json()), "version": 2})],
)
def test_other_tables_are_refused(text):
    with pytest.raises(InputError, match="^table x was not written by brcd push"):
        TableDescription.of_json(text, "table x")


def test_rows_come_by_distance_then_by_id():
    codes = np.arange(4, dtype=np.uint8)[:, None]
    found = by_distance(Nearest(np.array([7, 5, 9, 1]), np.array([2, 1, 0, 1], np.int32), list("abcd"), codes))
    assert found.ids.tolist() == [9, 1, 5, 7]
    assert found.paths == ["c", "d", "b", "a"]
    assert found.codes.ravel().tolist() == [2, 3, 1, 0]
    empty = np.empty((0, 1), np.uint8)
    assert by_distance(Nearest(np.array([2, 1]), np.zeros(2, np.int32), ["b", "a"], empty)).paths == ["a", "b"]
