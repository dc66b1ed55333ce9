import csv

from brcd_lightning.report.collect import main
from brcd_lightning.results import write_results
from test_results import results


def test_a_sweep_that_is_not_complete_is_compared_as_far_as_it_is(tmp_path, capsys):
    for job, alpha in enumerate((0.6, 0.9)):
        (tmp_path / str(job) / ".hydra").mkdir(parents=True)
        write_results(tmp_path / str(job), results(alpha=alpha, sshp=0.5 + job / 10))
        (tmp_path / str(job) / "DONE").touch()
    (tmp_path / "2" / ".hydra").mkdir(parents=True)
    (tmp_path / "2" / "DONE").touch()
    (tmp_path / "2" / "results.json").write_text("{")
    (tmp_path / "3" / ".hydra").mkdir(parents=True)
    assert main([str(tmp_path)]) == 0
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


def test_a_folder_without_jobs_is_refused(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "holds no jobs of a sweep" in capsys.readouterr().err
    assert main([]) == 2
