from omegaconf import OmegaConf

from brcd_lightning.experiment.sweeps.summary import SweepSummary
from brcd_lightning.results.record import write_results
from results.test_record import results


def test_a_multirun_ends_in_the_table_of_its_jobs(tmp_path, capsys):
    (tmp_path / "0" / ".hydra").mkdir(parents=True)
    write_results(tmp_path / "0", results(alpha=0.6, sshp=0.5))
    (tmp_path / "0" / "DONE").touch()
    SweepSummary().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    assert "1 of 1 jobs have results" in capsys.readouterr().out
    assert (tmp_path / "summary.csv").exists()
