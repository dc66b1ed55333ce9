import json

import pytest

from brcd_lightning.errors import InputError
from brcd_lightning.report.latencies import find_latencies, latency_table, read_latency
from recorded import LATENCY


def test_table_3(tmp_path):
    (tmp_path / "latency.json").write_text(json.dumps(LATENCY))
    table = latency_table(read_latency(tmp_path / "latency.json"))
    assert table.columns == ["", "batch 1", "batch 8", "parameters (M)", "GMACs"]
    assert [value if isinstance(value, str) else value.mean for value in table.rows[0]] == ["small", 1.0, 8.0, 2.0, 0.5]
    assert table.rows[-1][0] == "search, n=1,000, k=10"
    assert table.rows[-1][-1] is None
    assert "a processor" in table.note


SEARCH = LATENCY["search"][0]
DAMAGED = [
    {"encode": [{"batch": 1}]},
    {"search": None},
    {"device": None},
    {"threads": []},
    {"search": [SEARCH | {"ms": "3"}]},
    {"search": [SEARCH | {"ms": 0}]},
]


@pytest.mark.parametrize("text", ["{", "[]", "{}", *(json.dumps(LATENCY | part) for part in DAMAGED)])
def test_other_files_are_named(tmp_path, text):
    (tmp_path / "latency.json").write_text(text)
    with pytest.raises(InputError, match="latency.json"):
        read_latency(tmp_path / "latency.json")
    assert find_latencies([tmp_path])[0] == []
    assert len(find_latencies([tmp_path])[1]) == 1
