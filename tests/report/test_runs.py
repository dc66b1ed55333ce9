import pytest
import torch

from brcd_lightning.errors import InputError
from brcd_lightning.report.records import Records
from brcd_lightning.report.runs import mean_and_deviation, memberships, run_folders
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


def test_small_pieces():
    assert mean_and_deviation([0.5]) == (0.5, None)
    assert mean_and_deviation([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))
    assert memberships(torch.tensor([0, 2])).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert memberships(torch.tensor([[1, 1]])).tolist() == [[1, 1]]
