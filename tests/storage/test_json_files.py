"""JSON files of unknown origin."""

import json
import os

import pytest

from brcd_lightning.errors import InputError
from brcd_lightning.storage.json_files import read_json


def test_what_was_written_is_read(tmp_path):
    content = {"a": [1, -2.5, None, True, "é\n|"], "b": {"c": 2**63}}
    (tmp_path / "x.json").write_text(json.dumps(content))
    assert read_json(tmp_path / "x.json") == content


@pytest.mark.parametrize(
    "content",
    ["{", "", b"\xff\xfe", "[" * 100_000, '{"a": [1' + "0" * 400 + "]}", '["\\ud800"]', '{"\\u001b[31m": 1}'],
    ids=range(7),
)
def test_what_nothing_can_show_is_refused(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=r"x\.json cannot be read: "):
        read_json(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("pipe.json", "missing.json"):
        with pytest.raises(InputError, match=f"{name} cannot be read: it is missing, or not a file"):
            read_json(tmp_path / name)
