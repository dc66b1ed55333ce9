import pytest

from brcd_lightning.errors import InputError
from brcd_lightning.experiment import run_folder
from brcd_lightning.experiment.run_folder import claim_run_folder, own_run_folder
from brcd_lightning.results.run_files import CONFIG
from brcd_lightning.storage import locks


def test_a_folder_belongs_to_one_set_of_options(tmp_path):
    config = {"bits": 16, "kd_method": {"alpha": 0.8}, "resume": "never"}
    claim_run_folder(tmp_path, config)
    claim_run_folder(tmp_path, config | {"resume": "auto", "data": {"num_workers": 2}})
    with pytest.raises(InputError, match=r"holds a run with kd_method.alpha=0.8, this one has 0.7"):
        claim_run_folder(tmp_path, config | {"kd_method": {"alpha": 0.7}})
    (tmp_path / CONFIG).write_text("{")
    with pytest.raises(InputError, match="cannot be read .* remove the folder to start anew"):
        claim_run_folder(tmp_path, config)


def test_a_folder_has_one_run_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "PATIENCE_S", 0.2)
    monkeypatch.setattr(locks, "PATIENCE_S", 0.1)
    refused = pytest.raises(InputError, match=f"another process runs in this folder and holds {tmp_path / 'run'}")
    with own_run_folder(tmp_path / "run"), refused, own_run_folder(tmp_path / "run"):
        pass
    with own_run_folder(tmp_path / "run"):  # the next one
        pass
