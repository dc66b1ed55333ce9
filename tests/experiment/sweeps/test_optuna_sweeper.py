import sys

import pytest
from filelock import FileLock
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from brcd_lightning.config import CONFIG_DIR
from brcd_lightning.errors import InputError
from brcd_lightning.experiment.sweeps.optuna_sweeper import StudySweeper, distribution
from brcd_lightning.experiment.sweeps.study import STUDY
from brcd_lightning.results.run_files import DONE
from conftest import TINY, StartedCommand, run_command
from experiment.sweeps.test_study import finish, rows_of

ALPHA = "kd_method.alpha=interval(0.25,0.75)"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (ALPHA, FloatDistribution(0.25, 0.75)),
        ("kd_method.weight=tag(log,interval(0.1,100))", FloatDistribution(0.1, 100, log=True)),
        ("bits=range(16,65,16)", IntDistribution(16, 64, step=16)),
        ("bits=range(64,15,-16)", IntDistribution(16, 64, step=16)),
        ("data.batch_size=tag(log,range(16,65))", IntDistribution(16, 64, log=True)),
        ("kd_method.alpha=range(0.25,1,0.25)", FloatDistribution(0.25, 0.75, step=0.25)),
        ("kd_method=choice(brcd,kl)", CategoricalDistribution(["brcd", "kl"])),
        ("teacher.backbone.widths=[4,8],[4]", CategoricalDistribution(["[4,8]", "[4]"])),
    ],
)
def test_options_are_searched_as_hydra_writes_them(override, expected):
    assert distribution(OverridesParser.create().parse_override(override)) == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a=tag(fast,interval(0,1))", r"a=tag\(fast,interval\(0,1\)\): the only tag is log, of an interval or a range"),
        ("a=tag(log,choice(1,2))", "the only tag is log"),
        ("a=tag(log,interval(0,1))", "low > 0"),
        ("a=interval(1,0)", "low <= high"),
        ("a=int(interval(0,1))", r"integers are given as range\(first,last\+1\)"),
        ("a=range(3,3)", "the range is empty"),
        ("a=tag(log,range(1,9,2))", "log"),
    ],
)
def test_what_cannot_be_searched_is_refused(override, message):
    with pytest.raises(InputError, match=message):
        distribution(OverridesParser.create().parse_override(override))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "hydra.sweeper.trials must be a positive integer, got 0"),
        ({"seed": -1}, "hydra.sweeper.seed must be an integer of at least 0, got -1"),
        ({"prune": "no"}, "hydra.sweeper.prune must be true or false, got 'no'"),
        ({"startup_trials": None}, "hydra.sweeper.startup_trials must be an integer of at least 0"),
        ({"warmup_epochs": 1.5}, "hydra.sweeper.warmup_epochs must be an integer of at least 0, got 1.5"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        StudySweeper(**{"trials": 3} | options)


class Launcher:
    """Notes what it is given; a job reaches its alpha, and those in `failing` fail."""

    def __init__(self, folder, jobs, failing=()):
        self.folder, self.jobs, self.failing, self.batches = folder, jobs, failing, []

    def launch(self, job_overrides, initial_job_idx):
        self.batches.append((initial_job_idx, job_overrides))
        for number, overrides in enumerate(job_overrides, start=initial_job_idx):
            assert f"trial={number}" in overrides
            (alpha,) = (float(one.partition("=")[2]) for one in overrides if one.startswith("kd_method.alpha="))
            if number not in self.failing:
                finish(self.folder, number, alpha)


@pytest.fixture
def search(tmp_path):
    """Runs a search with a stand-in for the launcher, which it returns."""

    def run(*arguments, jobs=2, failing=(), trials=5, **options):
        hydra = [f"hydra.sweep.dir={tmp_path}", *(one for one in arguments if one.startswith("hydra."))]
        task = [one for one in arguments if not one.startswith("hydra.")]
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            sweeper = StudySweeper(trials, **options)
            sweeper._config = compose("train", overrides=["hydra/sweeper=optuna", *hydra], return_hydra_config=True)
            HydraConfig.instance().set_config(sweeper._config)
            sweeper._loader = GlobalHydra.instance().config_loader()
            sweeper._launcher = Launcher(tmp_path, jobs, failing)
            sweeper.sweep(task)
        return sweeper._launcher

    return run


def test_trials_come_in_batches_with_numbers_that_go_on(search, tmp_path):
    launcher = search(ALPHA, "bits=16")
    assert [(first, len(jobs)) for first, jobs in launcher.batches] == [(0, 2), (2, 2), (4, 1)]
    assert all("bits=16" in job for _, jobs in launcher.batches for job in jobs)
    assert search(ALPHA, "bits=16").batches == []  # they have finished
    assert [first for first, _ in search(ALPHA, "bits=16", trials=6).batches] == [5]
    rows = rows_of(tmp_path)
    assert [row["state"] for row in rows] == ["complete"] * 6
    assert all(row["validation"] == row["kd_method.alpha"] for row in rows)


def test_what_fails_is_made_up_for_by_the_same_command(search, tmp_path):
    assert len(search(ALPHA, failing=(0, 3), jobs=5).batches) == 1
    assert [(first, len(jobs)) for first, jobs in search(ALPHA).batches] == [(5, 2)]
    assert [row["state"] for row in rows_of(tmp_path)].count("fail") == 2


def test_the_best_is_found_sooner_than_by_chance(search, tmp_path):
    search(ALPHA, trials=30, jobs=1)
    tried = [float(row["kd_method.alpha"]) for row in rows_of(tmp_path)]
    assert sum(tried[15:]) / 15 > sum(tried[:10]) / 10 + 0.05


def test_a_space_may_come_from_a_file(search):
    launcher = search("kd_method.delta=0.5", params={"kd_method.alpha": "0.3,0.6", "kd_method.delta": "0.2,0.3"})
    jobs = [job for _, jobs in launcher.batches for job in jobs]
    assert {one for job in jobs for one in job if "trial" not in one} == {
        "kd_method.alpha=0.3",
        "kd_method.alpha=0.6",
        "kd_method.delta=0.5",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bits=16"], "a search needs an option to search, such as 'kd_method.alpha=interval"),
        ([ALPHA, "stage=student"], "a search runs all stages of its trials"),
        ([ALPHA, "dry_run=true"], "leave stage, dry_run and trial as they are"),
        ([ALPHA, "hydra.sweep.subdir=here"], "leave hydra.sweep.subdir as it is"),
        ([ALPHA, "bits=choice(16,0)"], "bits must be a positive integer, got 0"),
    ],
)
def test_a_search_that_cannot_be_leaves_no_study(search, tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        search(*arguments)
    assert not (tmp_path / STUDY).exists()


def test_one_search_at_a_time_in_a_folder(search, tmp_path):
    with FileLock(tmp_path / "study.lock"), pytest.raises(InputError, match="another search runs in"):
        search(ALPHA)


def test_without_optuna_there_is_one_line(search, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "brcd_lightning.experiment.sweeps.study")
    with pytest.raises(InputError, match=r"pip install 'brcd_lightning\[search\]'"):
        search(ALPHA)


@pytest.mark.slow
def test_a_search_in_one_process_goes_on_after_a_trial_that_fails(tmp_path):
    options = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.trials=2", "hydra.sweep.dir=sweep", *TINY]
    divergent = ["optimizer=sgd", "student.learning_rate=1e12", "kd_method.weight=choice(1e12)"]
    done = run_command(*options, *divergent, cwd=tmp_path)
    assert done.stderr.count("the network's weights have diverged") == 2, done.stderr
    assert done.returncode == 2
    assert [row["state"] for row in rows_of(tmp_path / "sweep")] == ["fail", "fail"]
    assert done.stdout.splitlines()[-1] == "No best trial: 2 fail"


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on(tmp_path):
    options = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.trials=2", "hydra.sweep.dir=sweep", *TINY, ALPHA]
    options += ["hydra/launcher=local", "hydra.launcher.jobs=2"]
    process = StartedCommand(*options, cwd=tmp_path)
    process.wait_for((tmp_path / "sweep" / "1" / "console.log").exists)
    process.kill()
    assert not list(tmp_path.glob("sweep/*/DONE"))
    done = run_command(*options, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert [row["state"] for row in rows_of(tmp_path / "sweep")] == ["fail", "fail", "complete", "complete"]
    assert (tmp_path / "sweep" / "3" / DONE).exists()
    assert done.stdout.splitlines()[-1].startswith("python -m brcd_lightning.train dataset=fake trainer=debug bits=16")
    done = run_command(*options[:-3], "kd_method.alpha=interval(0,1)", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "holds a search with kd_method.alpha=interval(0.25,0.75)" in done.stderr
