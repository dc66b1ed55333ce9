import csv

from omegaconf import OmegaConf

from brcd_lightning.results import write_results
from brcd_lightning.sweep import SweepSummary
from test_results import results


def test_summary_compares_the_jobs_and_names_the_missing(tmp_path, capsys):
    for job, alpha in enumerate((0.6, 0.9)):
        (tmp_path / str(job) / ".hydra").mkdir(parents=True)
        write_results(tmp_path / str(job), results(alpha=alpha, sshp=0.5 + job / 10))
        (tmp_path / str(job) / "DONE").touch()
    (tmp_path / "2" / ".hydra").mkdir(parents=True)
    (tmp_path / "2" / "DONE").touch()
    (tmp_path / "2" / "results.json").write_text("{")
    (tmp_path / "3" / ".hydra").mkdir(parents=True)
    SweepSummary().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    text = capsys.readouterr().out
    assert "0.6" in text
    assert "0.9" in text
    assert "2 of 4 jobs have results" in text
    assert "No results" in text
    assert f"{tmp_path / '3'} did not finish" in text
    rows = list(csv.DictReader((tmp_path / "summary.csv").open()))
    assert [(row["job"], row["alpha"], row["test/map_sshp"]) for row in rows] == [
        ("0", "0.6", "0.5"),
        ("1", "0.9", "0.6"),
    ]
