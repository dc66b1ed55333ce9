import json
import re

import pytest

from brcd_lightning.errors import InputError
from brcd_lightning.report.records import Records
from brcd_lightning.report.runs import mean_and_deviation, run_folders
from recorded import write_run


def test_jobs_come_in_their_order_and_once(tmp_path):
    for name in ("10", "2", "x"):
        write_run(tmp_path / name, codes=False)
    assert [folder.name for folder in run_folders([tmp_path, tmp_path / "2"])] == ["2", "10", "x"]
    with pytest.raises(InputError, match="is not a folder; give folders of runs or sweeps"):
        run_folders([tmp_path / "absent"])


def test_small_pieces():
    assert mean_and_deviation([0.5]) == (0.5, None)
    assert mean_and_deviation([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("metrics", "test/map_sshp", "0.8"),
        ("metrics", "test/map_sshp", [1]),
        ("metrics", "test/map_sshp", float("nan")),
        (None, "validation", "0.9"),
        (None, "validation", float("inf")),
        ("row", "bits", "32"),
        ("row", "seed", None),
        ("row", "dataset", ["a"]),
        ("row", "kd_method", 3),
        ("metric_protocol", "k", None),
        ("fingerprints", "teacher", None),
    ],
)
def test_values_of_a_wrong_kind_are_named(tmp_path, part, key, value):
    run = write_run(tmp_path / "a", codes=False)
    results = json.loads((run / "results.json").read_text())
    (results[part] if part else results)[key] = value
    (run / "results.json").write_text(json.dumps(results))
    records = Records([tmp_path])
    assert records.runs == []
    assert re.search(r"results.json has .* it is not the record of a run", records.problems[0])


@pytest.mark.parametrize("key", ["uses_labels", "validation", "epochs"])
def test_a_record_that_lacks_a_part_is_named(tmp_path, key):
    run = write_run(tmp_path / "a", codes=False)
    results = json.loads((run / "results.json").read_text())
    del results[key]
    (run / "results.json").write_text(json.dumps(results))
    assert f"results.json has no {key}; it is not the record of a run" in Records([tmp_path]).problems[0]


def test_a_run_of_a_stage_alone_is_no_damage(tmp_path):
    run = write_run(tmp_path / "a", codes=False)
    (run / "results.json").unlink()
    (run / "config.json").touch()
    assert "tested nothing (a stage by itself)" in Records([tmp_path]).problems[0]
