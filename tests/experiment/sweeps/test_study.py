import csv
import json

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from brcd_lightning.errors import InputError, RunEnded
from brcd_lightning.experiment.sweeps.study import STUDY, Study, report
from brcd_lightning.results.record import write_results
from brcd_lightning.results.run_files import DONE, PRUNED
from results.test_record import results

OVERRIDES = {"bits": "16", "kd_method.alpha": "interval(0,1)", "~kd_method.tau": None}
SPACE = {"kd_method.alpha": FloatDistribution(0, 1)}
PRUNING = {"prune": True, "startup_trials": 2, "warmup_epochs": 2}


def study_in(folder, overrides=OVERRIDES, seed=0, **pruning):
    return Study(folder, overrides, SPACE, seed, PRUNING | pruning)


def finish(folder, number, validation, marker=DONE):
    """What a run leaves; its test metric goes the other way."""
    write_results(folder / str(number), results(sshp=1 - validation) | {"validation": validation})
    (folder / str(number) / marker).touch()


def rows_of(folder):
    return list(csv.DictReader((folder / "study.csv").open()))


def test_trials_end_as_their_folders_say_and_are_judged_by_validation(tmp_path):
    study = study_in(tmp_path)
    for number in range(4):
        assert study.ask()[0] == number
        report(tmp_path, number, 0.25, 5)
    finish(tmp_path, 0, 0.75)
    finish(tmp_path, 1, 0.5)
    finish(tmp_path, 2, 0.5, PRUNED)
    study.settle()
    assert study.finished() == 3
    found = [(row["trial"], row["state"], row["validation"], row["epochs"]) for row in rows_of(tmp_path)]
    assert found == [
        ("0", "complete", "0.75", "5"),
        ("1", "complete", "0.5", "5"),
        ("2", "pruned", "0.25", "5"),
        *found[3:],
    ]
    assert found[3] == ("3", "fail", "", "5")
    assert rows_of(tmp_path)[0]["overrides"].startswith("bits=16 kd_method.alpha=0.")
    assert rows_of(tmp_path)[0]["overrides"].endswith(" '~kd_method.tau'")


def test_a_trial_depends_on_the_seed_and_what_came_before_but_not_on_interruptions(tmp_path):
    values = {}
    for name, seed, times in (("one", 0, 1), ("two", 0, 3), ("other", 1, 1)):
        folder = tmp_path / name
        values[name] = []
        for _ in range(times):  # as many commands
            study = study_in(folder, seed=seed)
            for _ in range(15 // times):
                number, drawn = study.ask()
                finish(folder, number, drawn["kd_method.alpha"])
                study.settle()
                values[name].append(drawn["kd_method.alpha"])
    assert values["one"] == values["two"] != values["other"]
    assert len(set(values["one"])) == 15


def test_a_folder_belongs_to_one_search(tmp_path):
    study_in(tmp_path).ask()
    study_in(tmp_path, prune=False)  # how it is pruned may change
    for key, value, message in (
        (
            "kd_method.alpha",
            "interval(0,2)",
            r"with kd_method.alpha=interval\(0,1\), this one has kd_method.alpha=inter",
        ),
        ("seed", "3", "with no seed, this one has seed=3; give the same options, or another hydra.sweep.dir"),
        ("~map_k", None, "with no ~map_k, this one has ~map_k;"),
    ):
        with pytest.raises(InputError, match=message):
            study_in(tmp_path, OVERRIDES | {key: value})


def test_the_folder_of_another_sweep_is_refused(tmp_path):
    (tmp_path / "0" / ".hydra").mkdir(parents=True)
    with pytest.raises(InputError, match="holds jobs of another sweep; give the search a hydra.sweep.dir of its own"):
        study_in(tmp_path)
    assert not (tmp_path / STUDY).exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "{\n" + text,
        lambda text: text + '{"op_code": 99, "worker_id": "x"}\n',
        lambda text: text + "[1]\n",
    ],
)
def test_a_damaged_study_is_refused(tmp_path, damage):
    study_in(tmp_path)
    path = tmp_path / STUDY
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError, match="study.journal cannot be read"):
        study_in(tmp_path)


def test_a_study_that_was_cut_says_what_to_remove_and_goes_on_without_it(tmp_path):
    study_in(tmp_path).ask()
    path = tmp_path / STUDY
    cut = path.read_text()[:-20]
    path.write_text(cut)
    with pytest.raises(InputError, match="study.journal ends inside a line.*remove that line"):
        study_in(tmp_path)
    assert path.read_text() == cut
    path.write_text(cut[: cut.rindex("\n") + 1])
    study = study_in(tmp_path)
    study.settle()
    assert study.ask()[0] == 1


@pytest.mark.parametrize(("prune", "expected"), [(True, [True, False]), (False, [True, True])])
def test_a_trial_below_the_median_does_not_go_on_after_the_warm_up(tmp_path, prune, expected):
    study = study_in(tmp_path, prune=prune)
    for value in (0.5, 0.75):
        number, _ = study.ask()
        assert all(report(tmp_path, number, value, epochs) for epochs in (1, 2))
        finish(tmp_path, number, value)
        study.settle()
    number, _ = study.ask()
    assert [report(tmp_path, number, 0.25, epochs) for epochs in (1, 2)] == expected
    number, _ = study.ask()
    assert [report(tmp_path, number, 0.7, epochs) for epochs in (1, 2)] == [True, True]


def test_a_run_whose_trial_was_given_up_ends(tmp_path):
    study = study_in(tmp_path)
    number, _ = study.ask()
    study_in(tmp_path).settle()
    with pytest.raises(RunEnded, match="was begun again without this trial"):
        report(tmp_path, number, 0.5, 1)


def test_a_run_that_is_no_trial_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"trial=3 is for hydra/sweeper=optuna to set: there is no .*study.journal"):
        report(tmp_path, 3, 0.5, 1)
    study_in(tmp_path)
    with pytest.raises(InputError, match="has no trial 3"):
        report(tmp_path, 3, 0.5, 1)


def test_choices_are_tried_as_they_are_written(tmp_path):
    study = Study(
        tmp_path, {"kd_method": "brcd,kl"}, {"kd_method": CategoricalDistribution(["brcd", "kl"])}, 0, PRUNING
    )
    assert {study.ask()[1]["kd_method"] for _ in range(10)} == {"brcd", "kl"}
    assert json.loads((tmp_path / STUDY).read_text().splitlines()[0])["study_name"] == "search"
