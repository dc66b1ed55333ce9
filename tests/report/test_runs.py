import json
import re

import pytest
import torch

from brcd_lightning.errors import InputError
from brcd_lightning.report.records import Records
from brcd_lightning.report.runs import Side, mean_and_deviation, memberships, run_folders
from recorded import write_run


def test_jobs_come_in_their_order_and_once(tmp_path):
    for name in ("10", "2", "x"):
        write_run(tmp_path / name, codes=False)
    assert [folder.name for folder in run_folders([tmp_path, tmp_path / "2"])] == ["2", "10", "x"]
    with pytest.raises(InputError, match="is not a folder; give folders of runs or sweeps"):
        run_folders([tmp_path / "absent"])


def test_damaged_codes_are_named(tmp_path):
    write_run(tmp_path / "a")
    (tmp_path / "a" / "codes.safetensors").write_bytes(b"12345678901234567890")
    (run,) = Records([tmp_path]).runs
    with pytest.raises(InputError, match="codes.safetensors cannot be read"):
        run.codes("student", "query")


def test_a_sample_holds_all_classes_of_an_ordered_data_set():
    labels = torch.arange(10).repeat_interleave(100)
    side = Side(torch.zeros(1000, 2, dtype=torch.uint8), labels)
    sample = side.sample(200)
    assert len(sample.packed) == len(sample.labels) == 200
    assert sample.labels.bincount().min() > 5
    assert torch.equal(side.sample(200).labels, sample.labels)
    assert torch.equal(side.sample(5000).labels, labels)


def test_small_pieces():
    assert mean_and_deviation([0.5]) == (0.5, None)
    assert mean_and_deviation([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))
    assert memberships(torch.tensor([0, 2])).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert memberships(torch.tensor([[1, 1]])).tolist() == [[1, 1]]


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


def test_a_run_of_a_stage_alone_is_no_damage(tmp_path):
    run = write_run(tmp_path / "a", codes=False)
    (run / "results.json").unlink()
    (run / "config.json").touch()
    assert "tested nothing (a stage by itself)" in Records([tmp_path]).problems[0]
