import csv

import pytest

from brcd_lightning.cli import main
from brcd_lightning.results.record import write_results
from brcd_lightning.results.run_files import DONE, PRUNED
from experiment.sweeps.test_study import finish, study_in
from recorded import write_run
from results.test_record import results


def test_a_sweep_that_is_not_complete_is_compared_as_far_as_it_is(tmp_path, capsys):
    for job, alpha in enumerate((0.6, 0.9)):
        (tmp_path / str(job) / ".hydra").mkdir(parents=True)
        write_results(tmp_path / str(job), results(alpha=alpha, sshp=0.5 + job / 10))
        (tmp_path / str(job) / "DONE").touch()
    (tmp_path / "2" / ".hydra").mkdir(parents=True)
    (tmp_path / "2" / "DONE").touch()
    (tmp_path / "2" / "results.json").write_text("{")
    (tmp_path / "3" / ".hydra").mkdir(parents=True)
    assert main.run(["collect", str(tmp_path)]) == 0
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


def test_names_are_shown_as_they_are(tmp_path, capsys):
    for job in range(2):
        write_run(tmp_path / str(job), seed=job, config={"note": f"[/b]{job}"}, dataset="[red]x")
    assert main.run(["collect", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "[red]x" in text
    assert "[/b]0" in text


def test_folders_of_the_same_name_are_told_apart(tmp_path, capsys):
    for job, split in enumerate(("1" * 8, "2" * 8)):
        options = {"type": "images", "root": f"/{job}/photos"}
        write_run(tmp_path / str(job), split=split, options=options, dataset="images", codes=False)
    assert main.run(["collect", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "photos (split 111111)" in text
    assert "photos (split 222222)" in text
    assert "photos (split 111111)" in (tmp_path / "summary.csv").read_text()


@pytest.mark.parametrize(
    "table",
    [b"\xff", b"trial,state\n0,complete\n", b"trial,state,validation,overrides\n0,complete,abc,x\n"],
    ids=range(3),
)
def test_a_damaged_table_of_trials_is_named(tmp_path, table, capsys):
    write_run(tmp_path / "0")
    (tmp_path / "study.csv").write_bytes(table)
    assert main.run(["collect", str(tmp_path)]) == 2
    assert f"{tmp_path / 'study.csv'} is not a table of trials" in capsys.readouterr().err


def test_a_search_ends_in_its_best_trial_by_validation(tmp_path, capsys):
    study = study_in(tmp_path)
    for number, validation in enumerate((0.25, 0.75, 0.5)):
        study.ask()
        finish(tmp_path, number, validation, PRUNED if number == 2 else DONE)
        (tmp_path / str(number) / ".hydra").mkdir()
    study.settle()
    assert main.run(["collect", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"No results: {tmp_path / '2'} was pruned" in lines
    assert lines[-2].startswith("Best trial: #1, validation 0.7500 (2 complete, 1 pruned;")
    assert lines[-1].startswith("python -m brcd_lightning.train bits=16 kd_method.alpha=0.")


def test_a_search_may_have_no_best_trial_yet(tmp_path, capsys):
    study = study_in(tmp_path)
    study.ask()
    study.settle()
    (tmp_path / "0" / ".hydra").mkdir(parents=True)
    assert main.run(["collect", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "No best trial: 1 fail"


def test_a_folder_without_jobs_is_refused(tmp_path, capsys):
    assert main.run(["collect", str(tmp_path)]) == 2
    assert "holds no jobs of a sweep" in capsys.readouterr().err
    assert main.run(["collect"]) == 2
    assert "the following arguments are required: DIR" in capsys.readouterr().err
